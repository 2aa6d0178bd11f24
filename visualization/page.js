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
  const [red, green, blue] = VIRIDIS[low].map((value, part) => value + (place - low) * (VIRIDIS[low + 1][part] - value));
  return new Uint32Array(Uint8Array.of(red, green, blue, 255).buffer)[0];
});
const MARKS = /([␣⏎⇥]+)/;
const FONT_SIZE = 13, LONGEST_LABEL = 16, TILT = Math.PI / 3, LARGEST_CANVAS = 8192;

const get = (id) => document.getElementById(id);
const maps = JSON.parse(get("data").textContent);
const state = { map: null, layer: AVERAGE, head: AVERAGE, cell: null, matrix: null, top: 1, query: 0, key: 0 };
let frame = { left: 0, top: 0 };

async function unpacked(text, steps) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const whole = new Uint16Array(await new Response(stream).arrayBuffer());
  const weights = new Float32Array(whole.length);
  for (let place = 0; place < whole.length; place++) weights[place] = whole[place] / steps;
  return weights;
}

function weightsOf(map, layer, head) {
  if (layer === ROLLOUT) return map.rollout;
  const size = map.queries.length * map.keys.length;
  const layers = layer === AVERAGE ? [...Array(map.layers).keys()] : [layer];
  const heads = head === AVERAGE ? [...Array(map.heads).keys()] : [head];
  const sum = new Float32Array(size);
  for (const one of layers)
    for (const other of heads) {
      const start = (one * map.heads + other) * size;
      for (let place = 0; place < size; place++) sum[place] += map.weights[start + place];
    }
  const count = layers.length * heads.length;
  for (let place = 0; place < size; place++) sum[place] /= count;
  return sum;
}

function largest(matrix) {
  let most = 1e-6;
  for (const value of matrix) if (value > most) most = value;
  return most;
}

function picture(map, matrix, top, canvas) {
  canvas.width = map.keys.length;
  canvas.height = map.queries.length;
  const image = new ImageData(canvas.width, canvas.height), pixels = new Uint32Array(image.data.buffer);
  for (let place = 0; place < matrix.length; place++)
    pixels[place] = PALETTE[Math.min(255, Math.round((matrix[place] / top) * 255))];
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

const short = (label) => {
  const characters = [...label];
  return characters.length > LONGEST_LABEL ? characters.slice(0, LONGEST_LABEL - 1).join("") + "…" : label;
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

function fitting() {
  const { keys } = state.map;
  const room = get("scroll").clientWidth - 190;
  return Math.max(12, Math.min(34, Math.floor(room / keys.length)));
}

function draw() {
  const { map, matrix, top } = state, { queries, keys } = map;
  const side = state.cell ?? fitting();
  get("zoom").value = side;
  const canvas = get("plot"), context = canvas.getContext("2d"), style = getComputedStyle(document.body);
  const size = Math.min(FONT_SIZE, Math.max(8, side * 0.9));
  const font = `${size}px ${style.fontFamily}`;
  context.font = font;
  const widest = (labels) => Math.max(...labels.map((label) => context.measureText(short(label)).width));
  frame = { left: Math.ceil(widest(queries)) + 14, top: Math.ceil(widest(keys) * Math.sin(TILT)) + 18, side };
  const overhang = Math.ceil(widest(keys.slice(-12)) * Math.cos(TILT)) + 8;
  const width = frame.left + side * keys.length + overhang, height = frame.top + side * queries.length + 2;
  const ratio = Math.min(window.devicePixelRatio || 1, LARGEST_CANVAS / Math.max(width, height));
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  context.scale(ratio, ratio);
  context.imageSmoothingEnabled = false;
  const cells = picture(map, matrix, top, document.createElement("canvas"));
  context.drawImage(cells, frame.left, frame.top, side * keys.length, side * queries.length);
  if (side >= 14) {
    context.strokeStyle = style.backgroundColor;
    context.lineWidth = 1;
    context.beginPath();
    for (let column = 1; column < keys.length; column++) {
      context.moveTo(frame.left + side * column, frame.top);
      context.lineTo(frame.left + side * column, frame.top + side * queries.length);
    }
    for (let row = 1; row < queries.length; row++) {
      context.moveTo(frame.left, frame.top + side * row);
      context.lineTo(frame.left + side * keys.length, frame.top + side * row);
    }
    context.stroke();
  }
  context.font = font;
  context.fillStyle = style.color;
  context.textBaseline = "middle";
  const every = Math.ceil(9 / side);
  queries.forEach((label, row) => {
    if (row % every) return;
    context.save();
    context.translate(frame.left - 7, frame.top + side * (row + 0.5));
    drawLabel(context, label, true);
    context.restore();
  });
  keys.forEach((label, column) => {
    if (column % every) return;
    context.save();
    context.translate(frame.left + side * (column + 0.5), frame.top - 7);
    context.rotate(-TILT);
    drawLabel(context, label, false);
    context.restore();
  });
  leave();
}

const digits = (value) => value.toFixed(4);

function point(query, key) {
  const { map, matrix } = state, { side, left, top } = frame;
  state.query = query;
  state.key = key;
  const weight = matrix[query * map.keys.length + key];
  const said = `${map.queries[query]} → ${map.keys[key]}: ${digits(weight)}`;
  get("said").textContent = said;
  const tip = get("tip");
  tip.textContent = said;
  tip.hidden = false;
  const box = get("box"), row = get("row"), column = get("column");
  Object.assign(box.style, { left: `${left + side * key}px`, top: `${top + side * query}px` });
  Object.assign(row.style, { left: "0px", top: `${top + side * query}px`, width: `${left + side * map.keys.length}px` });
  Object.assign(column.style, { left: `${left + side * key}px`, top: `${top - 6}px`, height: `${side * map.queries.length + 6}px` });
  for (const mark of [box, row, column]) mark.hidden = false;
  box.style.width = column.style.width = `${side}px`;
  box.style.height = row.style.height = `${side}px`;
  const shown = get("scroll"), x = left + side * (key + 1) + 8;
  const fits = x + tip.offsetWidth < shown.scrollLeft + shown.clientWidth;
  tip.style.left = `${fits ? x : Math.max(shown.scrollLeft, left + side * key - tip.offsetWidth - 8)}px`;
  tip.style.top = `${Math.max(0, top + side * query - tip.offsetHeight - 6)}px`;
}

function leave() {
  for (const id of ["tip", "box", "row", "column"]) get(id).hidden = true;
  get("said").textContent = "";
}

function hover(event) {
  const place = get("plot").getBoundingClientRect();
  const key = Math.floor((event.clientX - place.left - frame.left) / frame.side);
  const query = Math.floor((event.clientY - place.top - frame.top) / frame.side);
  const { queries, keys } = state.map;
  if (query >= 0 && key >= 0 && query < queries.length && key < keys.length) point(query, key);
  else leave();
}

function press(event) {
  const { queries, keys } = state.map;
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -1e9], End: [0, 1e9] };
  if (event.key === "Escape") leave();
  if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const [down, right] = get("box").hidden ? [0, 0] : steps[event.key];
  const within = (value, count) => Math.max(0, Math.min(count - 1, value));
  point(within(state.query + down, queries.length), within(state.key + right, keys.length));
  get("box").scrollIntoView({ block: "nearest", inline: "nearest" });
}

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
  grid.append(document.createElement("span"));
  for (const head of columns) grid.append(caption(head === AVERAGE ? "average" : `head ${head + 1}`));
  for (const layer of rows) {
    grid.append(caption(layer === AVERAGE ? "average" : `layer ${layer + 1}`));
    for (const head of columns) {
      const button = document.createElement("button"), canvas = document.createElement("canvas");
      const matrix = weightsOf(map, layer, head);
      picture(map, matrix, get("scale").value === "one" ? 1 : largest(matrix), canvas);
      canvas.className = Math.max(canvas.width, canvas.height) > 90 ? "fine" : "";
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

function show() {
  const { map } = state;
  const rollout = map.rollout ? [[ROLLOUT, "rolled out through all layers"]] : [];
  options(get("layer"), [...several(map.layers, "layer"), ...rollout, ...numbered(map.layers, "layer")], state.layer);
  options(get("head"), [...several(map.heads, "head"), ...numbered(map.heads, "head")], state.head);
  if (state.layer === ROLLOUT) get("head").disabled = true;
  state.matrix = weightsOf(map, state.layer, state.head);
  state.top = get("scale").value === "one" ? 1 : largest(state.matrix);
  get("most").textContent = digits(state.top);
  get("about").textContent = state.layer === ROLLOUT ? map.about_rollout : map.about;
  for (const button of get("grid").querySelectorAll("button"))
    button.setAttribute("aria-pressed", button.dataset.layer === String(state.layer) && button.dataset.head === String(state.head));
  const { queries, keys } = map;
  const named = (id) => get(id).selectedOptions[0].textContent;
  const head = state.layer === ROLLOUT ? "" : `, ${named("head")}`;
  get("view").setAttribute("aria-label", `${map.kind}: ${named("layer")}${head}; ${queries.length} × ${keys.length} tokens`);
  draw();
}

function choose(number) {
  const map = maps[number];
  Object.assign(state, { map, cell: null, query: 0, key: 0 });
  state.layer = map.layers > 1 ? AVERAGE : 0;
  state.head = map.heads > 1 ? AVERAGE : 0;
  overview();
  show();
}

async function start() {
  for (const map of maps) {
    map.weights = await unpacked(map.weights, map.steps);
    map.rollout = map.rollout && (await unpacked(map.rollout, map.steps));
  }
  options(get("map"), maps.map((map, number) => [number, map.kind]), maps.length - 1);
  get("bar").style.background = `linear-gradient(to right, ${VIRIDIS.map((color) => `rgb(${color})`)})`;
  const chosen = (text) => (text === AVERAGE || text === ROLLOUT ? text : Number(text));
  get("map").addEventListener("change", (event) => choose(Number(event.target.value)));
  get("layer").addEventListener("change", (event) => { state.layer = chosen(event.target.value); show(); });
  get("head").addEventListener("change", (event) => { state.head = chosen(event.target.value); show(); });
  get("scale").addEventListener("change", () => { overview(); show(); });
  get("zoom").addEventListener("input", (event) => { state.cell = Number(event.target.value); draw(); });
  get("plot").addEventListener("pointermove", hover);
  get("plot").addEventListener("pointerdown", hover);
  get("plot").addEventListener("pointerleave", leave);
  get("view").addEventListener("keydown", press);
  get("view").addEventListener("blur", leave);
  window.addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  choose(maps.length - 1);
  document.body.dataset.ready = "yes";
}
start().catch((error) => { get("about").textContent = `This browser cannot show the maps: ${error.message}`; });
