// The page of attention maps: it draws, and says the weight under the pointer.
"use strict";
const AVERAGE = "average", ROLLOUT = "rollout";
const VIRIDIS = [
  "440154", "481a6c", "472f7d", "414487", "39568c", "31688e", "2a788e", "23888e",
  "1f988b", "22a884", "35b779", "54c568", "7ad151", "a5db36", "d2e21b", "fde725",
].map((hex) => [0, 2, 4].map((start) => parseInt(hex.slice(start, start + 2), 16)));
const PALETTE = Array.from({ length: 256 }, (_, step) => {
  const place = (step / 255) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(place), VIRIDIS.length - 2);
  return VIRIDIS[low].map((value, part) => Math.round(value + (place - low) * (VIRIDIS[low + 1][part] - value)));
});
const MARKS = /([␣⏎⇥]+)/;
const FONT_SIZE = 13, SMALLEST_FONT = 8, TILT = Math.PI / 3, LARGEST_CANVAS = 8192;
const WINDOW = 64; // tokens a side that are looked at one by one
const SMALLEST = 4, COMFORTABLE = 8, LARGEST = 34; // pixels of a cell
const NARROW = 500; // pixels of a phone
const FRAMED = window.parent !== window;

const get = (id) => document.getElementById(id);
const maps = JSON.parse(get("data").textContent);
const state = { map: null, layer: AVERAGE, head: AVERAGE, from: null, side: null, cells: null, scale: null, row: 0, column: 0 };
let frame = { left: 0, top: 0, side: 1 };

// --- weights

async function unpacked([top, text], steps) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const whole = steps > 255 ? new Uint16Array(buffer) : new Uint8Array(buffer);
  return Float32Array.from(whole, (step) => top * (step / steps) ** 2);
}

async function load(map) {
  for (const view of Object.values(map.views)) {
    const size = { down: map.block[0], across: map.block[1] };
    const all = { ...size, query: 0, key: 0, queries: map.queries.length, keys: map.keys.length };
    if (view.weights) {
      view.top = view.weights[0];
      view.weights = await unpacked(view.weights, map.steps);
      view.cells = pooled(map, view.weights, all);
    } else {
      view.top = view.largest[0];
      view.cells = { ...all, ...counted(all), mean: await unpacked(view.mean, map.steps), largest: await unpacked(view.largest, map.steps) };
    }
  }
}

const counted = ({ queries, keys, down, across }) => ({ rows: Math.ceil(queries / down), columns: Math.ceil(keys / across) });

// Of so many queries and keys from a first one on, the mean and the largest weight of each cell.
function pooled(map, weights, part) {
  const { rows, columns } = counted(part), mean = new Float32Array(rows * columns), largest = new Float32Array(rows * columns);
  const tokens = new Float32Array(rows * columns), width = map.keys.length;
  for (let query = 0; query < part.queries; query++)
    for (let key = 0; key < part.keys; key++) {
      const weight = weights[(part.query + query) * width + part.key + key];
      const cell = Math.floor(query / part.down) * columns + Math.floor(key / part.across);
      mean[cell] += weight;
      tokens[cell] += 1;
      if (weight > largest[cell]) largest[cell] = weight;
    }
  for (let cell = 0; cell < mean.length; cell++) mean[cell] /= tokens[cell];
  return { ...part, rows, columns, mean, largest };
}

const viewOf = (map, layer, head) => map.views[layer === ROLLOUT ? ROLLOUT : `${layer}/${head}`];
const span = (cells, row, column) => ({
  queries: [cells.query + row * cells.down, cells.query + Math.min(cells.queries, (row + 1) * cells.down)],
  keys: [cells.key + column * cells.across, cells.key + Math.min(cells.keys, (column + 1) * cells.across)],
});

// What equal weights on all that a token sees would be: the mean in a cell, and of the seen tokens in it.
function equal(map, cells, row, column) {
  if (!map.sees_left_only) return { mean: 1 / map.keys.length, seen: 1 / map.keys.length };
  const { queries, keys } = span(cells, row, column);
  let mean = 0, seen = 0;
  for (let query = queries[0]; query < queries[1]; query++) {
    mean += Math.max(0, Math.min(keys[1], query + 1) - keys[0]) / (query + 1);
    seen += 1 / (query + 1);
  }
  const count = queries[1] - queries[0];
  return { mean: mean / (count * (keys[1] - keys[0])), seen: seen / count };
}

// Colours: where between 0 and 1 a weight stands, and what the two ends are called.
function scaleOf(map, cells, top) {
  const kind = get("scale").value;
  if (kind !== "uniform") {
    const end = kind === "one" ? 1 : top;
    return { place: (weight) => weight / end, least: "0", most: digits(end) };
  }
  let most = 1.1; // times as much as equal weights
  each(cells, (row, column, cell) => {
    const { mean, seen } = equal(map, cells, row, column);
    if (mean > 0) most = Math.max(most, cells.mean[cell] / mean, cells.largest[cell] / seen);
  });
  const width = 2 * Math.log(most);
  const place = (weight, usual) => (weight > 0 && usual > 0 ? 0.5 + Math.log(weight / usual) / width : 0);
  return { place, least: `1/${times(most)} of equal`, most: `${times(most)} times` };
}

function each(cells, visit) {
  for (let row = 0; row < cells.rows; row++)
    for (let column = 0; column < cells.columns; column++) visit(row, column, row * cells.columns + column);
}

const colourOf = (place) => PALETTE[Math.max(0, Math.min(255, Math.round(place * 255)))];
const digits = (value) => value.toFixed(4);
const times = (value) => value.toPrecision(value < 100 ? 2 : 3);

// A weight as it is known: within half a step.
function said(weight, top) {
  const { steps } = state.map;
  const error = Math.sqrt(weight * top) / steps + top / (4 * steps * steps);
  return error < 5e-5 ? digits(weight) : `${digits(weight)} ± ${error < 1e-4 ? "0.0001" : digits(error)}`;
}

// --- drawing

function thumbnail(map, view, canvas) {
  const { cells } = view, scale = scaleOf(map, cells, view.top);
  canvas.width = cells.columns;
  canvas.height = cells.rows;
  const image = new ImageData(cells.columns, cells.rows);
  each(cells, (row, column, cell) => {
    const place = scale.place(cells.largest[cell], equal(map, cells, row, column).seen);
    image.data.set([...colourOf(place), 255], 4 * cell);
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

const isNarrow = () => document.documentElement.clientWidth < NARROW;

const short = (label) => {
  const characters = [...label], most = isNarrow() ? 8 : 16;
  return characters.length > most ? characters.slice(0, most - 1).join("") + "…" : label;
};

function drawLabel(context, label, right) {
  const parts = short(label).split(MARKS).filter(Boolean);
  let x = right ? -context.measureText(short(label)).width : 0;
  for (const part of parts) {
    context.globalAlpha = MARKS.test(part) ? 0.35 : 1;
    context.fillText(part, x, 0);
    x += context.measureText(part).width;
  }
  context.globalAlpha = 1;
}

// The labels of all cells of a side: a token, or the first of several.
function labelsOf(tokens, start, end, block) {
  const labels = [];
  for (let place = start; place < end; place += block)
    labels.push(block > 1 && place + 1 < end ? `${short(tokens[place])} …` : tokens[place]);
  return labels;
}

function fitting(cells, overhang) {
  const wide = (get("scroll").clientWidth - frame.left - overhang) / cells.columns;
  const above = get("scroll").getBoundingClientRect().top + window.scrollY;
  const high = FRAMED ? Infinity : (window.innerHeight - above - frame.top - 12) / cells.rows;
  return Math.max(SMALLEST, Math.floor(Math.min(LARGEST, wide, Math.max(high, COMFORTABLE))));
}

function draw() {
  const { map, cells, scale } = state;
  const queries = labelsOf(map.queries, cells.query, cells.query + cells.queries, cells.down);
  const keys = labelsOf(map.keys, cells.key, cells.key + cells.keys, cells.across);
  const canvas = get("plot"), context = canvas.getContext("2d"), style = getComputedStyle(document.body);
  const inFont = (size) => { context.font = `${size}px ${style.fontFamily}`; };
  const widest = (labels) => Math.max(...labels.map((label) => context.measureText(short(label)).width));
  const sizeIn = (room) => Math.min(FONT_SIZE, Math.max(SMALLEST_FONT, room * 0.9));
  let overhang, side = 0;
  for (let pass = 0; pass < 2; pass++) { // beside the smallest labels cells are largest, beside those that go with them they fit
    inFont(sizeIn(side));
    overhang = Math.ceil(widest(keys.slice(-12)) * Math.cos(TILT)) + 8;
    frame = { left: Math.ceil(widest(queries)) + 14, top: Math.ceil(widest(keys) * Math.sin(TILT)) + 18 };
    side = frame.side = state.side ?? fitting(cells, overhang);
  }
  get("zoom").value = side;
  const apart = side * Math.sin(TILT); // of the lines that the tilted labels stand on
  const width = frame.left + side * cells.columns + overhang, height = frame.top + side * cells.rows + 2;
  const ratio = Math.min(window.devicePixelRatio || 1, LARGEST_CANVAS / Math.max(width, height));
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  context.scale(ratio, ratio);
  const gap = side >= 14 ? 1 : 0, several = cells.down * cells.across > 1;
  each(cells, (row, column, cell) => {
    const usual = equal(map, cells, row, column), x = frame.left + side * column, y = frame.top + side * row;
    context.fillStyle = `rgb(${colourOf(scale.place(cells.mean[cell], usual.mean))})`;
    context.fillRect(x, y, side - gap, side - gap);
    if (!several) return;
    const inner = Math.max(2, Math.floor(side / 2)), around = Math.floor((side - gap - inner) / 2);
    context.fillStyle = `rgb(${colourOf(scale.place(cells.largest[cell], usual.seen))})`;
    context.fillRect(x + around, y + around, inner, inner);
  });
  context.fillStyle = style.color;
  context.textBaseline = "middle";
  inFont(sizeIn(side));
  queries.forEach((label, row) => {
    if (row % Math.ceil(9 / side)) return;
    context.save();
    context.translate(frame.left - 7, frame.top + side * (row + 0.5));
    drawLabel(context, label, true);
    context.restore();
  });
  inFont(sizeIn(apart));
  keys.forEach((label, column) => {
    if (column % Math.ceil(SMALLEST_FONT / apart)) return;
    context.save();
    context.translate(frame.left + side * (column + 0.5), frame.top - 7);
    context.rotate(-TILT);
    drawLabel(context, label, false);
    context.restore();
  });
  leave();
}

// --- pointing

const named = (tokens, [start, end]) =>
  end - start === 1 ? tokens[start] : `${tokens[start]} … ${tokens[end - 1]} (${start + 1}–${end})`;

function sentence(row, column) {
  const { map, cells, view } = state, { queries, keys } = span(cells, row, column), cell = row * cells.columns + column;
  const usual = equal(map, cells, row, column);
  const isRelative = get("scale").value === "uniform";
  const compared = (weight, to) => (isRelative && to > 0 ? ` = ${times(weight / to)} × equal` : "");
  const figure = (weight, to) => `${said(weight, view.top)}${compared(weight, to)}`;
  const where = `${named(map.queries, queries)} → ${named(map.keys, keys)}`;
  if (cells.down * cells.across === 1) return `${where}: ${figure(cells.mean[cell], usual.mean)}`;
  return `${where}:\nmean ${figure(cells.mean[cell], usual.mean)}, largest ${figure(cells.largest[cell], usual.seen)}`;
}

function point(row, column) {
  const { cells } = state, { side, left, top } = frame;
  Object.assign(state, { row, column });
  const text = sentence(row, column), tip = get("tip");
  get("said").textContent = text.replace("\n", " ");
  tip.textContent = text;
  tip.hidden = false;
  const box = get("box"), across = get("row"), down = get("column");
  Object.assign(box.style, { left: `${left + side * column}px`, top: `${top + side * row}px` });
  Object.assign(across.style, { left: "0px", top: `${top + side * row}px`, width: `${left + side * cells.columns}px` });
  Object.assign(down.style, { left: `${left + side * column}px`, top: `${top - 6}px`, height: `${side * cells.rows + 6}px` });
  for (const mark of [box, across, down]) mark.hidden = false;
  box.style.width = down.style.width = `${side}px`;
  box.style.height = across.style.height = `${side}px`;
  const shown = get("scroll"), x = left + side * (column + 1) + 8, end = shown.scrollLeft + shown.clientWidth;
  const before = left + side * column - tip.offsetWidth - 8;
  const fits = x + tip.offsetWidth < end ? x : before > shown.scrollLeft ? before : end - tip.offsetWidth - 2;
  tip.style.left = `${Math.max(shown.scrollLeft, fits)}px`;
  tip.style.top = `${Math.max(0, top + side * row - tip.offsetHeight - 6)}px`;
}

function leave() {
  for (const id of ["tip", "box", "row", "column"]) get(id).hidden = true;
  get("said").textContent = "";
}

function cellAt(event) {
  const place = get("plot").getBoundingClientRect(), { cells } = state;
  const column = Math.floor((event.clientX - place.left - frame.left) / frame.side);
  const row = Math.floor((event.clientY - place.top - frame.top) / frame.side);
  return row >= 0 && column >= 0 && row < cells.rows && column < cells.columns ? [row, column] : null;
}

function hover(event) {
  const cell = cellAt(event);
  if (cell) point(...cell);
  else leave();
}

function press(event) {
  const { cells } = state;
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -1e9], End: [0, 1e9] };
  if (event.key === "Escape") return state.from && get("box").hidden ? lookAt(null) : leave();
  if (event.key === "Enter" && !get("box").hidden) return look(state.row, state.column);
  if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const [down, right] = get("box").hidden ? [0, 0] : steps[event.key];
  const within = (value, count) => Math.max(0, Math.min(count - 1, value));
  point(within(state.row + down, cells.rows), within(state.column + right, cells.columns));
  get("box").scrollIntoView({ block: "nearest", inline: "nearest" });
}

// Token by token around a cell, where that is known.
function look(row, column) {
  const { map, cells, view } = state;
  if (state.from || !view.weights || cells.down * cells.across === 1) return;
  const { queries, keys } = span(cells, row, column);
  const start = ([first, end], count) => Math.max(0, Math.min(count - WINDOW, Math.round((first + end - WINDOW) / 2)));
  lookAt({ query: start(queries, map.queries.length), key: start(keys, map.keys.length) });
}

function lookAt(from) {
  state.from = from;
  show();
}

// --- choosing

function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, name]) => new Option(name, value, false, String(value) === String(chosen))));
  select.disabled = entries.length === 1;
}

const numbered = (count, name) => Array.from({ length: count }, (_, number) => [number, `${name} ${number + 1}`]);
const several = (count, name) => (count > 1 ? [[AVERAGE, `all ${count} ${name}s, averaged`]] : []);

function overview() {
  const { map } = state, grid = get("grid");
  const rows = [...Array(map.layers).keys(), ...(map.layers > 1 ? [AVERAGE] : [])];
  const columns = [...Array(map.heads).keys(), ...(map.heads > 1 ? [AVERAGE] : [])];
  const name = (place, kind) => (place === AVERAGE ? `${kind}s averaged` : `${kind} ${place + 1}`);
  get("overview").hidden = rows.length * columns.length === 1;
  grid.style.setProperty("--columns", columns.length);
  grid.replaceChildren();
  grid.append(caption("head"));
  for (const head of columns) grid.append(caption(head === AVERAGE ? "all" : `${head + 1}`));
  for (const layer of rows) {
    grid.append(caption(layer === AVERAGE ? "all" : `layer ${layer + 1}`));
    for (const head of columns) {
      const button = document.createElement("button"), canvas = document.createElement("canvas");
      thumbnail(map, viewOf(map, layer, head), canvas);
      button.title = `${name(layer, "layer")}, ${name(head, "head")}`;
      button.setAttribute("aria-label", button.title);
      button.dataset.layer = layer;
      button.dataset.head = head;
      button.append(canvas);
      button.addEventListener("click", () => {
        const value = (text) => (text === AVERAGE ? AVERAGE : Number(text));
        Object.assign(state, { layer: value(button.dataset.layer), head: value(button.dataset.head) });
        show();
        get("view").scrollIntoView({ block: "nearest" });
      });
      grid.append(button);
    }
  }
}

function caption(text) {
  const found = document.createElement("span");
  found.textContent = text;
  return found;
}

// What of the text is drawn, and in what cells; with the way from the whole to a part and back.
function tellGrain() {
  const { map, view, cells } = state, [down, across] = map.block, said = get("grain");
  said.hidden = down * across === 1;
  const block = `A cell holds ${down} × ${across} tokens: its colour is their mean weight, that of the square in it the largest.`;
  if (!state.from) {
    const all = Object.values(map.views), whole = all.filter((one) => one.weights).length;
    const more = view.weights
      ? "Click a cell, or press Enter, to see the tokens around it one by one."
      : `The page, kept below 5 MB, holds ${whole} of ${all.length} choices of layer and head token by token, averages first, and this is none of them.`;
    said.replaceChildren(`${block} ${more}`);
    return;
  }
  const back = document.createElement("button");
  back.textContent = "Show all";
  back.addEventListener("click", () => lookAt(null));
  const part = (first, count, all) => `${first + 1} to ${first + count} of ${all.length}`;
  const rows = part(cells.query, cells.queries, map.queries), columns = part(cells.key, cells.keys, map.keys);
  said.replaceChildren(`Token by token: queries ${rows}, keys ${columns}. `, ...around().map(mover), back);
}

// The parts that lie above, below, left and right of the one that is shown.
function around() {
  const { map, from } = state, half = WINDOW / 2;
  return [["↑", -half, 0], ["↓", half, 0], ["←", 0, -half], ["→", 0, half]].map(([arrow, down, right]) => {
    const within = (value, count) => Math.max(0, Math.min(count - WINDOW, value));
    const query = within(from.query + down, map.queries.length), key = within(from.key + right, map.keys.length);
    return { arrow, to: { query, key }, moves: query !== from.query || key !== from.key };
  });
}

function mover({ arrow, to, moves }) {
  const button = document.createElement("button");
  button.textContent = arrow;
  button.disabled = !moves;
  button.addEventListener("click", () => lookAt(to));
  return button;
}

function show() {
  const { map } = state;
  const rollout = ROLLOUT in map.views ? [[ROLLOUT, "rolled out through all layers"]] : [];
  options(get("layer"), [...several(map.layers, "layer"), ...rollout, ...numbered(map.layers, "layer")], state.layer);
  options(get("head"), [...several(map.heads, "head"), ...numbered(map.heads, "head")], state.head);
  if (state.layer === ROLLOUT) get("head").disabled = true;
  const view = (state.view = viewOf(map, state.layer, state.head)), { queries, keys } = map;
  if (!view.weights) state.from = null;
  const part = state.from && {
    ...state.from, down: 1, across: 1, queries: Math.min(WINDOW, queries.length), keys: Math.min(WINDOW, keys.length),
  };
  state.cells = part ? pooled(map, view.weights, part) : view.cells;
  state.scale = scaleOf(map, state.cells, view.top);
  get("least").textContent = state.scale.least;
  get("most").textContent = state.scale.most;
  get("about").textContent = state.layer === ROLLOUT ? map.about_rollout : map.about;
  get("precision").textContent =
    map.steps > 255 ? "" : "For want of room weights are kept in 255 steps of their square root: to 0.4 % of the map's largest, and small ones to less.";
  for (const button of get("grid").querySelectorAll("button"))
    button.setAttribute("aria-pressed", button.dataset.layer === String(state.layer) && button.dataset.head === String(state.head));
  const chosen = (id) => get(id).selectedOptions[0].textContent;
  const head = state.layer === ROLLOUT ? "" : `, ${chosen("head")}`;
  get("view").setAttribute("aria-label", `${map.kind}: ${chosen("layer")}${head}; ${queries.length} × ${keys.length} tokens`);
  tellGrain();
  draw();
}

function choose(number) {
  const map = maps[number];
  Object.assign(state, { map, from: null, side: null, row: 0, column: 0 });
  state.layer = map.layers > 1 ? AVERAGE : 0;
  state.head = map.heads > 1 ? AVERAGE : 0;
  overview();
  show();
}

async function start() {
  for (const map of maps) await load(map);
  options(get("map"), maps.map((map, number) => [number, map.kind]), maps.length - 1);
  get("bar").style.background = `linear-gradient(to right, ${VIRIDIS.map((color) => `rgb(${color})`)})`;
  const chosen = (text) => (text === AVERAGE || text === ROLLOUT ? text : Number(text));
  get("map").addEventListener("change", (event) => choose(Number(event.target.value)));
  get("layer").addEventListener("change", (event) => { state.layer = chosen(event.target.value); show(); });
  get("head").addEventListener("change", (event) => { state.head = chosen(event.target.value); show(); });
  get("scale").addEventListener("change", () => { overview(); show(); });
  get("zoom").addEventListener("input", (event) => { state.side = Number(event.target.value); draw(); });
  get("plot").addEventListener("pointermove", hover);
  get("plot").addEventListener("pointerdown", hover);
  // a finger leaves where it is lifted; what it touched stays marked
  get("plot").addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") leave(); });
  get("plot").addEventListener("click", (event) => { const cell = cellAt(event); if (cell) look(...cell); });
  get("view").addEventListener("keydown", press);
  get("view").addEventListener("blur", leave);
  window.addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  choose(maps.length - 1);
  document.body.dataset.ready = "yes";
  // a frame is given the height of what is in it by the page around
  if (FRAMED) new ResizeObserver(() => window.parent.postMessage({ attentionHeight: document.documentElement.offsetHeight }, "*")).observe(document.body);
}
start().catch((error) => { get("about").textContent = `This browser cannot show the maps: ${error.message}`; });
