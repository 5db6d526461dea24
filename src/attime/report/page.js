// Draws the charts for the width and the colours of the moment, sorts the table, copies code.
"use strict";
(() => {
  const { figures, colours } = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // Figures come in light colours; in the dark each colour is exchanged for its partner.
  const themed = (thing) => {
    const text = JSON.stringify(thing);
    return JSON.parse(dark.matches ? text.replace(/#[0-9a-f]{6}/g, (colour) => colours[colour] ?? colour) : text);
  };

  const draw = (place) => {
    const box = document.getElementById(place);
    const chosen = document.querySelector(`input[name="${place}"]:checked`)?.value ?? Object.keys(figures[place])[0];
    const { data, layouts } = figures[place][chosen];
    const room = Math.floor(box.clientWidth);
    const widths = Object.keys(layouts).map(Number).sort((a, b) => a - b);
    const layout = layouts[widths.filter((width) => width <= room).pop() ?? widths[0]];
    Plotly.react(box, themed(data), { ...themed(layout), width: room }, { displayModeBar: false, responsive: false });
    document.getElementById(`${place}-note`).textContent = layout.meta?.note ?? "";
  };

  const places = Object.keys(figures).filter((place) => document.getElementById(place));
  const seen = new Map();
  const watcher = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (seen.get(target.id) !== target.clientWidth) {
        seen.set(target.id, target.clientWidth);
        requestAnimationFrame(() => draw(target.id));
      }
    }
  });
  for (const place of places) {
    document.querySelector(`#${place} .waiting`)?.remove();
    draw(place);
    seen.set(place, document.getElementById(place).clientWidth);
    watcher.observe(document.getElementById(place));
    for (const input of document.querySelectorAll(`input[name="${place}"]`)) {
      input.addEventListener("change", () => draw(place));
    }
  }
  dark.addEventListener("change", () => places.forEach(draw));

  const body = document.querySelector("tbody");
  const heads = [...document.querySelectorAll("thead th")];
  heads.forEach((head, column) => {
    head.querySelector("button")?.addEventListener("click", () => {
      const way = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", way);
      const value = (row) => row.children[column].dataset.value;
      const sign = way === "ascending" ? 1 : -1;
      const rows = [...body.rows].sort((a, b) =>
        (value(a) === "") - (value(b) === "") || sign * (Number(value(a)) - Number(value(b))));
      body.append(...rows);
    });
  });

  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 1600);
      } catch {
        getSelection().selectAllChildren(code); // no clipboard here: one keystroke is left to the reader
      }
    });
  }
})();
