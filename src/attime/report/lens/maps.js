"use strict";
const { heads, axes, frames } = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const made = (name, options) => Object.assign(document.createElement(name), options);

for (const head of heads) {
  const bytes = Uint8Array.from(atob(head.map), (letter) => letter.charCodeAt(0));
  head.weights = Float32Array.from(bytes, (value) => (value / 255) ** 2);
  head.height = axes[head.rows].labels.length;
  head.width = axes[head.columns].labels.length;
  head.name = `${head.part} ${head.kind}, layer ${head.layer}, head ${head.head}`;
  head.square = head.rows === head.columns;
  head.causal = head.square && isCausal(head);
  const received = new Float32Array(head.width), queries = new Float32Array(head.width);
  for (let i = 0; i < head.height; i++)
    for (let j = 0; j < (head.causal ? i + 1 : head.width); j++) {
      received[j] += head.weights[i * head.width + j];
      queries[j] += 1;
    }
  head.sinks = [...received.keys()].filter((j) => 3 * received[j] >= queries[j] && 4 * queries[j] >= head.height);
}

function isCausal(head) {
  for (let i = 0; i < head.height; i++)
    for (let j = i + 1; j < head.width; j++) if (head.weights[i * head.width + j] > 0.01) return false;
  return true;
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function rgb(name) {
  return colour(name).match(/[0-9a-f]{2}/gi).map((two) => parseInt(two, 16));
}

function paint(canvas, head) {
  canvas.width = head.width;
  canvas.height = head.height;
  const [paper, accent, ink] = [rgb("--panel"), rgb("--accent"), rgb("--ink")];
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

function drawMap(head, row) {
  const canvas = byId("map"), small = made("canvas"), [wide, high] = scale(head), gap = 14;
  paint(small, head);
  canvas.width = head.width * wide;
  canvas.height = head.height * high + gap;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, gap, canvas.width, head.height * high);
  context.fillStyle = colour("--alarm");
  const half = Math.min(10, Math.max(4, wide / 2));
  for (const j of head.sinks) {
    const middle = Math.max(half, (j + 0.5) * wide);
    context.beginPath();
    context.moveTo(middle - half, 2);
    context.lineTo(middle + half, 2);
    context.lineTo(middle, gap - 3);
    context.fill();
  }
  context.strokeStyle = colour("--muted");
  context.globalAlpha = 0.35;
  for (const [axis, across] of [[axes[head.columns], true], [axes[head.rows], false]])
    for (const place of starts(axis)) {
      context.beginPath();
      context.moveTo(across ? place * wide : 0, across ? gap : gap + place * high);
      context.lineTo(across ? place * wide : canvas.width, across ? canvas.height : gap + place * high);
      context.stroke();
    }
  context.globalAlpha = 1;
  context.strokeStyle = colour("--alarm");
  context.lineWidth = 2;
  context.strokeRect(1, gap + row * high, canvas.width - 2, high);
  along(head);
}

function scale(head) {
  const size = (count, most) => Math.min(most, Math.max(2, Math.floor(560 / count)));
  return head.square ? [size(head.width, 60), size(head.width, 60)] : [size(head.width, 60), size(head.height, 24)];
}

function starts(axis) {
  return axis.frames ? [...axis.frames.keys()].filter((j) => j && axis.frames[j] !== axis.frames[j - 1]) : [];
}

function along(head) {
  const axis = axes[head.columns], strip = byId("strip"), ticks = byId("ticks");
  const wide = `${head.width * scale(head)[0]}px`;
  for (const box of [strip, ticks]) {
    box.replaceChildren();
    box.style.maxWidth = wide;
  }
  const shown = new Set(axis.frames ? axis.frames.filter((frame) => frame >= 0) : []);
  strip.hidden = shown.size < 2;
  if (!strip.hidden)
    for (const frame of shown) {
      const first = axis.frames.indexOf(frame), last = axis.frames.lastIndexOf(frame);
      const picture = made("img", { src: frames[frame], alt: `frame ${frame}` });
      picture.style.left = `${(100 * first) / head.width}%`;
      picture.style.width = `${(100 * (last + 1 - first)) / head.width}%`;
      strip.append(picture);
    }
  const many = head.width > 8 ? 6 : head.width;
  const words = !axis.frames && (axis.labels[0].endsWith(" s") || head.width <= 8);
  for (let tick = 0; tick < many; tick++) {
    const place = Math.round((tick * (head.width - 1)) / Math.max(1, many - 1));
    const text = words ? axis.labels[place] : String(place);
    const mark = made("span", { textContent: text });
    mark.style.left = `${(100 * (place + (tick || words ? 0.5 : 0))) / head.width}%`;
    ticks.append(mark);
  }
}
