const data = JSON.parse(document.getElementById("data").textContent);
const nodes = data.nodes, find = (id) => document.getElementById(id);
nodes.forEach((node, i) => { node.number = i; });

// -- measures: what bars in the chart, the graph and the table show -------------------------
const magnitude = (n) => (n.stats && !none(n.stats.minimum) ? Math.max(Math.abs(n.stats.minimum), Math.abs(n.stats.maximum)) : null);
const MEASURES = [
  { title: "time", of: (n) => n.us, text: micro },
  { title: "relative error", of: (n) => (n.difference && n.difference.problem ? "inf" : error("relative")(n)), text: few, log: true, limit: data.tolerance },
  { title: "greatest magnitude", of: magnitude, text: few, log: true },
  { title: "standard deviation", of: stat("std"), text: few, log: true },
  { title: "share of zeros", of: stat("zeros"), text: percent, most: 1 },
  { title: "multiplications", of: (n) => n.macs, text: short },
  { title: "bytes of the result", of: (n) => n.bytes, text: short },
  { title: "parameters", of: (n) => n.parameters, text: short },
].filter((m) => nodes.some((n) => m.of(n) === "inf" || m.of(n) > 0));
let measure = MEASURES[0];
for (const m of MEASURES) {
  const values = nodes.map(m.of).filter((v) => v > 0);
  if (m.limit) values.push(m.limit);
  m.high = m.most || Math.max(...values);
  m.low = m.log ? Math.min(...values) : 0;
  if (m.log) [m.low, m.high] = [10 ** Math.floor(Math.log10(m.low) - 0.01), 10 ** Math.ceil(Math.log10(m.high) + 0.01)];
  m.share = (v) => (v === "inf" ? 1 : !(v > 0) ? 0 : m.log ? Math.log(v / m.low) / Math.log(m.high / m.low) : v / m.high);
}
const kindOf = (node) => (bad(node) ? " over" : node.kind === "numpy" && measure.title === "time" ? " numpy" : "");

// -- header ------------------------------------------------------------------------------------
const list = (tensors) => tensors.map((t) => `${t.name} ${shape(t.shape)}`).slice(0, 4).join(", ") + (tensors.length > 4 ? ", …" : "");
document.title = find("title").textContent = data.title;
find("facts").textContent = [
  Object.entries(data.opsets).map(([d, v]) => (d || "opset") + " " + v).join(", "), nodes.length + " nodes",
  short(data.totals.parameters) + " parameters", none(data.totals.macs) ? "" : short(data.totals.macs) + " multiplications",
  `${list(data.inputs)} → ${list(data.outputs)}`,
].filter(Boolean).join(" · ");
find("verdict").textContent = data.verdict;
find("verdict").hidden = !data.verdict;
find("verdict").className = data.failed ? "failed" : "";

// -- pictures and curves with axes --------------------------------------------------------------
/** A drawing between two axes; ticks are [place from 0 to 1 in reading direction or upwards, text]. */
function withAxes(content, upTicks, acrossTicks, className = "plot") {
  const edge = (at) => (at <= 0.02 ? "first" : at >= 0.98 ? "last" : "");
  const widest = upTicks.reduce((w, [, text]) => (text.length > w.length ? text : w), "");
  const up = element("div", { className: "up", "data-widest": widest }, ...upTicks.map(([at, text]) =>
    element("span", { textContent: text, style: `top:${at * 100}%`, className: edge(at) })));
  const across = element("div", { className: "across" }, ...acrossTicks.map(([at, text]) =>
    element("span", { textContent: text, style: `left:${at * 100}%`, className: edge(at) })));
  return element("div", { className: "axes " + className }, up, content, across);
}
const ticksOf = (axis) => (axis ? axis.ticks.map(([at, text]) => [axis.upward ? 1 - at : at, text]) : []);
const scale = (p) => element("div", { className: "scale" }, few(p.low), element("i"), few(p.high));
function polyline(values, label) {
  const low = Math.min(...values, 0), high = Math.max(...values, 0), span = high - low || 1, last = Math.max(values.length - 1, 1);
  const points = values.map((v, i) => `${(600 * i) / last},${100 - (100 * (v - low)) / span}`).join(" ");
  const svg = drawn("svg", { viewBox: "0 0 600 100", preserveAspectRatio: "none", role: "img", "aria-label": label },
    drawn("polyline", { points, fill: "none", stroke: "var(--accent)", "stroke-width": 1, "vector-effect": "non-scaling-stroke" }));
  return { svg, ticks: high === low ? [[1, few(low)]] : [[0, few(high)], ...(low && high ? [[high / span, "0"]] : []), [1, few(low)]] };
}
const indices = (axis, size) => [[0, "0"], [0.5, `axis ${axis}`], [1, String(size - 1)]];

for (const section of data.sections) {
  const figure = element("figure", {}, element("h2", { textContent: section.title }));
  if (section.picture) {
    const image = element("img", { src: section.picture.src, alt: section.title });
    figure.append(withAxes(image, ticksOf(section.rows), ticksOf(section.columns)), scale(section.picture));
  }
  if (section.curve.length) {
    const { svg, ticks } = polyline(section.curve, section.title);
    figure.append(withAxes(svg, ticks, ticksOf(section.columns)));
  }
  const most = Math.max(...section.bars.map((b) => b[1]), 1e-9);
  for (const [label, value] of section.bars) {
    const text = section.unit === "µs" ? micro(value) : value.toFixed(3) + section.unit;
    figure.append(element("div", { className: "bar" }, element("span", { className: "path", title: label }, element("bdi", { textContent: label })),
      element("i", { style: `width:${(value / most) * 100}%` }), element("span", { textContent: text })));
  }
  if (section.note) figure.append(element("div", { className: "note", textContent: section.note }));
  find("sections").append(figure);
}

// -- chart: one bar per node ----------------------------------------------------------------------
let chartBars = [];
function drawChart() {
  const step = 1000 / nodes.length, svg = drawn("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", role: "img", "aria-label": `${measure.title} of each node` });
  svg.append(drawn("rect", { class: "back", width: 1000, height: 100 }));
  chartBars = nodes.map((node) => {
    const height = Math.max(measure.share(measure.of(node)) * 100, measure.of(node) > 0 ? 1.5 : 0);
    const rect = drawn("rect", { class: "measure" + kindOf(node), x: node.number * step, width: step * (step > 4 ? 0.86 : 1), y: 100 - height, height });
    rect.classList.toggle("hidden", Boolean(node.hidden));
    rect.classList.toggle("chosen", node === chosen);
    return rect;
  });
  svg.append(...chartBars);
  const line = (y) => ({ x1: 0, x2: 1000, y1: y, y2: y, "vector-effect": "non-scaling-stroke" });
  const limit = measure.limit && 1 - measure.share(measure.limit);
  if (limit) svg.append(drawn("line", { class: "limit", ...line(limit * 100) }));
  const ticks = [[0, measure.text(measure.high)], [1, measure.log ? measure.text(measure.low) : "0"]];
  if (limit > 0.15 && limit < 0.85) ticks.push([limit, measure.text(measure.limit)]);
  const nodeAt = (e) => nodes[Math.min(Math.max(Math.floor(((e.clientX - svg.getBoundingClientRect().left) / svg.clientWidth) * nodes.length), 0), nodes.length - 1)];
  svg.onclick = (e) => select(nodeAt(e));
  svg.onpointermove = (e) => { const n = nodeAt(e); find("hovered").textContent = `${n.number}  ${operator(n)}  ${n.name}  ${measure.text(measure.of(n))}`; };
  svg.onpointerleave = () => { find("hovered").textContent = ""; };
  find("bars").replaceChildren(withAxes(svg, ticks, [], "bars"));
}
find("measure").append(...MEASURES.map((m) => element("option", { textContent: m.title + (m.log ? " (logarithmic)" : "") })));
find("measure").onchange = () => { measure = MEASURES[find("measure").selectedIndex]; drawChart(); boxes.forEach(mountMeasure); };
find("chart").hidden = !MEASURES.length || nodes.length < 2;

// -- table: measured columns first, then costs -----------------------------------------------------
const has = (of) => nodes.some((n) => !none(of(n)) && of(n) !== 0);
const slowest = Math.max(...nodes.map((n) => n.us || 0), 1e-9);
const columns = [
  { title: "#", of: (n) => n.number, number: true, always: true },
  { title: "operator", of: operator, always: true },
  { title: "name", of: (n) => n.name, always: true, path: true },
  { title: "time", of: (n) => n.us, text: (n) => micro(n.us), number: true, bar: (n) => n.us / slowest },
  { title: "share", of: (n) => n.share, text: (n) => percent(n.share), number: true },
  { title: "GFLOP/s", of: (n) => n.gflops, number: true },
  { title: "roof", of: (n) => n.roof, text: (n) => percent(n.roof, 0), number: true, hint: "share of the time that the machine would need at its best" },
  { title: "relative error", of: (n) => (n.difference && n.difference.problem ? Infinity : error("relative")(n)), text: (n) => (n.difference ? n.difference.problem || few(n.difference.relative) : ""), bad, number: true },
  { title: "max |Δ|", of: error("error"), bad, number: true },
  { title: "ULP", of: error("ulp"), text: (n) => (n.difference ? ulps(n.difference) : ""), number: true, hint: "greatest distance in representable numbers" },
  { title: "cosine", of: error("cosine"), text: (n) => (n.difference ? String(Number(n.difference.cosine).toFixed(9)) : ""), number: true },
  { title: "min", of: stat("minimum"), number: true }, { title: "max", of: stat("maximum"), number: true },
  { title: "mean", of: stat("mean"), number: true }, { title: "std", of: stat("std"), number: true },
  { title: "zeros", of: stat("zeros"), text: (n) => percent(stat("zeros")(n)), number: true },
  { title: "NaN/Inf", of: (n) => (n.stats ? n.stats.nans + n.stats.infinities : null), text: (n) => (finite(n) ? "" : `${n.stats.nans}/${n.stats.infinities}`), bad, number: true },
  { title: "problem", of: (n) => n.problem || "", bad },
  { title: "result", of: result, sort: (n) => n.bytes, always: true },
  { title: "parameters", of: (n) => n.parameters, text: (n) => short(n.parameters), number: true },
  { title: "MACs", of: (n) => n.macs, text: (n) => short(n.macs), number: true },
  { title: "bytes", of: (n) => n.bytes, text: (n) => short(n.bytes), number: true },
  { title: "kernels, or why numpy", of: (n) => (n.kernels || []).join(" ") || n.why || "" },
].filter((c) => c.always || has(c.of));
if (find("list").clientWidth < 600) {
  // on a phone the measured columns come before the name
  const named = columns.splice(2, 1)[0], at = columns.findIndex((c) => c.title === "result");
  columns.splice(at, 0, named);
}
const textOf = (column, node) => String((column.text ? column.text(node) : few(column.of(node))) ?? "");
const head = document.querySelector("#list thead tr"), body = document.querySelector("#list tbody");
let order = nodes.slice(), sorted = null, falling = false, chosen = null;
for (const node of nodes) {
  node.text = [node.name, node.op, node.domain, result(node), (node.origin || []).join(" "), node.kind, node.why, (node.remarks || []).join(" "), bad(node) ? "over nan problem" : "", node.problem].join(" ").toLowerCase();
  node.row = element("tr", { tabIndex: -1 });
  node.row.setAttribute("aria-selected", "false");
  node.row.onclick = () => select(node);
}
// known widths make the table's layout cheap, however many rows there are
const ruler = document.createElement("canvas").getContext("2d");
ruler.font = getComputedStyle(document.body).font;
for (const column of columns) {
  let widest = ruler.measureText(column.title + " ▼").width * 1.1;
  for (const node of nodes) {
    const text = textOf(column, node), cell = element("td", {}, column.path ? element("bdi", { textContent: text }) : text);
    if (column.path) cell.className = "path";
    if (column.number) cell.className = "number";
    if (column.bad && column.bad(node)) cell.classList.add("bad");
    if (column.bar) {
      cell.classList.add("barred", node.kind);
      cell.style.backgroundSize = `${(column.bar(node) || 0) * 60}px 9px`;
    }
    if (text.length > 30) cell.title = text;
    widest = Math.max(widest, ruler.measureText(text).width);
    node.row.append(cell);
  }
  column.width = Math.ceil(Math.min(widest, 300)) + 18 + (column.bar ? 68 : 0);
  column.head = element("th", { className: column.number ? "number" : "", scope: "col" },
    element("button", { textContent: column.title, title: column.hint || "", onclick: () => sortBy(column) }));
  head.append(column.head);
}
// the name takes what the measured columns leave, so that they are seen without scrolling
const named = columns.find((c) => c.path), last = columns.findIndex((c) => c.title === "result");
const others = columns.slice(0, last).reduce((sum, c) => sum + (c === named ? 0 : c.width), 0);
named.width = Math.min(named.width, Math.max(find("list").clientWidth - others, 130));
document.querySelector("#list colgroup").append(...columns.map((c) => element("col", { style: `width:${c.width}px` })));
document.querySelector("#list table").style.width = columns.reduce((sum, c) => sum + c.width, 0) + "px";
body.append(...order.map((n) => n.row));
function sortBy(column) {
  falling = sorted === column ? !falling : Boolean(column.number) && column !== columns[0];
  sorted = column;
  const key = column.sort || column.of;
  const number = (v) => (v === "inf" ? Infinity : v === "-inf" ? -Infinity : v);
  order.sort((a, b) => {
    const [x, y] = [number(key(a)), number(key(b))];
    if (none(x) || none(y)) return none(x) - none(y) || a.number - b.number;
    const numeric = typeof x === "number" && typeof y === "number";
    const way = numeric ? (x === y ? 0 : x - y) : String(x).localeCompare(String(y), "en", { numeric: true });
    return (falling ? -way : way) || a.number - b.number;
  });
  for (const c of columns) c.head.removeAttribute("aria-sort");
  column.head.setAttribute("aria-sort", falling ? "descending" : "ascending");
  body.append(...order.map((n) => n.row));
}
function applyFilter() {
  const words = find("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const node of nodes) {
    node.hidden = !words.every((w) => node.text.includes(w));
    node.row.hidden = node.hidden;
    if (node.box) node.box.classList.toggle("faded", node.hidden);
    if (chartBars.length) chartBars[node.number].classList.toggle("hidden", node.hidden);
    shown += !node.hidden;
  }
  find("count").textContent = words.length ? shown + " of " + nodes.length : "";
}
find("filter").addEventListener("input", applyFilter);

// -- graph: boxes are made when they first come into view ---------------------------------------------
const WIDTH = 212, HEIGHT = 44, ACROSS = 236, DOWN = 72;
const view = find("view"), svg = document.querySelector("#graph svg"), boxes = [];
const hue = (text) => [...text].reduce((h, c) => (h * 31 + c.charCodeAt(0)) % 360, 7);
const point = ([column, row]) => [column * ACROSS, row * DOWN];
const at = (i) => point(data.places[i]);
function curveOf([from, to], i) {
  const [x, y] = at(from), points = [[x, y + HEIGHT]];
  for (const passed of data.routes[i]) { const [a, b] = point(passed); points.push([a, b], [a, b + HEIGHT]); }
  points.push(at(to));
  let d = `M${points[0]}`;
  for (let k = 1; k < points.length; k++) {
    const [x1, y1] = points[k - 1], [x2, y2] = points[k], middle = (y1 + y2) / 2;
    d += x1 === x2 ? `L${x2},${y2}` : `C${x1},${middle} ${x2},${middle} ${x2},${y2}`;
  }
  return d;
}
const lines = [...data.edges, ...data.inside].map(curveOf);
const near = drawn("path", { class: "edges near" });
view.append(drawn("path", { class: "edges", d: lines.slice(0, data.edges.length).join("") }),
  drawn("path", { class: "edges inside", d: lines.slice(data.edges.length).join("") }), near);
function makeBox(node) {
  const [x, y] = at(node.number), tint = `hsl(${hue(node.op)} 50% 52%)`;
  const ends = (tensors, names) => tensors.filter((t) => t && names.has(t.name)).map((t) => t.name).join(", ");
  node.box = drawn("g", { class: "node", transform: `translate(${x - WIDTH / 2},${y})`, style: `--tint:${tint}` },
    drawn("rect", { class: "box", width: WIDTH, height: HEIGHT }),
    drawn("rect", { width: 6, height: HEIGHT, rx: 3, style: `fill:${tint}` }),
    drawn("text", { x: 14, y: 17 }, clip(node.op, 18)),
    drawn("text", { x: WIDTH - 8, y: 17, class: "dim right" }, clip(result(node), Math.floor((WIDTH - 28 - Math.min(node.op.length, 18) * 7.6) / 6.4))),
    drawn("text", { x: 14, y: 32, class: "dim" }, clip(node.name, 31)),
    drawn("title", {}, `${operator(node)}  ${node.name}  ${result(node)}`));
  const [reads, gives] = [ends(node.inputs, inputs), ends(node.outputs, outputs)];
  if (reads) node.box.append(drawn("text", { x: 14, y: -5, class: "dim" }, "▾ " + clip(reads, 30)));
  if (gives) node.box.append(drawn("text", { x: 14, y: HEIGHT + 13, class: "dim" }, "▾ " + clip(gives, 30)));
  node.box.classList.toggle("over", bad(node));
  node.box.classList.toggle("faded", Boolean(node.hidden));
  node.box.classList.toggle("selected", node === chosen);
  node.box.addEventListener("click", () => { if (!dragged) select(node); });
  mountMeasure(node);
  view.append(node.box);
  boxes.push(node);
}
const inputs = new Set(data.inputs.map((t) => t.name)), outputs = new Set(data.outputs.map((t) => t.name));
function mountMeasure(node) {
  for (const old of node.box.querySelectorAll(".measure")) old.remove();
  if (!measure) return;
  const width = measure.share(measure.of(node)) * (WIDTH - 22);
  if (width > 0) node.box.append(drawn("rect", { class: "measure" + kindOf(node), x: 14, y: HEIGHT - 7, width, height: 3, rx: 1.5 }));
}
let zoomed = 1, left = 0, top_ = 0, dragged = false, drawing = 0;
function place() {
  view.setAttribute("transform", `translate(${left},${top_}) scale(${zoomed})`);
  view.classList.toggle("far", zoomed < 0.3);
  if (!drawing) drawing = requestAnimationFrame(() => { drawing = 0; mountVisible(); });
}
function mountVisible() {
  const margin = 80;
  for (const node of nodes) {
    if (node.box) continue;
    const [x, y] = at(node.number), sx = x * zoomed + left, sy = y * zoomed + top_;
    if (sx + WIDTH * zoomed > -margin && sx - WIDTH * zoomed < svg.clientWidth + margin && sy + HEIGHT * zoomed > -margin && sy < svg.clientHeight + margin) makeBox(node);
  }
}
function extent() {
  const xs = data.places.map((_, i) => at(i)[0]), ys = data.places.map((_, i) => at(i)[1]);
  const least = (v) => v.reduce((a, b) => Math.min(a, b), 0), most = (v) => v.reduce((a, b) => Math.max(a, b), 0);
  return [least(xs) - WIDTH * 0.6, most(xs) + WIDTH * 0.6, least(ys) - 24, most(ys) + HEIGHT + 24];
}
function fit() {
  const [x1, x2, y1, y2] = extent();
  zoomed = Math.max(Math.min(svg.clientWidth / (x2 - x1), svg.clientHeight / (y2 - y1), 1.5), 0.005);
  left = (svg.clientWidth - (x1 + x2) * zoomed) / 2;
  top_ = (svg.clientHeight - (y1 + y2) * zoomed) / 2;
  place();
}
function start() {
  // readable from the first node on; `fit` shows the whole
  zoomed = Math.max(Math.min(svg.clientWidth / (WIDTH * 1.5), 1), 0.6);
  left = svg.clientWidth / 2 - (nodes.length ? at(0)[0] : 0) * zoomed;
  top_ = 24 - (nodes.length ? at(0)[1] : 0) * zoomed;
  place();
}
function zoom(factor, x = svg.clientWidth / 2, y = svg.clientHeight / 2) {
  const next = Math.min(Math.max(zoomed * factor, 0.005), 5);
  left = x - ((x - left) * next) / zoomed;
  top_ = y - ((y - top_) * next) / zoomed;
  zoomed = next;
  place();
}
function reveal(node) {
  const [x, y] = at(node.number), sx = x * zoomed + left, sy = (y + HEIGHT / 2) * zoomed + top_;
  const half = Math.min((WIDTH / 2) * zoomed, svg.clientWidth / 2);
  if (sx - half < 0 || sx + half > svg.clientWidth + 1) left += svg.clientWidth / 2 - sx;
  if (sy < 40 || sy > svg.clientHeight - 40) top_ += svg.clientHeight / 2 - sy;
  place();
}
svg.addEventListener("wheel", (e) => {
  e.preventDefault();
  const box = svg.getBoundingClientRect(), sideways = e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY);
  if (e.ctrlKey || !sideways) zoom(Math.exp(-e.deltaY * 0.0015), e.clientX - box.left, e.clientY - box.top);
  else { left -= e.deltaX || e.deltaY; place(); }
}, { passive: false });
const pointers = new Map(); // one moves the graph, two zoom it
let travelled = 0;
svg.addEventListener("pointerdown", (e) => {
  pointers.set(e.pointerId, [e.clientX, e.clientY]);
  travelled = 0;
  dragged = pointers.size > 1;
});
addEventListener("pointermove", (e) => {
  const before = pointers.get(e.pointerId), now = [e.clientX, e.clientY];
  if (!before) return;
  pointers.set(e.pointerId, now);
  const other = [...pointers].find(([id]) => id !== e.pointerId), box = svg.getBoundingClientRect();
  if (other) {
    const [x, y] = other[1], distance = (p) => Math.hypot(p[0] - x, p[1] - y) || 1;
    zoom(distance(now) / distance(before), (x + now[0]) / 2 - box.left, (y + now[1]) / 2 - box.top);
    return;
  }
  const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
  travelled += Math.abs(dx) + Math.abs(dy);
  dragged ||= travelled > 3;
  if (dragged) { left += dx; top_ += dy; place(); }
});
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, (e) => pointers.delete(e.pointerId));
for (const button of document.querySelectorAll("[data-zoom]"))
  button.onclick = () => (button.dataset.zoom === "fit" ? fit() : zoom(Number(button.dataset.zoom)));
addEventListener("resize", () => place());

// -- details -------------------------------------------------------------------------------------------
const producer = new Map(), readers = new Map();
for (const node of nodes) for (const t of node.outputs) if (t && !producer.has(t.name)) producer.set(t.name, node);
data.edges.forEach(([from, to]) => readers.set(from, [...(readers.get(from) || []), nodes[to]]));
const link = (text, node) => element("button", { className: "link", textContent: text, onclick: () => select(node) });
function facts(pairs) {
  const shown = pairs.filter(([, value]) => !none(value));
  return element("dl", {}, ...shown.flatMap(([title, value]) =>
    [element("dt", { textContent: title }), value instanceof Node ? value : element("dd", { textContent: String(value) })]));
}
function tensor(t) {
  const from = producer.get(t.name), note = t.constant ? "  constant" : outputs.has(t.name) ? "  output of the model" : "";
  return element("dd", {}, from && from !== chosen ? link(t.name, from) : t.name, `  ${t.type || "?"}  ${shape(t.shape)}${note}`);
}
function pictures(node) {
  const parts = [], named = (k) => data.axes[node.axes[k]];
  if (node.map) {
    const [rows, columns] = node.axes, size = (axis) => node.stats.shape[axis];
    const up = named(0) ? ticksOf(named(0)) : [[0, "0"], [0.5, `axis ${rows}`], [1, String(size(rows) - 1)]];
    const across = named(1) ? ticksOf(named(1)) : indices(columns, size(columns));
    const title = [node.of > 1 ? `mean of ${node.of} channels` : "values", named(0) && named(1) ? `${named(0).title} over ${named(1).title}` : ""].filter(Boolean).join(", ");
    parts.push(element("h2", { textContent: title }), withAxes(element("img", { src: node.map.src, alt: title }), up, across), scale(node.map));
  }
  if (node.curve) {
    const { svg, ticks } = polyline(node.curve, "values"), axis = node.axes[0] ?? 0;
    parts.push(element("h2", { textContent: "values" }), withAxes(svg, ticks, indices(axis, node.stats.shape[axis] || 1), "plot low"));
  }
  return parts;
}
function histogram(node) {
  if (!node.histogram || node.histogram.length < 2) return [];
  const [low, high] = node.ends || [node.stats.minimum, node.stats.maximum], most = Math.max(...node.histogram), wide = 600 / node.histogram.length;
  const bars = node.histogram.map((n, i) => drawn("rect", { x: i * wide, width: wide * 0.9, y: 100 - 100 * Math.sqrt(n / most), height: 100 * Math.sqrt(n / most), fill: "var(--accent)" },
    drawn("title", {}, `${few(low + ((high - low) * i) / node.histogram.length)} … ${few(low + ((high - low) * (i + 1)) / node.histogram.length)}: ${n}`)));
  const zero = -low / (high - low), across = [[0, few(low)], ...(zero > 0.2 && zero < 0.8 ? [[zero, "0"]] : []), [1, few(high)]];
  return [element("h2", { textContent: "histogram (height: square root of the count)" }),
    withAxes(drawn("svg", { viewBox: "0 0 600 100", preserveAspectRatio: "none", role: "img", "aria-label": "histogram" }, ...bars), [[0, short(most)], [1, "0"]], across, "plot low")];
}
const rangeText = (s) => (none(s.minimum) ? "" : `${few(s.minimum)} … ${few(s.maximum)}, mean ${few(s.mean)}, std ${few(s.std)}`);
const notFinite = (s) => (s.nans || s.infinities ? element("dd", { className: "bad", textContent: `${s.nans} NaN, ${s.infinities} infinite` }) : "");
function beside(node) {
  const titles = ["this side", "other side"];
  return !node.sides ? [] : [element("div", { className: "sides" }, ...node.sides.map((side, i) => element("section", {}, element("h2", { textContent: titles[i] }),
    facts([["shape", shape(side.stats.shape)], ["range", rangeText(side.stats)], ["zeros", percent(side.stats.zeros)], ["not finite", notFinite(side.stats)]]),
    ...pictures(side), ...histogram(side))))];
}
function describe(node) {
  const s = node.stats, d = node.difference, origin = node.origin || [];
  const parts = [element("h3", { textContent: operator(node) }), element("div", { className: "name", textContent: node.name })];
  parts.push(facts([
    ["made of", origin.length > 1 || (origin.length && origin[0] !== node.name) ? origin.join(" + ") : ""],
    ["problem", node.problem && element("dd", { className: "bad", textContent: node.problem })],
    ["difference", d && (d.problem || `${few(d.relative)} of the scale, |Δ| ${few(d.error)}, ${ulps(d)}${d.ulp > 100000 && !d.over ? "" : " ULP"}, cosine ${few(d.cosine)}`)],
    ["time", none(node.us) ? "" : `${micro(node.us)}, ${percent(node.share)}` + (node.gflops ? `, ${few(node.gflops)} GFLOP/s, ${percent(node.roof, 0)} of the roof` : "")],
    ["range", s && rangeText(s)],
    ["zeros", s && percent(s.zeros)],
    ["not finite", s && notFinite(s)],
    ["value", s && s.value],
  ]), ...beside(node), ...pictures(node), ...histogram(node));
  if (node.tiles && node.tiles.length) parts.push(element("h2", { textContent: "channels that vary most" }),
    element("div", { className: "tiles" }, ...node.tiles.map((tile) => element("figure", {}, element("img", { src: tile.src, alt: "channel " + tile.channel }), `${tile.channel}: ${few(tile.low)} … ${few(tile.high)}`))));
  const next = (readers.get(node.number) || []).flatMap((n, i) => [i ? ", " : "", link(n.name, n)]);
  parts.push(element("h2", { textContent: "tensors" }), facts([
    ...node.inputs.filter(Boolean).map((t) => ["input", tensor(t)]), ...node.outputs.filter(Boolean).map((t) => ["output", tensor(t)]),
    ["read by", next.length ? element("dd", {}, ...next) : ""],
  ]), element("h2", { textContent: "node" }), facts([
    ["opset", node.opset],
    ...Object.entries(node.attributes).map(([key, value]) => [key, Array.isArray(value) ? `[${value.join(", ")}]` : value]),
    ["parameters", short(node.parameters)], ["multiplications", short(node.macs)], ["bytes", short(node.bytes)],
    ["kernels", (node.kernels || []).join(", ")], ["arena", node.arena && `${node.arena[1]} bytes at ${node.arena[0]}`],
    ["numpy because", node.why],
    ["passes", node.remarks && element("dd", {}, ...node.remarks.map((remark) => element("div", { textContent: remark })))],
  ]));
  return parts;
}
function select(node) {
  const focused = body.contains(document.activeElement);
  if (chosen) {
    chosen.row.setAttribute("aria-selected", "false");
    chosen.row.tabIndex = -1;
    if (chosen.box) chosen.box.classList.remove("selected");
    if (chartBars.length) chartBars[chosen.number].classList.remove("chosen");
  }
  chosen = node;
  node.row.setAttribute("aria-selected", "true");
  node.row.tabIndex = 0;
  if (focused) node.row.focus({ preventScroll: true });
  if (node.box) node.box.classList.add("selected");
  if (chartBars.length) chartBars[node.number].classList.add("chosen");
  near.setAttribute("d", data.edges.concat(data.inside).flatMap(([a, b], i) => (a === node.number || b === node.number ? lines[i] : [])).join(""));
  node.row.scrollIntoView({ block: "nearest", inline: "nearest" });
  reveal(node);
  find("details").replaceChildren(...describe(node));
  find("details").scrollTop = 0;
  find("announced").textContent = `${operator(node)} ${node.name}`;
}

// -- keyboard, splitters, theme ----------------------------------------------------------------------------
function step(by) {
  const visible = order.filter((n) => !n.hidden), now = visible.indexOf(chosen);
  if (!visible.length) return;
  const next = now < 0 && Math.abs(by) === 1 ? (by > 0 ? 0 : visible.length - 1) : now + by;
  select(visible[Math.min(Math.max(next, 0), visible.length - 1)]);
}
function nextProblem() {
  const problems = nodes.filter(bad), after = problems.find((n) => !chosen || n.number > chosen.number);
  if (problems.length) select(after || problems[0]);
}
const pan = (dx, dy) => { left += dx; top_ += dy; place(); };
const KEYS = {
  "/": () => find("filter").focus(), "+": () => zoom(1.3), "=": () => zoom(1.3), "-": () => zoom(0.77), 0: () => zoom(1 / zoomed), f: fit, n: nextProblem,
  ArrowDown: () => step(1), j: () => step(1), ArrowUp: () => step(-1), k: () => step(-1), Home: () => step(-Infinity), End: () => step(Infinity),
};
const PANS = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
addEventListener("keydown", (e) => {
  if (e.target === find("filter")) {
    if (e.key === "Escape") { find("filter").value = ""; applyFilter(); find("filter").blur(); }
    return;
  }
  if (e.ctrlKey || e.metaKey || e.altKey || e.target.matches("select, .splitter")) return;
  if (e.shiftKey && PANS[e.key]) pan(...PANS[e.key]);
  else if (KEYS[e.key] && !(e.target === find("details") && /Arrow|Home|End/.test(e.key))) KEYS[e.key]();
  else return;
  e.preventDefault();
});
for (const [splitter, property, panel, way] of [[0, "--graph", "graph", 1], [1, "--details", "details", -1]]) {
  const bar = document.querySelectorAll(".splitter")[splitter], main = document.querySelector("main");
  const widen = (by) => {
    const width = Math.min(Math.max(find(panel).clientWidth + way * by, 120), main.clientWidth * 0.6);
    if (by) main.style.setProperty(property, width + "px");
    bar.setAttribute("aria-valuenow", Math.round((100 * width) / main.clientWidth));
    place();
  };
  widen(0);
  bar.onpointerdown = (e) => bar.setPointerCapture(e.pointerId);
  bar.onpointermove = (e) => { if (bar.hasPointerCapture(e.pointerId)) widen(e.movementX); };
  bar.onkeydown = (e) => { if (e.key === "ArrowLeft" || e.key === "ArrowRight") { widen(e.key === "ArrowLeft" ? -24 : 24); e.preventDefault(); } };
}
find("theme").onclick = () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
};

if (measure) drawChart();
start();
if (nodes.length) select(nodes.find(bad) || (has((n) => n.us) ? nodes.reduce((a, b) => ((b.us || 0) > (a.us || 0) ? b : a)) : nodes[0]));
if (chosen) chosen.row.scrollIntoView({ block: "center" });
