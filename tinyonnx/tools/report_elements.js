"use strict";
// -- making elements; names from a model only ever become text ------------------------------
function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties))
    key in made ? (made[key] = value) : made.setAttribute(key, value);
  made.append(...children);
  return made;
}
function drawn(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// -- numbers and shapes as text --------------------------------------------------------------
const none = (v) => v === null || v === undefined || v === "";
const few = (n) => {
  if (none(n) || typeof n === "string") return n ?? "";
  const size = Math.abs(n);
  return size && (size < 1e-3 || size >= 1e6) ? n.toExponential(2).replace("e+", "e") : String(Number(n.toPrecision(4)));
};
const short = (n) => {
  if (none(n)) return "";
  for (const [prefix, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]])
    if (Math.abs(n) >= size) return (n / size).toPrecision(3) + " " + prefix;
  return few(n);
};
const micro = (us) => (none(us) ? "" : us >= 1e3 ? (us / 1e3).toFixed(2) + " ms" : us.toFixed(1) + " µs");
const percent = (share, digits = 1) => (none(share) ? "" : (share * 100).toFixed(digits) + " %");
const shape = (s) => (s ? s.map((d) => d ?? "?").join("×") || "scalar" : "?");
const result = (node) => shape((node.stats && node.stats.type && node.stats.shape) || (node.outputs.find((t) => t) || {}).shape);
const operator = (node) => (node.domain && node.domain !== "tinyonnx" ? node.domain + "." : "") + node.op;
const stat = (key) => (node) => (node.stats ? node.stats[key] : null);
const error = (key) => (node) => (node.difference ? node.difference[key] : null);
const finite = (node) => !(node.stats && (node.stats.nans || node.stats.infinities));
const bad = (node) => Boolean(node.problem) || Boolean(node.difference && node.difference.over) || !finite(node);
// a great distance between numbers near 0 says nothing where the difference is small beside the layer's scale
const ulps = (d) => (d.ulp > 100000 && !d.over ? "near 0" : d.ulp.toLocaleString("en"));
const clip = (text, n) => (text.length > n ? "…" + text.slice(1 - n) : text);
