/* Times in the person's zone, and news: sections of a page are asked for again when what they show changes. */
"use strict";
(() => {
  const QUIET_MS = 10000; // The server says something every 4 s: after this the connection is lost.
  const FIRST_RETRY_MS = 1000;
  const LAST_RETRY_MS = 8000;

  /* ---- times ---- */
  const zone = document.getElementById("zone");
  let inUtc = localStorage.getItem("times") === "utc";
  const two = (number) => String(number).padStart(2, "0");

  function clock(at, withDate) {
    const [get, day] = inUtc
      ? [(part) => at["getUTC" + part](), at.toISOString().slice(0, 10)]
      : [(part) => at["get" + part](), `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`];
    const time = `${two(get("Hours"))}:${two(get("Minutes"))}:${two(get("Seconds"))}`;
    return (withDate ? `${day} ${time}` : time) + (inUtc ? " UTC" : "");
  }

  function ago(at) {
    const seconds = Math.round((Date.now() - at) / 1000);
    const size = Math.abs(seconds);
    const text = size < 100 ? `${size} s` : size < 6000 ? `${Math.round(size / 60)} min`
      : size < 172800 ? `${Math.round(size / 3600)} h` : `${Math.round(size / 86400)} days`;
    return seconds < 0 ? `in ${text}` : `${text} ago`;
  }

  function tell(root, only) {
    for (const time of root.querySelectorAll(only || "time[datetime]")) {
      const at = new Date(time.dateTime);
      const text = time.dataset.form === "ago" ? ago(at) : clock(at, time.dataset.form !== "time");
      if (time.textContent !== text) time.textContent = text;
    }
  }

  function showZone() {
    if (!zone) return;
    const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
    zone.hidden = false;
    zone.textContent = inUtc ? `Times in UTC. Show ${name}` : `Times of ${name}. Show UTC`;
  }

  if (zone) zone.addEventListener("click", () => {
    inUtc = !inUtc;
    localStorage.setItem("times", inUtc ? "utc" : "own");
    showZone();
    tell(document);
    document.dispatchEvent(new CustomEvent("zone"));
  });
  showZone();
  tell(document);
  setInterval(() => tell(document, "time[data-form=ago]"), 1000);
  document.addEventListener("htmx:after:swap", () => tell(document));

  /* ---- news ---- */
  const live = document.getElementById("live");
  if (!live) return;
  const seen = JSON.parse(live.dataset.marks);
  const sections = new Map(); // By id: when it was last asked for, and the timer of the next time.
  let connection = null;
  let heard = Date.now();
  let known = heard; // When the server last said something, and not that it does not know.
  let retry = FIRST_RETRY_MS;

  function say(state, text, link) {
    if (live.dataset.state === state) return;
    live.dataset.state = state;
    const span = document.createElement("span");
    span.textContent = text;
    if (link) {
      const anchor = document.createElement("a");
      anchor.href = `/login?why=ended&next=${encodeURIComponent(location.pathname + location.search)}`;
      anchor.textContent = link;
      span.append(" ", anchor);
    }
    live.replaceChildren(span);
    date();
  }

  // What was true is not to look as if it still were.
  function date() {
    const past = live.dataset.state !== "live" && live.dataset.state !== "still";
    for (const verdict of document.querySelectorAll(".verdict")) {
      verdict.classList.toggle("past", past);
      verdict.querySelector(".asof")?.remove();
      if (!past) continue;
      const note = document.createElement("small");
      note.className = "asof";
      note.textContent = `as of ${clock(new Date(known), false)}, and not known since`;
      verdict.append(note);
    }
  }
  document.addEventListener("htmx:after:swap", date);

  const lost = () => {
    if (live.dataset.state !== "ended") say("lost", `Connection lost at ${clock(new Date(), false)}. Trying again.`);
  };
  const ended = () => say("ended", "Your session has ended.", "Log in");

  function refresh(section) {
    const state = sections.get(section.id) || { at: 0, timer: null };
    sections.set(section.id, state);
    if (state.timer) return;
    const wait = Math.max(0, state.at + Number(section.dataset.every) - Date.now());
    state.timer = setTimeout(() => {
      state.timer = null;
      state.at = Date.now();
      const now = document.getElementById(section.id);
      if (now) htmx.trigger(now, "refresh");
    }, wait);
  }

  for (const part of Object.keys(seen)) {
    live.addEventListener(part, (event) => {
      if (event.detail.data === seen[part]) return;
      seen[part] = event.detail.data;
      document.dispatchEvent(new CustomEvent("part", { detail: part }));
      for (const section of document.querySelectorAll(`[data-live~="${part}"]`)) refresh(section);
    });
  }
  live.addEventListener("end", (event) => {
    if (JSON.parse(event.detail.data).type === "/problems/unauthenticated") ended();
  });
  live.addEventListener("away", (event) => say("away", event.detail.data));
  live.addEventListener("beat", () => {
    known = Date.now();
    if (live.dataset.state === "away") say("live", "Live");
  });
  live.addEventListener("htmx:sse:before:message", () => { heard = Date.now(); });
  live.addEventListener("htmx:sse:before:connection", (event) => {
    connection = event.detail.connection;
    if (live.dataset.state === "ended") event.preventDefault();
    else if (connection.attempt > 0 && !document.hidden) lost();
  });
  live.addEventListener("htmx:sse:after:connection", (event) => {
    heard = Date.now();
    retry = FIRST_RETRY_MS;
    if (event.detail.connection.status !== 200) return;
    known = heard;
    say("live", "Live");
  });
  live.addEventListener("htmx:sse:error", (event) => {
    if (event.detail.status === 401) ended();
    else lost();
  });
  // The extension tries again only after a connection that it once had.
  function again(event) {
    if (event.target.matches?.("[data-live]")) setTimeout(() => refresh(event.target), FIRST_RETRY_MS);
    if (event.target !== live) return;
    if (event.detail.ctx?.response?.status === 401) return ended();
    lost();
    setTimeout(() => htmx.trigger(live, "connect"), retry);
    retry = Math.min(LAST_RETRY_MS, retry * 2);
  }
  document.addEventListener("htmx:error", again);
  document.addEventListener("htmx:response:error", again);
  // A connection that died without a word.
  setInterval(() => {
    if (["live", "away"].includes(live.dataset.state) && !document.hidden && Date.now() - heard > QUIET_MS) {
      lost();
      connection?.reader?.cancel();
    }
  }, 1000);
})();
