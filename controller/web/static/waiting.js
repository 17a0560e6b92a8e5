/* Asks again until the controller has started, or waits for something else. */
"use strict";
(() => {
  const EVERY_MS = 2000;
  const TIMEOUT_MS = 5000;
  const asked = document.getElementById("asked");
  const status = document.querySelector("#waiting [role=status]");

  async function ask() {
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(TIMEOUT_MS) });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const now = page.querySelector("#waiting [role=status]");
      if (!now) return location.reload();
      if (now.textContent !== status.textContent) status.replaceChildren(...now.childNodes);
      asked.textContent = "This page does so every 2 seconds.";
    } catch {
      asked.textContent = "Nobody answers at the moment.";
    }
    setTimeout(ask, EVERY_MS);
  }
  setTimeout(ask, EVERY_MS);
})();
