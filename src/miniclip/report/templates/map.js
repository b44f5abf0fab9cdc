"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const canvas = document.getElementById("map"), pen = canvas.getContext("2d");
const count = data.x.length, perSheet = data.columns * data.columns;
const hue = (cluster) => (cluster * 137.508) % 360; // the golden angle keeps neighbours apart
const colour = (cluster) => cluster < 0 ? "hsl(0 0% 55%)" : `hsl(${hue(cluster)} 65% 50%)`;
const sheets = SHEETS.map((uri) => { const sheet = new Image(); sheet.onload = draw; sheet.src = uri; return sheet; });
const view = { x: 0.5, y: 0.5, zoom: 1 };
let picked = -1, hovered = -1, chosen = -1, keyboard = false;

// The order of a walk: group by group, and in a group from left to right.
const walk = [...data.x.keys()].sort((a, b) =>
  (data.cluster[a] + count) % count - (data.cluster[b] + count) % count || data.x[a] - data.x[b]);

function size() { return { w: canvas.clientWidth, h: canvas.clientHeight }; }
function least() { const { w, h } = size(); return Math.min(w, h); }
function first() { return Math.min(Math.max(0.75 * least() / Math.sqrt(Math.max(count, 1)), 5), 1.5 * data.tile); }
// When all is shown, half a thumbnail and its frame have room beyond the outermost places.
function scale() { return Math.min(0.92 * least(), least() - first() - 8) * view.zoom; }
function toScreen(x, y) { const { w, h } = size(), s = scale(); return [(x - view.x) * s + w / 2, (y - view.y) * s + h / 2]; }
function toMap(px, py) { const { w, h } = size(), s = scale(); return [(px - w / 2) / s + view.x, (py - h / 2) / s + view.y]; }
function side() { // thumbnails grow slower than the map, so that coming closer separates them
  return Math.min(first() * view.zoom ** 0.75, 1.5 * data.tile);
}

function draw() {
  const { w, h } = size(), ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
    canvas.width = Math.round(w * ratio); canvas.height = Math.round(h * ratio);
  }
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, w, h);
  const s = side();
  for (let i = 0; i < count; i++) if (i !== picked && i !== hovered) tile(i, s, w, h);
  labels(w, h);
  if (picked >= 0) tile(picked, Math.max(s, 40), w, h);
  if (hovered >= 0 && hovered !== picked) tile(hovered, Math.max(s, 40), w, h);
}

function tile(i, s, w, h) {
  const [x, y] = toScreen(data.x[i], data.y[i]);
  if (x < -s || y < -s || x > w + s || y > h + s) return;
  const marked = i === picked || i === hovered, faint = chosen >= 0 && data.cluster[i] !== chosen && !marked;
  const edge = marked ? 3 : s > 14 ? 1.5 : 0;
  pen.globalAlpha = faint ? 0.18 : 1;
  pen.fillStyle = colour(data.cluster[i]);
  pen.fillRect(x - s / 2 - edge, y - s / 2 - edge, s + 2 * edge, s + 2 * edge);
  paint(pen, i, x - s / 2, y - s / 2, s);
  pen.globalAlpha = 1;
}

function paint(onto, i, x, y, s) {
  const sheet = sheets[Math.floor(i / perSheet)], place = i % perSheet, t = data.tile;
  if (!sheet.complete || !sheet.naturalWidth) return;
  onto.drawImage(sheet, place % data.columns * t, Math.floor(place / data.columns) * t, t, t, x, y, s, s);
}

function labels(w, h) {
  const style = getComputedStyle(document.body), taken = [];
  pen.font = `600 13px ${style.fontFamily}`; pen.textAlign = "center"; pen.textBaseline = "middle";
  data.clusters.forEach((cluster, number) => {
    if (chosen >= 0 && number !== chosen) return;
    const [x, y] = toScreen(cluster.x, cluster.y), half = pen.measureText(cluster.name).width / 2 + 8;
    if (x + half < 0 || x - half > w || y < 0 || y > h) return;
    if (taken.some(([tx, ty, th]) => Math.abs(tx - x) < th + half && Math.abs(ty - y) < 24)) return;
    taken.push([x, y, half]);
    pen.globalAlpha = 0.88; pen.fillStyle = style.getPropertyValue("--card");
    pen.beginPath(); pen.roundRect(x - half, y - 11, 2 * half, 22, 6); pen.fill();
    pen.globalAlpha = 1; pen.strokeStyle = colour(number); pen.lineWidth = 1.5; pen.stroke();
    pen.fillStyle = style.getPropertyValue("--ink"); pen.fillText(cluster.name, x, y);
  });
}

function zoomBy(factor, px, py) {
  const { w, h } = size(), [x, y] = [px ?? w / 2, py ?? h / 2], before = toMap(x, y);
  view.zoom = Math.min(Math.max(view.zoom * factor, 0.5), 400);
  const after = toMap(x, y);
  view.x += before[0] - after[0]; view.y += before[1] - after[1];
  draw();
}
function showAll() { Object.assign(view, { x: 0.5, y: 0.5, zoom: 1 }); choose(-1); }

function choose(cluster) {
  chosen = cluster;
  for (const button of document.querySelectorAll("[data-cluster]"))
    button.setAttribute("aria-pressed", String(Number(button.dataset.cluster) === cluster));
  draw();
}
function goTo(cluster) {
  const xs = [], ys = [];
  for (let i = 0; i < count; i++) if (data.cluster[i] === cluster) { xs.push(data.x[i]); ys.push(data.y[i]); }
  const low = [Math.min(...xs), Math.min(...ys)], high = [Math.max(...xs), Math.max(...ys)];
  view.x = (low[0] + high[0]) / 2; view.y = (low[1] + high[1]) / 2;
  view.zoom = Math.min(0.8 / Math.max(high[0] - low[0], high[1] - low[1], 0.02), 40);
  choose(cluster);
}

function nearest(px, py) {
  const reach = Math.max(side() * 0.75, 10);
  let best = -1, least = reach * reach;
  for (let i = 0; i < count; i++) {
    const [x, y] = toScreen(data.x[i], data.y[i]), d = (x - px) ** 2 + (y - py) ** 2;
    if (d <= least) { least = d; best = i; }
  }
  return best;
}
function pick(i) {
  picked = i;
  const box = document.getElementById("picked");
  box.replaceChildren();
  if (i < 0) { box.textContent = "Point at one, or press n."; draw(); return; }
  const small = document.createElement("canvas");
  small.width = small.height = data.tile;
  paint(small.getContext("2d"), i, 0, 0, data.tile);
  const name = document.createElement(data.link[i] ? "a" : "span");
  name.textContent = data.name[i]; // never as HTML: a file may be called anything
  if (data.link[i]) name.href = data.link[i];
  const group = document.createElement("div");
  group.textContent = data.cluster[i] < 0 ? "in no group" : data.clusters[data.cluster[i]].name;
  const caption = document.createElement("div");
  caption.textContent = data.caption[i];
  box.append(small, name, caption, group);
  draw();
}
function step(by) {
  const at = picked < 0 ? (by > 0 ? -1 : 0) : walk.indexOf(picked), i = walk[(at + by + count) % count];
  view.x = data.x[i]; view.y = data.y[i]; view.zoom = Math.max(view.zoom, 3);
  pick(i);
}

const KEYS = {
  ArrowLeft: () => { view.x -= 0.1 / view.zoom; }, ArrowRight: () => { view.x += 0.1 / view.zoom; },
  ArrowUp: () => { view.y -= 0.1 / view.zoom; }, ArrowDown: () => { view.y += 0.1 / view.zoom; },
  "+": () => zoomBy(1.3), "=": () => zoomBy(1.3), "-": () => zoomBy(1 / 1.3), "0": showAll, Home: showAll,
  n: () => step(1), p: () => step(-1), Escape: () => { choose(-1); pick(-1); },
};
canvas.addEventListener("keydown", (event) => {
  const act = KEYS[event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault(); act(); draw();
});
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.offsetX, event.offsetY);
}, { passive: false });

const fingers = new Map();
let moved = 0;
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId); moved = 0;
  fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
});
canvas.addEventListener("pointermove", (event) => {
  const old = fingers.get(event.pointerId), now = [event.offsetX, event.offsetY];
  if (!old) { const i = nearest(...now); if (i !== hovered) { hovered = i; canvas.title = i < 0 ? "" : data.name[i]; draw(); } return; }
  const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
  fingers.set(event.pointerId, now);
  moved += Math.hypot(now[0] - old[0], now[1] - old[1]);
  if (other) { // two fingers: the one that rests is the centre
    zoomBy(Math.hypot(now[0] - other[0], now[1] - other[1]) / Math.max(Math.hypot(old[0] - other[0], old[1] - other[1]), 1), ...other);
  } else { view.x -= (now[0] - old[0]) / scale(); view.y -= (now[1] - old[1]) / scale(); draw(); }
});
const lift = (event) => { fingers.delete(event.pointerId); };
canvas.addEventListener("pointerup", (event) => { lift(event); if (moved < 4) pick(nearest(event.offsetX, event.offsetY)); });
canvas.addEventListener("pointercancel", lift);
canvas.addEventListener("pointerleave", () => { hovered = -1; draw(); });

for (const button of document.querySelectorAll("[data-zoom]"))
  button.addEventListener("click", () => { const factor = Number(button.dataset.zoom); if (factor) zoomBy(factor); else showAll(); });
for (const button of document.querySelectorAll("[data-cluster]")) {
  button.querySelector("i").style.background = colour(Number(button.dataset.cluster));
  button.addEventListener("click", () => { const cluster = Number(button.dataset.cluster); if (chosen === cluster) showAll(); else goTo(cluster); });
}
new ResizeObserver(draw).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
