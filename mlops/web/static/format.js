// Numbers as people read them. What is not known is a dash, never 0.
export const NONE = "–";
let currency = "";
const made = new Map();

export function setCurrency(code) {
  if (code === currency) return;
  currency = code || "";
  made.clear();
}

function numbers(options) {
  const key = JSON.stringify(options);
  if (!made.has(key)) made.set(key, new Intl.NumberFormat("en-US", options));
  return made.get(key);
}

function money(value, sign = "auto", more = {}) {
  const digits = Math.abs(value) < 100 ? 2 : 0;
  const options = { minimumFractionDigits: digits, maximumFractionDigits: digits, signDisplay: sign, ...more };
  if (/^[A-Z]{3}$/.test(currency)) return numbers({ ...options, style: "currency", currency }).format(value);
  return numbers(options).format(value) + (currency ? ` ${currency}` : "");
}

function percent(value, sign = "auto") {
  const size = Math.abs(value);
  const digits = size >= 0.0995 ? 1 : size > 1e-5 && size < 0.001 ? 3 : 2;
  return numbers({ style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits, signDisplay: sign }).format(value);
}

export function age(seconds) {
  if (seconds < 0) return "now";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

// Decimals by which a small price has four digits that say something: 0.000008455.
const small = (value) => (value ? Math.min(20, 3 - Math.floor(Math.log10(Math.abs(value)))) : 0);

const two = (n) => String(n).padStart(2, "0");
const day = (text) => text.slice(0, 10);

const zone = new Intl.DateTimeFormat("en-US", { timeZoneName: "short" });

// A live page shows the viewer's clock and its zone, a replay the time in which it plays.
export function time(text, replay = false) {
  const at = new Date(text);
  if (replay) return `${text.slice(0, 10)} ${text.slice(11, 19)} UTC`;
  const name = zone.formatToParts(at).find((part) => part.type === "timeZoneName")?.value || "";
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())} ${name}`;
}

const minute = (text) => `${text.slice(0, 10)} ${text.slice(11, 16)} UTC`;

const dates = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });

const FORMATS = {
  text: (v) => String(v),
  money: (v) => money(v),
  gain: (v) => money(v, "exceptZero"),
  axis: (v) => money(v, "auto", { notation: "compact", minimumFractionDigits: 0, maximumFractionDigits: 2 }),
  percent: (v) => percent(v),
  gain_percent: (v) => percent(v, "exceptZero"),
  bar: (v) => percent(v),
  meter: (v) => numbers({ style: "percent", maximumFractionDigits: 0 }).format(v),
  number: (v) => numbers({ maximumFractionDigits: Math.abs(v) < 100 ? 2 : 0 }).format(v),
  points: (v) => numbers({ maximumFractionDigits: Math.abs(v) < 10 ? 3 : 0 }).format(v),
  price: (v) => numbers({ minimumFractionDigits: 2, maximumFractionDigits: Math.abs(v) < 10 ? Math.max(4, small(v)) : 2 }).format(v),
  times: (v) => `${v.toFixed(2)}×`,
  days: (v) => (v < 0.1 ? "< 0.1" : v.toFixed(v < 10 ? 1 : 0)),
  day,
  date: (v) => dates.format(new Date(v)),
  minute,
  time: (v) => time(v),
  version: (v) => `v${v}`,
  p: (v) => (v < 0.001 ? "< 0.001" : v.toFixed(3)),
  score: (v) => v.toFixed(3),
};

export function shown(value, format) {
  if (value === undefined || value === null || value === "") return NONE;
  const text = (FORMATS[format] || FORMATS.text)(value);
  return typeof value === "number" ? text.replace("-", "−") : text;
}

// Colour is never alone: a sign and a word stand beside it.
export const LEVELS = {
  ok: ["✓", "in order"],
  warn: ["▲", "warning"],
  alert: ["✕", "alert"],
  unknown: ["?", "not known"],
};
export const LIMITS = {
  ok: ["✓", "ok", "ok"],
  warning: ["▲", "warning", "warn"],
  soft: ["▲", "soft limit", "warn"],
  hard: ["✕", "hard limit", "alert"],
  unknown: ["?", "not known", "unknown"],
};
export const PRIORITIES = {
  critical: ["✕", "critical", "alert"],
  high: ["▲", "high", "alert"],
  medium: ["▲", "medium", "warn"],
  low: ["●", "low", "unknown"],
};

export function at(node, path) {
  for (const part of path.split(".")) node = node?.[part];
  return node;
}

// What `missing` says of a topic: of itself, or of what it is part of.
export function missing(state, topic) {
  const found = state.missing || {};
  const parts = topic.split(".");
  for (let n = parts.length; n > 0; n -= 1) {
    const why = found[parts.slice(0, n).join(".")] ?? found[parts[n - 1]];
    if (why) return why;
  }
  return "";
}

export function make(tag, attributes = {}, ...children) {
  const node = tag.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4))
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== undefined && child !== null && child !== ""));
  return node;
}

// A number that is not known, but at least so large; or about so large, where no model says anything.
export function bounded(use, format) {
  if (use?.value !== undefined) return shown(use.value, format);
  if (use?.estimate !== undefined) return `≈ ${shown(use.estimate, format)}`;
  return use?.bound === undefined ? NONE : `≥ ${shown(use.bound, format)}`;
}

export function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function mark(level, table = LEVELS) {
  const [sign, word, kind] = table[level] || table.unknown;
  return make("span", { class: `mark ${kind || level}` }, make("span", { "aria-hidden": "true" }, sign), ` ${word}`);
}
