"use strict";
// Draws every figure of the page from the JSON beside it: lines, points and parallel coordinates as SVG.
const H = 300, L = 62, R = 14, T = 10, B = 40;
let W = 760;  // of the figure that is being drawn: as wide as its place, so that its letters stay readable
const specs = JSON.parse(document.getElementById("figures").textContent);
const make = (name, attributes, parent, text) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.appendChild(node);
  return node;
};
const finite = (v) => typeof v === "number" && isFinite(v);
const short = (v) => {
  if (v === 0) return "0";
  const size = Math.abs(v);
  if (size >= 1e5 || size < 1e-3) return v.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  return String(+v.toPrecision(4));
};

function axis(values, log, pad) {
  const kept = values.filter((v) => finite(v) && (!log || v > 0)).map((v) => (log ? Math.log10(v) : v));
  let low = Math.min(...kept), high = Math.max(...kept);
  if (!kept.length) { low = 0; high = 1; }
  if (low === high) { low -= log ? 0.3 : Math.abs(low) * 0.05 || 0.5; high += log ? 0.3 : Math.abs(high) * 0.05 || 0.5; }
  const room = (high - low) * pad;
  low -= room; high += room;
  const share = (v) => (!finite(v) || (log && v <= 0) ? null : ((log ? Math.log10(v) : v) - low) / (high - low));
  const ticks = [];
  if (log && high - low > 0.8) {
    const every = Math.ceil((high - low) / 7);
    for (let e = Math.ceil(low); e <= high; e += every) ticks.push(Math.pow(10, e));
    if (ticks.length < 3) for (let e = Math.floor(low); e <= high; e++) for (const m of [2, 5]) {
      const v = m * Math.pow(10, e); if (Math.log10(v) >= low && Math.log10(v) <= high) ticks.push(v); }
  } else {
    const from = log ? Math.pow(10, low) : low, to = log ? Math.pow(10, high) : high;
    const raw = (to - from) / 5, base = Math.pow(10, Math.floor(Math.log10(raw)));
    const whole = values.every((v) => !finite(v) || Number.isInteger(v));
    const step = Math.max(whole ? 1 : 0, [1, 2, 5, 10].map((m) => m * base).find((s) => s >= raw));
    for (let v = Math.ceil(from / step) * step; v <= to + step * 1e-9; v += step) ticks.push(+v.toPrecision(12));
  }
  return { share, ticks };
}

function smooth(values, weight) {
  let last = null, norm = 0;
  return values.map((v) => {
    if (!finite(v)) return v;
    last = (last === null ? 0 : last) * weight + (1 - weight) * v;
    norm = norm * weight + (1 - weight);
    return last / norm;
  });
}

function drawLines(spec, state, svg) {
  const all = (key) => spec.series.flatMap((s) => s[key]).concat((spec[key === "x" ? "places" : "levels"] || []).map((m) => m.v));
  const ax = axis(all("x"), state.logX, spec.series.every((s) => s.line) ? 0.01 : 0.04), ay = axis(all("y"), state.logY, 0.05);
  const px = (v) => { const s = ax.share(v); return s === null ? null : L + s * (W - L - R); };
  const py = (v) => { const s = ay.share(v); return s === null ? null : H - B - s * (H - T - B); };
  for (const t of ay.ticks) {
    make("line", { x1: L, x2: W - R, y1: py(t), y2: py(t), class: "grid" }, svg);
    make("text", { x: L - 6, y: py(t) + 4, "text-anchor": "end" }, svg, short(t));
  }
  for (const t of ax.ticks) {
    make("line", { x1: px(t), x2: px(t), y1: H - B, y2: H - B + 4, class: "axis" }, svg);
    make("text", { x: px(t), y: H - B + 17, "text-anchor": "middle" }, svg, short(t));
  }
  make("line", { x1: L, x2: W - R, y1: H - B, y2: H - B, class: "axis" }, svg);
  make("text", { x: (L + W - R) / 2, y: H - 6, "text-anchor": "middle" }, svg, spec.xLabel);
  make("text", { x: 12, y: (T + H - B) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(T + H - B) / 2})` }, svg, spec.yLabel);
  for (const mark of spec.levels || []) if (py(mark.v) !== null) {
    make("line", { x1: L, x2: W - R, y1: py(mark.v), y2: py(mark.v), stroke: "var(--muted)", "stroke-dasharray": "4 4" }, svg);
    const low = py(mark.v) > H / 2;  // where a falling curve is not
    make("text", { x: low ? L + 4 : W - R, y: py(mark.v) - 4, "text-anchor": low ? "start" : "end" }, svg, mark.n);
  }
  for (const mark of spec.places || []) if (px(mark.v) !== null) {
    make("line", { x1: px(mark.v), x2: px(mark.v), y1: T, y2: H - B, stroke: "var(--muted)", "stroke-dasharray": "4 4" }, svg);
    const right = px(mark.v) > W * 0.7;
    const under = (spec.levels || []).some((m) => Math.abs(py(m.v) - T - 22) < 16);  // a level's line and its name
    make("text", { x: px(mark.v) + (right ? -5 : 5), y: under ? T + 50 : T + 26, "text-anchor": right ? "end" : "start" }, svg, mark.n);
  }
  const points = [];
  const order = spec.series.map((s, i) => [s, i]).sort((a, b) => (b[0].quiet || 0) - (a[0].quiet || 0) || b[1] - a[1]);
  for (const [s, index] of order) {
    const colour = s.quiet ? "var(--c5)" : `var(--c${s.colour})`;
    const lines = s.line ? (state.smooth ? [[s.y, 0.25], [smooth(s.y, state.smooth), 1]] : [[s.y, 1]]) : [];
    for (const [ys, opacity] of lines) {
      let path = "", pen = false;
      ys.forEach((y, i) => {
        const a = px(s.x[i]), b = py(y);
        if (a === null || b === null) { pen = false; return; }
        path += `${pen ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`; pen = true;
      });
      make("path", { d: path, fill: "none", stroke: colour, "stroke-width": s.quiet ? 1 : 2, opacity: opacity * (s.quiet ? 0.55 : 1) }, svg);
    }
    s.x.forEach((x, i) => {
      let a = px(x), b = s.top ? T + 6 : py(s.y[i]);
      if (a === null || b === null) return;
      if (!s.line || s.x.length < 40) {
        if (s.cross || s.top) make("path", { d: `M${a - 4} ${b - 4}l8 8m0 -8l-8 8`, stroke: colour, "stroke-width": 2 }, svg);
        else make("circle", { cx: a.toFixed(1), cy: b.toFixed(1), r: s.line ? (s.quiet ? 1.5 : 2.5) : 4.5, fill: colour }, svg);
      }
      points.push({ a, b, s, i });
    });
  }
  points.sort((p, q) => p.s.quiet - q.s.quiet || p.a - q.a);
  return { points, ring: make("circle", { r: 7, fill: "none", stroke: "var(--text)", "stroke-width": 1.5, visibility: "hidden" }, svg) };
}

function drawParallel(spec, state, svg) {
  const n = spec.axes.length, points = [];
  const px = (i) => L + (i * (W - 2 * L)) / Math.max(n - 1, 1);
  const place = spec.axes.map((a) => {
    if (a.options) return (v) => (v === null ? null : a.options.length < 2 ? 0.5 : a.options.indexOf(String(v)) / (a.options.length - 1));
    return axis(a.values, a.log, 0).share;
  });
  const py = (s) => H - B - s * (H - T - B - 8);
  const order = spec.names.map((_, i) => i).sort((a, b) => (spec.good[a] || 0) - (spec.good[b] || 0));
  for (const row of order) {
    let path = "", pen = false;
    spec.axes.forEach((a, i) => {
      const s = place[i](a.values[row]);
      if (s === null || s < 0) { pen = false; return; }
      path += `${pen ? "L" : "M"}${px(i).toFixed(1)} ${py(s).toFixed(1)}`; pen = true;
      points.push({ a: px(i), b: py(s), row, i });
    });
    const best = row === spec.best;
    make("path", { d: path, fill: "none", stroke: best ? "var(--c1)" : "var(--c0)", "stroke-width": best ? 3 : 1.2,
      opacity: best ? 1 : 0.15 + 0.6 * (spec.good[row] || 0), "data-row": row }, svg);
  }
  spec.axes.forEach((a, i) => {
    make("line", { x1: px(i), x2: px(i), y1: T, y2: H - B, class: "axis" }, svg);
    make("text", { x: px(i), y: H - B + 30, "text-anchor": "middle" }, svg, a.name);
    const shown = a.options || [Math.min(...a.values.filter(finite)), Math.max(...a.values.filter(finite))];
    shown.forEach((v) => { const s = place[i](a.options ? v : v);
      if (s !== null) make("text", { x: px(i) + 5, y: py(s) + (s === 0 ? 14 : s === 1 ? -2 : 4) }, svg, a.options ? v : short(v)); });
  });
  return { points, ring: make("path", { fill: "none", stroke: "var(--text)", "stroke-width": 3, visibility: "hidden" }, svg) };
}

function words(spec, point) {
  if (spec.axes) return `${spec.names[point.row]}: ` + spec.axes.map((a) => `${a.name} ${a.values[point.row] ?? "-"}`).join(", ");
  const y = point.s.y[point.i];
  return `${point.s.name ? point.s.name + ": " : ""}${spec.xLabel} ${point.s.x[point.i]}, ${spec.yLabel} ${y === null ? "-" : y}`;
}

function figure(node, spec) {
  const state = { logX: !!spec.logX, logY: !!spec.logY, smooth: 0 };
  const tools = node.querySelector(".tools"), read = node.querySelector(".read");
  const svg = make("svg", { role: "img", tabindex: 0, "aria-label": spec.title + ". Arrow keys read the points." });
  node.insertBefore(svg, read);
  let drawn, at = -1;
  const show = (index) => {
    at = index;
    const point = drawn.points[at];
    if (!point) { drawn.ring.setAttribute("visibility", "hidden"); read.textContent = ""; return; }
    if (spec.axes) drawn.ring.setAttribute("d", svg.querySelector(`[data-row="${point.row}"]`).getAttribute("d"));
    else { drawn.ring.setAttribute("cx", point.a); drawn.ring.setAttribute("cy", point.b); }
    drawn.ring.setAttribute("visibility", "visible");
    read.textContent = words(spec, point);
  };
  const draw = () => {
    state.width = W = Math.max(300, Math.min(760, node.clientWidth || 760));
    svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
    svg.replaceChildren();
    drawn = (spec.axes ? drawParallel : drawLines)(spec, state, svg);
    show(-1);
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), x = ((event.clientX - box.left) * state.width) / box.width, y = ((event.clientY - box.top) * H) / box.height;
    let best = -1, least = 900;
    drawn.points.forEach((p, i) => { const d = (p.a - x) ** 2 + (p.b - y) ** 2; if (d < least) { least = d; best = i; } });
    if (best >= 0) show(best);
  });
  svg.addEventListener("pointerleave", () => show(-1));
  svg.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1, Home: -1e9, End: 1e9 }[event.key];
    if (move === undefined) return;
    event.preventDefault();
    show(Math.max(0, Math.min(drawn.points.length - 1, at + move)));
  });
  const button = (text, key, wanted) => {
    if (!wanted) return;
    const b = document.createElement("button");
    b.type = "button"; b.textContent = text; b.setAttribute("aria-pressed", String(!!state[key]));
    b.addEventListener("click", () => {
      state[key] = key === "smooth" ? (state.smooth ? 0 : 0.7) : !state[key];
      b.setAttribute("aria-pressed", String(!!state[key])); draw();
    });
    tools.appendChild(b);
  };
  const values = spec.axes ? {} : { x: spec.series.flatMap((s) => s.x).filter(finite), y: spec.series.flatMap((s) => s.y).filter(finite) };
  button("log x", "logX", values.x && values.x.length && values.x.every((v) => v > 0));
  button("log y", "logY", values.y && values.y.length && values.y.every((v) => v > 0));
  button("smooth", "smooth", !spec.axes && spec.series.some((s) => s.line && s.x.length > 3));
  draw();
  window.addEventListener("resize", () => { if (Math.abs(node.clientWidth - state.width) > 30 && node.clientWidth < 760) draw(); });
}
document.querySelectorAll("figure[data-figure]").forEach((node) => figure(node, specs[+node.dataset.figure]));
