/* A cell of the matrix tells everything in a dialog over it; its link is that of the cell's own page. */
"use strict";
(() => {
  const dialog = document.getElementById("about");
  const place = document.getElementById("about-cell");
  const page = dialog?.querySelector("a");
  if (!dialog?.showModal) return;
  let asked = "";

  // What cannot be told here (no session, no database, a node that is gone) is told by the page.
  const leave = () => { if (dialog.open) location.assign(asked); };

  document.getElementById("main").addEventListener("click", (event) => {
    const link = event.target.closest(".cell a");
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    asked = link.href;
    page.href = link.href;
    dialog.setAttribute("aria-label", link.querySelector(".unseen").textContent);
    place.textContent = "Reading…";
    dialog.showModal();
    htmx.ajax("GET", link.getAttribute("href"), { source: place, target: place, select: "#cell", swap: "innerHTML" })
      .catch(leave);
  });
  place.addEventListener("htmx:error", (event) => { if (event.target === place) leave(); });
  place.addEventListener("htmx:response:error", (event) => { if (event.target === place) leave(); });
  // Else its news would be asked for while nobody sees it.
  dialog.addEventListener("close", () => place.replaceChildren());
})();
