const HEAT = "#ffd23f"; // on pictures of any colours
let current = 0, row = -1;

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
      for (const number of numbers) line.append(tile(number));
      group.append(line);
    }
    box.append(group);
  }
}

function tile(number) {
  const head = heads[number];
  const button = made("button", { type: "button", className: "head", title: head.name + said(head.roles, " (", ")") });
  button.setAttribute("aria-label", head.name);
  button.dataset.number = number;
  const canvas = made("canvas");
  paint(canvas, head);
  button.append(canvas);
  button.addEventListener("click", () => show(number));
  return button;
}

function said(numbers, before, after) {
  const found = Object.entries(numbers).map(([name, value]) => `${name} ${Number(value.toPrecision(2))}`);
  return found.length ? `${before}${found.join(", ")}${after}` : "";
}

function show(number) {
  const before = heads[current];
  current = number;
  const head = heads[current];
  if (row < 0 || row >= head.height || before.rows !== head.rows) row = head.height - 1;
  for (const button of document.querySelectorAll(".head")) button.setAttribute("aria-pressed", button.dataset.number == current);
  byId("map-title").textContent = head.name;
  byId("map-about").textContent = head.site + said(head.roles, ". Does: ", "") + said(head.measures, ". Measured: ", "") + ".";
  pick(row);
}

function pick(number) {
  const head = heads[current];
  row = number;
  drawMap(head, row);
  byId("row-title").textContent = `What “${name(axes[head.rows], row)}” looked at`;
  drawFrames(head);
  drawTokens(head);
}

function name(axis, place) {
  if (!axis.cells || axis.cells[place] < 0) return axis.labels[place];
  const [line, column] = [Math.floor(axis.cells[place] / axis.grid[1]), axis.cells[place] % axis.grid[1]];
  const several = new Set(axis.frames.filter((frame) => frame >= 0)).size > 1;
  return `${several ? `picture ${axis.frames[place]}, ` : ""}line ${line}, column ${column}`;
}

function weightsOf(head) {
  return head.weights.subarray(row * head.width, (row + 1) * head.width);
}

function drawFrames(head) {
  const box = byId("frames"), rows = axes[head.rows], columns = axes[head.columns], weights = weightsOf(head);
  box.replaceChildren();
  const looked = columns.frames && frames.length, asks = rows.frames && frames.length;
  if (!looked && !asks) return;
  const axis = looked ? columns : rows;
  const sums = frames.map(() => 0);
  if (looked) columns.frames.forEach((frame, j) => { if (frame >= 0) sums[frame] += weights[j]; });
  const most = Math.max(...sums, 1e-6);
  const shown = [...new Set(axis.frames.filter((frame) => frame >= 0))];
  for (const number of shown) {
    const button = made("button", { type: "button", className: shown.length > 1 ? "frame" : "frame one" });
    button.setAttribute("aria-label", `frame ${number}, attention ${sums[number].toFixed(3)}`);
    button.setAttribute("aria-current", Boolean(rows.frames && rows.frames[row] === number));
    const picture = made("span", { className: "picture" });
    picture.append(made("img", { src: frames[number], alt: "" }));
    if (axis.grid) picture.append(overlay(head, number, looked));
    button.append(picture);
    if (looked) {
      const bar = made("span", { className: "bar" });
      bar.style.width = `${(100 * sums[number]) / most}%`;
      button.append(bar, `${number}: ${sums[number].toFixed(2)}`);
    } else button.append(String(number));
    button.addEventListener("click", (event) => pickPlace(rows, number, event, picture));
    box.append(button);
  }
}

function overlay(head, number, looked) {
  const axis = looked ? axes[head.columns] : axes[head.rows], weights = weightsOf(head);
  const [lines, wide] = axis.grid, canvas = made("canvas");
  const size = Math.max(1, Math.floor(320 / Math.max(lines, wide)));
  canvas.width = wide * size;
  canvas.height = lines * size;
  const context = canvas.getContext("2d");
  const seen = axis.cells.map((cell, j) => [cell, j]).filter(([cell, j]) => cell >= 0 && axis.frames[j] === number);
  const most = looked ? Math.max(...axis.cells.map((cell, j) => (cell >= 0 ? weights[j] : 0)), 1e-6) : 1;
  context.fillStyle = HEAT;
  if (looked)
    for (const [cell, j] of seen) {
      context.globalAlpha = 0.75 * Math.sqrt(weights[j] / most);
      context.fillRect((cell % wide) * size, Math.floor(cell / wide) * size, size, size);
    }
  const rows = axes[head.rows];
  if (rows.cells && rows.grid && rows.frames[row] === number && rows.cells[row] >= 0) {
    context.globalAlpha = 1;
    const [line, column] = [Math.floor(rows.cells[row] / rows.grid[1]), rows.cells[row] % rows.grid[1]];
    for (const [ink, thick] of [["#000", Math.min(8, size / 6)], ["#fff", Math.min(4, size / 12)]]) {
      context.strokeStyle = ink;
      context.lineWidth = Math.max(2, thick);
      const inset = Math.max(2, Math.min(8, size / 6)) / 2;
      context.strokeRect(column * size + inset, line * size + inset, size - 2 * inset, size - 2 * inset);
    }
  }
  return canvas;
}

function pickPlace(rows, number, event, picture) {
  if (!rows.frames) return;
  let place = rows.frames.indexOf(number);
  if (rows.grid && event.detail) {
    const box = picture.getBoundingClientRect();
    const [line, column] = [
      Math.floor(((event.clientY - box.top) / box.height) * rows.grid[0]),
      Math.floor(((event.clientX - box.left) / box.width) * rows.grid[1]),
    ];
    const cell = line * rows.grid[1] + column;
    const found = rows.frames.findIndex((frame, i) => frame === number && rows.cells[i] === cell);
    place = found >= 0 ? found : place;
  }
  if (place >= 0) pick(place);
}

function drawTokens(head) {
  const rows = axes[head.rows], columns = axes[head.columns], weights = weightsOf(head), box = byId("tokens");
  box.replaceChildren();
  const most = Math.max(...weights, 1e-6);
  columns.labels.forEach((label, j) => {
    if (columns.cells && columns.cells[j] >= 0 && frames.length) return;
    const button = token(label, `${label}: ${weights[j].toFixed(3)}`, head.square && j === row);
    button.style.background = `color-mix(in srgb, var(--accent) ${Math.round((70 * weights[j]) / most)}%, transparent)`;
    if (head.square) button.addEventListener("click", () => pick(j));
    else button.disabled = true;
    box.append(button);
  });
  byId("askers").hidden = head.square || Boolean(rows.cells && frames.length);
  byId("queries").replaceChildren();
  if (byId("askers").hidden) return;
  rows.labels.forEach((label, i) => {
    const button = token(label, label, i === row);
    button.classList.add("query");
    button.addEventListener("click", () => pick(i));
    byId("queries").append(button);
  });
}

function token(label, title, selected) {
  const button = made("button", { type: "button", className: "token", textContent: label, title });
  button.setAttribute("role", "option");
  button.setAttribute("aria-selected", selected);
  return button;
}

byId("map").addEventListener("click", (event) => {
  const canvas = byId("map"), head = heads[current];
  const y = (event.offsetY * canvas.height) / canvas.clientHeight - 14;
  pick(Math.min(head.height - 1, Math.max(0, Math.floor(y / scale(head)[1]))));
});
for (const button of document.querySelectorAll("[data-role]"))
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true", about = byId("role-about");
    about.hidden = !on;
    about.textContent = on ? `${button.dataset.role}: ${button.dataset.about}.` : "";
    for (const other of document.querySelectorAll("[data-role]")) other.setAttribute("aria-pressed", on && other === button);
    for (const head of document.querySelectorAll(".head"))
      head.classList.toggle("faint", on && !(button.dataset.role in heads[head.dataset.number].roles));
  });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { gallery(); show(current); });
gallery();
const moments = (head) => new Set(axes[head.columns].frames || []).size;
show(heads.reduce((best, head, number) => (moments(head) > moments(heads[best]) ? number : best), 0));
