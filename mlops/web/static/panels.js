// Charts over time that share their times: what a point says can be read with a pointer or with the arrow keys.
import { make, put, shown } from "./format.js";
import { csvButton, pngButton } from "./export.js";

const rem = () => parseFloat(getComputedStyle(document.documentElement).fontSize);
const left = () => 3.7 * rem(); // room for the words of the axis

const RANGES = [["1M", 31], ["3M", 92], ["1Y", 366], ["All", Infinity]];
const DAY_MS = 86400000;

export function panels(body, spec, tools) {
  const read = make("p", { class: "read", "aria-live": "off" });
  const legend = make("p", { class: "legend" }, ...spec.parts.flatMap((panel) => [
    ...panel.series.map((s) => make("span", { class: `key ${s.style}` }, s.label)),
    panel.mark ? make("span", { class: "key mark" }, panel.mark[1]) : null,
  ].filter(Boolean)));
  const charts = spec.parts.map((panel, i) => chart(panel, i === spec.parts.length - 1, spec.parts.length === 1 ? 2.2 : i ? 1 : 1.6));
  const stage = make("div", { class: "stage", tabindex: "0", role: "group", "aria-label": `${spec.title}, chart: arrow keys read points` }, ...charts.map((c) => c.node));
  body.append(make("div", { class: "above" }, legend, read), stage);
  const ranges = RANGES.map(([word, days]) => make("button", { type: "button", onclick: () => zoom(days === Infinity ? null : [Date.parse(all.at(-1)) - days * DAY_MS, Infinity], word) }, word));
  const names = spec.parts.flatMap((panel) => panel.series.map((s) => s.label));
  tools.append(
    make("div", { class: "choose", role: "group", "aria-label": "Range; or drag over the chart" }, ...ranges),
    csvButton(spec.id, () => [["time (UTC)", ...names], ...times.map((time) => [time, ...spec.parts.flatMap((panel) => panel.series.map((s) => drawn(data[time], s)))])]),
    pngButton(spec.id, () => charts.map((c) => c.svg), spec.title),
  );
  let all = [];
  let range = null; // what is shown: from, to in milliseconds; null: all of it
  let times = [];
  let data = {};
  let place = -1;
  let label = (time) => time;

  // The part of the time that is shown, by a button (its word) or by dragging.
  function zoom(next, word = "") {
    range = next;
    ranges.forEach((b) => b.setAttribute("aria-pressed", String(b.textContent === word)));
    away();
    choose();
  }
  function choose() {
    times = range ? all.filter((time) => Date.parse(time) >= range[0] && Date.parse(time) <= range[1]) : all;
    if (times.length < 2) times = all;
    label = labels(times);
    draw();
    if (place >= 0) point(place);
    else latest();
  }
  const spot = (event) => {
    const box = stage.getBoundingClientRect();
    const share = (event.clientX - box.left - left()) / (box.width - left() - 8);
    return Math.max(0, Math.min(times.length - 1, Math.round(share * (times.length - 1))));
  };
  let from = -1;
  stage.addEventListener("pointerdown", (event) => { from = spot(event); });
  stage.addEventListener("pointerup", (event) => {
    const to = spot(event);
    if (from >= 0 && Math.abs(to - from) > 2) zoom([from, to].sort((a, b) => a - b).map((i) => Date.parse(times[i])));
    from = -1;
  });
  stage.addEventListener("dblclick", () => zoom(null, "All"));

  function point(index) {
    place = Math.max(0, Math.min(times.length - 1, index));
    const row = data[times[place]];
    charts.forEach((c) => c.point(place));
    const values = spec.parts.flatMap((panel) => [
      ...panel.series.map((s) => `${s.label} ${shown(drawn(row, s), panel.format)}`),
      panel.mark && row[panel.mark[0]] ? `✕ ${panel.mark[1]}` : "",
    ]).filter(Boolean);
    put(read, `${label(times[place])}: ${values.join(", ")}`);
  }
  function away() {
    place = -1;
    charts.forEach((c) => c.point(-1));
    latest();
  }
  function latest() {
    const row = data[times.at(-1)];
    put(read, row ? `last ${label(times.at(-1))}: ${spec.parts.flatMap((p) => p.series.map((s) => `${s.label} ${shown(drawn(row, s), p.format)}`)).join(", ")}` : "");
  }
  stage.addEventListener("pointermove", (event) => {
    point(spot(event));
  });
  stage.addEventListener("pointerleave", away);
  stage.addEventListener("blur", away);
  stage.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -1e9, End: 1e9 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    read.setAttribute("aria-live", "polite");
    point((place < 0 ? times.length - 1 : place) + step);
  });
  const draw = () => charts.forEach((c) => c.draw(times, data));
  ranges.at(-1).setAttribute("aria-pressed", "true");
  let width = 0;
  new ResizeObserver(([entry]) => {
    if (Math.abs(entry.contentRect.width - width) < 1) return;
    width = entry.contentRect.width;
    draw();
  }).observe(stage);
  return (state, found) => {
    data = found;
    all = Object.keys(found).sort();
    choose();
  };
}

const drawn = (row, series) => {
  const value = row[series.index];
  return value === null || value === undefined ? undefined : series.negate ? -value : value;
};
// A bar a day needs no hour.
const labels = (times) => (new Set(times.map((t) => t.slice(0, 10))).size === times.length ? (t) => t.slice(0, 10) : (t) => `${t.slice(0, 10)} ${t.slice(11, 16)} UTC`);

function chart(panel, lowest, height) {
  const svg = make("svg:svg", { role: "img", class: "chart" });
  svg.style.setProperty("--height", height);
  const cross = make("svg:line", { class: "cross" });
  let x = () => 0;
  return {
    svg,
    node: make("figure", {}, make("figcaption", {}, panel.label), svg),
    point(index) {
      cross.style.display = index < 0 ? "none" : "";
      if (index >= 0) for (const end of ["x1", "x2"]) cross.setAttribute(end, x(index));
    },
    draw(times, data) {
      const { width, height } = svg.getBoundingClientRect();
      if (width < 50 || times.length === 0) return;
      const values = times.flatMap((t) => panel.series.map((s) => drawn(data[t], s))).filter((v) => v !== undefined);
      if (values.length === 0) return;
      const zero = panel.series.some((s) => s.style !== "line");
      const [low, high, ticks] = scale(Math.min(...values, ...(zero ? [0] : [])), Math.max(...values, ...(zero ? [0] : [])), height > 130 ? 4 : 2);
      const bottom = height - (lowest ? 1.4 * rem() : 10);
      const start = left();
      x = (i) => start + ((width - start - 8) * (times.length === 1 ? 0.5 : i / (times.length - 1)));
      const y = (v) => 6 + ((bottom - 6) * (high - v)) / (high - low);
      const nodes = ticks.flatMap((v) => [
        make("svg:line", { class: v === 0 ? "zero" : "rule", x1: start, x2: width - 8, y1: y(v), y2: y(v) }),
        text(start - 6, y(v) + 4, shown(v, panel.format === "money" ? "axis" : panel.format), "end"),
      ]);
      if (lowest) nodes.push(...dates(times, width).map(([i, word, anchor]) => text(x(i), height - 4, word, anchor)));
      for (const series of panel.series) nodes.push(line(series, times, data, x, y));
      if (panel.mark) nodes.push(...marks(panel, times, data, x, y));
      cross.setAttribute("y1", 6);
      cross.setAttribute("y2", bottom);
      cross.style.display = "none";
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      svg.setAttribute("aria-label", `${panel.label}, ${times[0].slice(0, 10)} to ${times.at(-1).slice(0, 10)}: between ${shown(Math.min(...values), panel.format)} and ${shown(Math.max(...values), panel.format)}`);
      svg.replaceChildren(...nodes, cross);
    },
  };
}

const text = (x, y, word, anchor) => make("svg:text", { x, y, "text-anchor": anchor }, word);

function line(series, times, data, x, y) {
  let path = "";
  let pen = false;
  let before;
  times.forEach((time, i) => {
    const value = drawn(data[time], series);
    if (value === undefined) {
      pen = false;
      return;
    }
    const [px, py] = [x(i).toFixed(1), y(value).toFixed(1)];
    if (series.style === "stems") path += `M${px} ${y(0).toFixed(1)}V${py}`;
    else if (series.style === "step") path += pen ? `H${px}V${py}` : `M${px} ${py}`;
    else if (series.style === "under") path += `${pen ? "L" : `M${px} ${y(0).toFixed(1)}L`}${px} ${py}`;
    else path += `${pen ? "L" : "M"}${px} ${py}`;
    pen = true;
    before = px;
  });
  if (series.style === "under" && before !== undefined) path += `L${before} ${y(0).toFixed(1)}`;
  return make("svg:path", { class: `line ${series.style}`, d: path });
}

function marks(panel, times, data, x, y) {
  const result = panel.series[0];
  return times.flatMap((time, i) => {
    const row = data[time];
    const value = drawn(row, result);
    if (!row[panel.mark[0]] || value === undefined) return [];
    const [px, py, r] = [x(i), y(value), 4];
    return make("svg:path", { class: "exceeded", d: `M${px - r} ${py - r}L${px + r} ${py + r}M${px + r} ${py - r}L${px - r} ${py + r}` });
  });
}

function scale(low, high, want) {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / want;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const from = Math.floor(low / step + 1e-9);
  const to = Math.ceil(high / step - 1e-9);
  const ticks = [];
  for (let i = from; i <= to; i += 1) ticks.push(i * step);
  return [ticks[0], ticks.at(-1) === ticks[0] ? ticks[0] + step : ticks.at(-1), ticks];
}

function dates(times, width) {
  const last = times.length - 1;
  const many = Math.max(2, Math.min(6, last + 1, Math.floor((width - left()) / (8 * rem()))));
  if (last < 1) return [[0, times[0].slice(0, 10), "middle"]];
  const within = times[0].slice(0, 10) === times[last].slice(0, 10);
  return Array.from({ length: many }, (_, k) => {
    const i = Math.round((last * k) / (many - 1));
    const word = within ? `${times[i].slice(11, 16)} UTC` : times[i].slice(0, 10);
    return [i, word, k === 0 ? "start" : k === many - 1 ? "end" : "middle"];
  });
}
