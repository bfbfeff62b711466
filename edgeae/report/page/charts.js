"use strict";
// Charts as SVG, drawn at the width that they have, so that text stays readable on a phone.
const FIGURES = JSON.parse(document.getElementById("figures").textContent);
const SVG = "http://www.w3.org/2000/svg";
const color = (i) => `var(--s${i % 5})`;

function svg(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function html(parent, name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(1).replace("e+", "e");
  return String(Number(value.toPrecision(size >= 1000 ? 5 : 3)));
}

function when(seconds, span) {
  const text = new Date(seconds * 1000).toISOString();
  if (!span) return text.slice(0, 16).replace("T", " ");
  if (span > 300 * 86400) return text.slice(0, 10);
  return span > 4 * 86400 ? text.slice(5, 10) : `${text.slice(5, 10)} ${text.slice(11, 16)}`;
}

// Round steps of 1, 2 or 5 times a power of ten; for time, of minutes, hours and days.
function ticks(low, high, count, isTime) {
  const raw = (high - low) / count || 1;
  let step;
  if (isTime) {
    const steps = [60, 300, 900, 3600, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 1814400, 2592000, 5184000, 7776000, 31536000];
    step = steps.find((s) => s >= raw) || 31536000 * Math.ceil(raw / 31536000);
  } else {
    const power = 10 ** Math.floor(Math.log10(raw));
    step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  }
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(k * step);
  return found;
}

function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const m of [1, 2, 5]) {
      const value = m * 10 ** power;
      if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
    }
  return found.length > 7 ? found.filter((v) => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-9) : found;
}

function extent(spec, axis) {
  const values = spec.series.flatMap((s) => s[axis]).filter((v) => v !== null);
  if (axis === "y") for (const rule of spec.rules || []) if (rule.axis === "y") values.push(rule.at);
  if (axis === "x") for (const rule of spec.rules || []) if (rule.axis === "x") values.push(rule.at);
  let low = values.reduce((a, b) => Math.min(a, b), Infinity);
  let high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  if (axis === "y" && spec.ylog) return [low * 0.92, high * 1.08];
  if (axis === "y" && spec.fromZero) low = Math.min(0, low);
  if (low === high) { low -= 0.5; high += 0.5; }
  return axis === "y" ? [spec.fromZero && low === 0 ? 0 : low - (high - low) * 0.05, high + (high - low) * 0.06] : [low, high];
}

function draw(figure, spec) {
  const holder = figure.querySelector(".plot");
  const width = Math.max(220, holder.clientWidth);
  const height = spec.height || Math.round(Math.min(300, Math.max(190, width * 0.5)));
  const edge = { left: 58, right: 12, top: spec.title ? 26 : 10, bottom: 42 };
  const [x0, x1] = extent(spec, "x");
  const [y0, y1] = extent(spec, "y");
  const share = (v, low, high, isLog) => (isLog ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low));
  const px = (v) => edge.left + share(v, x0, x1, spec.xlog) * (width - edge.left - edge.right);
  const py = (v) => height - edge.bottom - share(v, y0, y1, spec.ylog) * (height - edge.top - edge.bottom);
  holder.replaceChildren();
  const root = svg(holder, "svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": spec.alt });
  if (spec.title) svg(root, "text", { x: 0, y: 13, class: "title" }, spec.title);
  for (const [from, to] of spec.bands || []) {
    const left = Math.max(px(from), edge.left), right = Math.min(px(to), width - edge.right);
    if (right > left)
      svg(root, "rect", { x: left, y: edge.top, width: Math.max(1, right - left), height: height - edge.top - edge.bottom, fill: "var(--band)" });
  }
  for (const value of spec.ylog ? logTicks(y0, y1) : ticks(y0, y1, 5)) {
    svg(root, "line", { x1: edge.left, x2: width - edge.right, y1: py(value), y2: py(value), class: "axis" });
    svg(root, "text", { x: edge.left - 7, y: py(value) + 4, "text-anchor": "end" }, short(value));
  }
  const steps = Math.max(2, Math.floor((width - edge.left) / (spec.time ? (x1 - x0 > 4 * 86400 && x1 - x0 < 300 * 86400 ? 65 : 105) : 55)));
  let last = -Infinity;
  for (const value of spec.xlog ? logTicks(x0, x1) : ticks(x0, x1, steps, spec.time)) {
    if (spec.whole && value !== Math.round(value)) continue;
    const label = spec.time ? when(value, x1 - x0) : short(value);
    const half = label.length * 3.3;
    const at = Math.min(Math.max(px(value), edge.left + (spec.time ? half - 20 : 0)), width - Math.min(half, 40));
    if (at - half < last) continue;
    last = at + half + 6;
    svg(root, "text", { x: at, y: height - edge.bottom + 17, "text-anchor": "middle" }, label);
  }
  svg(root, "line", { x1: edge.left, x2: width - edge.right, y1: height - edge.bottom, y2: height - edge.bottom, class: "axis", "stroke-width": 1.5 });
  svg(root, "text", { x: (edge.left + width - edge.right) / 2, y: height - 5, "text-anchor": "middle" }, spec.xlabel);
  svg(root, "text", { x: 0, y: 0, "text-anchor": "middle", transform: `translate(11 ${(edge.top + height - edge.bottom) / 2}) rotate(-90)` }, spec.ylabel);
  spec.series.forEach((s, i) => drawSeries(root, spec, s, color(s.color ?? i), px, py));
  for (const rule of spec.rules || []) drawRule(root, rule, px, py, width, height, edge);
  if (spec.kind !== "bars") hover(holder, root, spec, px, width, height, edge, x1 - x0);
}

function drawSeries(root, spec, s, stroke, px, py) {
  if (spec.kind === "bars") {
    s.y.forEach((v, k) => {
      const left = px(s.x[k]), right = px(s.x[k + 1]);
      svg(root, "rect", { x: left, width: Math.max(1, right - left - 1), y: py(v), height: Math.max(0, py(0) - py(v)), fill: stroke, opacity: spec.series.length > 1 ? 0.6 : 0.9 });
    });
    return;
  }
  const path = s.y.map((v, k) => (v === null ? "" : `${k && s.y[k - 1] !== null ? "L" : "M"}${px(s.x[k]).toFixed(1)} ${py(v).toFixed(1)}`)).join("");
  svg(root, "path", { d: path, fill: "none", stroke, "stroke-width": s.thin ? 1.2 : 2, "stroke-linejoin": "round", "stroke-dasharray": s.dash ? "5 4" : "none" });
  if (s.y.length <= 12)
    s.y.forEach((v, k) => v !== null && svg(root, "circle", { cx: px(s.x[k]), cy: py(v), r: 3, fill: stroke }));
}

function drawRule(root, rule, px, py, width, height, edge) {
  const vertical = rule.axis === "x";
  const at = vertical ? px(rule.at) : py(rule.at);
  const ends = vertical ? { x1: at, x2: at, y1: edge.top, y2: height - edge.bottom } : { x1: edge.left, x2: width - edge.right, y1: at, y2: at };
  svg(root, "line", { ...ends, stroke: "var(--alarm)", "stroke-width": 1.5, "stroke-dasharray": "4 3" });
  const flip = vertical && at > width * 0.62;
  svg(root, "text", {
    x: vertical ? at + (flip ? -6 : 6) : width - edge.right, y: vertical ? edge.top + 11 : at - 5,
    "text-anchor": vertical && !flip ? "start" : "end", class: "rule",
  }, rule.label);
}

function hover(holder, root, spec, px, width, height, edge, span) {
  const line = svg(root, "line", { y1: edge.top, y2: height - edge.bottom, stroke: "var(--soft)", visibility: "hidden" });
  const tip = html(holder, "div", "tip");
  tip.hidden = true;
  const leave = () => { tip.hidden = true; line.setAttribute("visibility", "hidden"); };
  const move = (event) => {
    const at = event.clientX - holder.getBoundingClientRect().left;
    const xs = spec.series[0].x;
    let best = 0;
    xs.forEach((v, k) => { if (Math.abs(px(v) - at) < Math.abs(px(xs[best]) - at)) best = k; });
    const x = px(xs[best]);
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    line.setAttribute("visibility", "visible");
    tip.replaceChildren();
    html(tip, "strong", "", spec.time ? when(xs[best], 0) : `${spec.xlabel.split(",")[0]} ${short(xs[best])}`);
    for (const s of spec.series) if (s.y[best] !== null && s.y[best] !== undefined) html(tip, "div", "", `${s.name}: ${short(s.y[best])}`);
    tip.hidden = false;
    tip.style.left = `${Math.max(0, Math.min(x + 12, width - tip.offsetWidth - 4))}px`;
    tip.style.top = `${edge.top + 4}px`;
  };
  root.addEventListener("pointermove", move);
  root.addEventListener("pointerdown", move);
  root.addEventListener("pointerleave", leave);
}

function keys(figure, spec) {
  if (spec.series.length < 2) return;
  const list = html(figure, "div", "keys");
  figure.prepend(list);
  spec.series.forEach((s, i) => {
    const key = html(list, "span");
    html(key, "i").style.background = color(s.color ?? i);
    key.append(s.name);
  });
}

for (const figure of document.querySelectorAll("[data-chart]")) {
  const spec = FIGURES.charts[figure.dataset.chart];
  keys(figure, spec);
  let drawn = 0;
  new ResizeObserver(() => {
    const width = figure.querySelector(".plot").clientWidth;
    if (width && width !== drawn) draw(figure, spec);
    drawn = width;
  }).observe(figure);
}
