"use strict";
const { heads, axes, frames } = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const made = (name, options) => Object.assign(document.createElement(name), options);
let current = 0, row = -1;

for (const head of heads) {
  const bytes = Uint8Array.from(atob(head.map), (letter) => letter.charCodeAt(0));
  head.weights = Float32Array.from(bytes, (value) => (value / 255) ** 2);
  head.height = axes[head.rows].labels.length;
  head.width = axes[head.columns].labels.length;
  head.name = `${head.part} ${head.kind}, layer ${head.layer}, head ${head.head}`;
  head.received = new Float32Array(head.width);
  const queries = new Float32Array(head.width);
  const square = head.rows === head.columns;
  for (let i = 0; i < head.height; i++)
    for (let j = 0; j < head.width; j++)
      if (!square || !causal(head) || j <= i) {
        head.received[j] += head.weights[i * head.width + j];
        queries[j] += 1;
      }
  head.received = head.received.map((sum, j) => sum / Math.max(1, queries[j]));
  head.sinks = [...head.received.keys()].filter((j) => head.received[j] >= 1 / 3 && 4 * queries[j] >= head.height);
}

function causal(head) {
  if (head.causal === undefined) {
    head.causal = head.rows === head.columns;
    for (let i = 0; i < head.height && head.causal; i++)
      for (let j = i + 1; j < head.width; j++)
        if (head.weights[i * head.width + j] > 0.01) { head.causal = false; break; }
  }
  return head.causal;
}

function inks() {
  const style = getComputedStyle(document.documentElement);
  const rgb = (name) => style.getPropertyValue(name).trim().match(/[0-9a-f]{2}/gi).map((two) => parseInt(two, 16));
  return [rgb("--panel"), rgb("--accent"), rgb("--ink")];
}

function paint(canvas, head) {
  canvas.width = head.width;
  canvas.height = head.height;
  const [paper, accent, ink] = inks();
  const context = canvas.getContext("2d");
  const image = context.createImageData(head.width, head.height);
  head.weights.forEach((weight, place) => {
    const depth = Math.sqrt(weight);
    for (let channel = 0; channel < 3; channel++) {
      const half = depth < 0.5;
      const [low, high] = half ? [paper[channel], accent[channel]] : [accent[channel], ink[channel]];
      image.data[4 * place + channel] = low + (high - low) * (half ? 2 * depth : 2 * depth - 1);
    }
    image.data[4 * place + 3] = 255;
  });
  context.putImageData(image, 0, 0);
}

function gallery() {
  const box = byId("heads");
  box.replaceChildren();
  const groups = new Map();
  heads.forEach((head, number) => {
    const name = `${head.part} ${head.kind}`;
    if (!groups.has(name)) groups.set(name, new Map());
    const layers = groups.get(name);
    if (!layers.has(head.layer)) layers.set(head.layer, []);
    layers.get(head.layer).push(number);
  });
  for (const [name, layers] of groups) {
    const group = made("div", { className: "group" });
    group.append(made("h3", { textContent: name }));
    for (const [layer, numbers] of layers) {
      const line = made("div", { className: "layer" });
      line.append(made("span", { textContent: layer }));
      for (const number of numbers) {
        const head = heads[number];
        const button = made("button", { type: "button", className: "head", title: head.name + roles(head) });
        button.setAttribute("aria-label", head.name);
        button.dataset.number = number;
        const canvas = made("canvas");
        paint(canvas, head);
        button.append(canvas);
        button.addEventListener("click", () => show(number));
        line.append(button);
      }
      group.append(line);
    }
    box.append(group);
  }
}

function roles(head) {
  const found = Object.entries(head.roles).map(([name, value]) => `${name} ${value.toFixed(2)}`);
  return found.length ? ` (${found.join(", ")})` : "";
}

function show(number) {
  const before = heads[current];
  current = number;
  const head = heads[current];
  if (row < 0 || row >= head.height || before.rows !== head.rows) row = head.height - 1;
  for (const button of document.querySelectorAll(".head")) button.setAttribute("aria-pressed", button.dataset.number == current);
  byId("map-title").textContent = head.name;
  byId("map-about").textContent = head.site + roles(head);
  drawMap();
  drawRow();
}

function scale(head) {
  return Math.max(2, Math.floor(560 / Math.max(head.height, head.width)));
}

function drawMap() {
  const head = heads[current], size = scale(head), gap = 14;
  const small = made("canvas");
  paint(small, head);
  const canvas = byId("map");
  canvas.width = head.width * size;
  canvas.height = head.height * size + gap;
  const context = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, gap, head.width * size, head.height * size);
  context.fillStyle = style.getPropertyValue("--alarm");
  for (const j of head.sinks) {
    context.beginPath();
    context.moveTo(j * size, 2);
    context.lineTo((j + 1) * size, 2);
    context.lineTo((j + 0.5) * size, gap - 3);
    context.fill();
  }
  context.strokeStyle = style.getPropertyValue("--muted");
  context.globalAlpha = 0.35;
  for (const [axis, across] of [[axes[head.columns], true], [axes[head.rows], false]]) {
    if (!axis.frames) continue;
    axis.frames.forEach((frame, place) => {
      if (!place || frame === axis.frames[place - 1]) return;
      context.beginPath();
      context.moveTo(across ? place * size : 0, across ? gap : gap + place * size);
      context.lineTo(across ? place * size : canvas.width, across ? canvas.height : gap + place * size);
      context.stroke();
    });
  }
  context.globalAlpha = 1;
  context.strokeStyle = style.getPropertyValue("--alarm");
  context.lineWidth = 2;
  context.strokeRect(0, gap + row * size, canvas.width, size);
}

function drawRow() {
  const head = heads[current];
  const weights = head.weights.subarray(row * head.width, (row + 1) * head.width);
  const rows = axes[head.rows], columns = axes[head.columns];
  byId("row-title").textContent = `What “${rows.labels[row]}” looked at`;
  const box = byId("frames");
  box.replaceChildren();
  if (columns.frames && frames.length) {
    const sums = frames.map(() => 0);
    columns.frames.forEach((frame, j) => { if (frame >= 0) sums[frame] += weights[j]; });
    const most = Math.max(...sums, 1e-6);
    frames.forEach((picture, number) => {
      const button = made("button", { type: "button", className: "frame" });
      button.setAttribute("aria-label", `frame ${number}, attention ${sums[number].toFixed(3)}`);
      button.setAttribute("aria-current", Boolean(rows.frames && rows.frames[row] === number));
      const bar = made("span", { className: "bar" });
      bar.style.width = `${(100 * sums[number]) / most}%`;
      button.append(made("img", { src: picture, alt: "" }), bar, `${number}: ${sums[number].toFixed(2)}`);
      button.addEventListener("click", () => {
        const first = rows.frames ? rows.frames.indexOf(number) : -1;
        if (first >= 0) pick(first);
      });
      box.append(button);
    });
  }
  const tokens = byId("tokens");
  tokens.replaceChildren();
  const most = Math.max(...weights, 1e-6);
  columns.labels.forEach((label, j) => {
    const button = made("button", { type: "button", className: "token", textContent: label });
    button.setAttribute("role", "option");
    button.setAttribute("aria-selected", head.rows === head.columns && j === row);
    button.title = `${label}: ${weights[j].toFixed(3)}`;
    button.style.background = `color-mix(in srgb, var(--accent) ${Math.round((70 * weights[j]) / most)}%, transparent)`;
    button.addEventListener("click", () => { if (head.rows === head.columns) pick(j); });
    tokens.append(button);
  });
  if (head.rows !== head.columns) {
    rows.labels.forEach((label, i) => {
      if (!i) tokens.append(made("hr", { style: "flex-basis: 100%; border: 0; margin: 4px 0" }));
      const button = made("button", { type: "button", className: "token query", textContent: label });
      button.setAttribute("role", "option");
      button.setAttribute("aria-selected", i === row);
      button.addEventListener("click", () => pick(i));
      tokens.append(button);
    });
  }
}

function pick(number) {
  row = number;
  drawMap();
  drawRow();
}

byId("map").addEventListener("click", (event) => {
  const canvas = byId("map"), head = heads[current];
  const y = (event.offsetY * canvas.height) / canvas.clientHeight - 14;
  pick(Math.min(head.height - 1, Math.max(0, Math.floor(y / scale(head)))));
});
for (const button of document.querySelectorAll("[data-role]"))
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    for (const other of document.querySelectorAll("[data-role]")) other.setAttribute("aria-pressed", on && other === button);
    for (const head of document.querySelectorAll(".head"))
      head.classList.toggle("faint", on && !(button.dataset.role in heads[head.dataset.number].roles));
  });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { gallery(); show(current); });
gallery();
show(Math.max(0, heads.findIndex((head) => axes[head.columns].frames)));
