/* Removals and time to heal, drawn by uPlot; the same numbers are a table below. */
"use strict";
(() => {
  const EVERY_MS = 5000;
  const box = document.getElementById("charts");
  if (!box || !window.uPlot) return;
  let data = null;
  let plots = [];
  let timer = null;

  // A custom property with light-dark() is not resolved: an element that has it as its colour says it.
  function resolved(name) {
    const probe = document.createElement("i");
    probe.className = name;
    box.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }

  const two = (number) => String(number).padStart(2, "0");
  const clock = (at) => `${two(at.getHours())}:${two(at.getMinutes())}`;
  const day = (at) => `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const inZone = (at) => localStorage.getItem("times") === "utc"
    ? uPlot.tzDate(new Date(at * 1e3), "Etc/UTC") : new Date(at * 1e3);

  // Times as everywhere on the page; the day where it begins.
  function ticks(_, times) {
    const shown = times.map(inZone);
    return shown.map((at, index) => index > 0 && day(shown[index - 1]) === day(at) ? clock(at) : `${clock(at)}\n${day(at)}`);
  }

  function options(title, series, height, steps) {
    const axis = { stroke: resolved("axis"), grid: { stroke: resolved("grid"), width: 1 }, ticks: { show: false } };
    return {
      title, height, width: box.clientWidth, tzDate: inZone,
      cursor: { y: false, drag: { x: false, y: false } },
      scales: { y: { range: (_, low, high) => [0, Math.max(high * 1.1, 1)] } },
      axes: [{ ...axis, values: ticks }, { ...axis, size: 52, ...(steps && { incrs: steps }) }],
      series: [{ value: (_, at) => at === null ? "" : `${day(inZone(at))} ${clock(inZone(at))}` }, ...series],
    };
  }

  function draw() {
    plots.forEach((plot) => plot.destroy());
    box.replaceChildren();
    const seconds = (_, value) => value === null || value === undefined ? "–" : `${value} s`;
    const line = (label, name, more) => ({
      label, stroke: resolved(name), value: seconds, points: { show: true, size: 6, fill: resolved(name) }, ...more,
    });
    const bars = {
      label: "Removals", stroke: resolved("removals"), fill: resolved("removals"),
      paths: uPlot.paths.bars({ size: [0.8, 40] }), points: { show: false },
    };
    const first = new uPlot(options("Removals", [bars], 170, [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]), [data.times, data.removals], box);
    const second = new uPlot(options("Seconds from a rejected task to its removal, and until it runs again",
      [line("Removed (median)", "healed"), line("Slowest", "slowest", { width: 0 }), line("Runs again", "running")], 170),
      [data.times, data.healed, data.slowest, data.running], box);
    plots = [first, second];
    for (const plot of plots) plot.root.classList.add("chart");
    box.setAttribute("role", "img");
    const total = data.removals.reduce((sum, each) => sum + each, 0);
    box.setAttribute("aria-label", `${total} removals in this period; the table below has all numbers.`);
  }

  async function load() {
    try {
      const answer = await fetch(box.dataset.src, { headers: { Accept: "application/json" } });
      if (!answer.ok) return;
      data = await answer.json();
      draw();
    } catch { /* The page says that the connection is lost. */ }
  }

  document.addEventListener("part", (event) => {
    if (event.detail !== "audit" || timer) return;
    timer = setTimeout(() => { timer = null; load(); }, data ? EVERY_MS : 0);
  });
  document.addEventListener("zone", () => data && draw());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => data && draw());
  let width = box.clientWidth;
  addEventListener("resize", () => {
    if (box.clientWidth === width || !data) return;
    width = box.clientWidth;
    plots.forEach((plot) => plot.setSize({ width, height: 170 }));
  });
  load();
})();
