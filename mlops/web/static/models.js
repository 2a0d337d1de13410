// Each model that trades: who is champion, who challenges, what was decided last, and its book.
import { LEVELS, at, make, mark, put, shown } from "./format.js";

const FIGURES = [
  ["equity", "Equity", "money"],
  ["pnl_today", "Today", "gain_percent"],
  ["drawdown", "Drawdown", "percent"],
  ["trades_since", "Trades since", "number"],
  ["last_prediction", "Last prediction", "minute"],
  ["last_outcome", "Last outcome", "minute"],
  ["last_bar", "Last bar", "minute"],
];
const STAGES = { shadow: " (in shadow)", ab: " (trades a share)" };
const WORST = ["alert", "warn", "unknown", "ok"];

export function models(body) {
  const list = make("ul", { class: "models" });
  body.append(list);
  const cards = new Map();
  return (state, data) => {
    const names = Object.keys(data).sort();
    for (const [name, card] of cards) if (!(name in data)) cards.delete(name) && card.node.remove();
    names.forEach((name, i) => {
      if (!cards.has(name)) cards.set(name, one(name));
      const card = cards.get(name);
      card.show(data[name]);
      if (list.children[i] !== card.node) list.insertBefore(card.node, list.children[i] || null);
    });
  };
}

function one(name) {
  const level = make("span");
  const who = make("p");
  const line = make("svg:polyline", { points: "" });
  const curve = make("svg:svg", { viewBox: "0 0 300 60", preserveAspectRatio: "none", class: "spark", role: "img" }, line);
  const values = FIGURES.map(() => make("dd"));
  const figures = make("dl", {}, ...FIGURES.map(([, label], i) => make("div", {}, make("dt", {}, label), values[i])));
  const reasons = make("ul", { class: "reasons", "aria-label": "Why" });
  const verdict = make("p");
  const because = make("p", { class: "soft" });
  const node = make("li", { "data-key": name }, make("header", {}, make("h3", {}, name), level), who, reasons, figures, curve, verdict, because);
  return {
    node,
    show(row) {
      if (level.dataset.of !== row.level) {
        level.dataset.of = row.level;
        level.replaceChildren(mark(row.level));
      }
      const since = row.champion_since ? ` since ${shown(row.champion_since, "day")}` : "";
      const other = row.challenger === undefined ? "no challenger" : `challenged by v${row.challenger}${STAGES[row.stage] || ""}`;
      put(who, row.champion === undefined ? "No champion." : `Champion v${row.champion}${since}, ${other}`);
      FIGURES.forEach(([of, , format], i) => put(values[i], shown(at(row, of), format)));
      values[1].className = row.pnl_today > 0 ? "up" : row.pnl_today < 0 ? "down" : "";
      const why = Object.entries(row.reasons || {}).sort(([, a], [, b]) => WORST.indexOf(a.level) - WORST.indexOf(b.level));
      const signature = JSON.stringify(why);
      if (reasons.dataset.of !== signature) {
        reasons.dataset.of = signature;
        reasons.replaceChildren(...why.map(([name, { level: of, text }]) => make("li", { "data-level": of },
          make("span", { class: `mark ${of}` }, `${(LEVELS[of] || LEVELS.unknown)[0]} ${name}`), ` ${text}`)));
      }
      put(verdict, row.verdict ? `Last verdict: ${row.verdict}, ${shown(row.verdict_at, "day")}` : "No verdict yet.");
      put(because, row.because || "");
      draw(curve, line, row.curve || {});
    },
  };
}

function draw(svg, line, curve) {
  const times = Object.keys(curve).sort();
  const values = times.map((time) => curve[time]);
  svg.style.display = values.length < 2 ? "none" : "";
  if (values.length < 2) return;
  const low = Math.min(...values);
  const span = Math.max(...values) - low || 1;
  line.setAttribute("points", values.map((v, i) => `${((300 * i) / (values.length - 1)).toFixed(1)},${(57 - (54 * (v - low)) / span).toFixed(1)}`).join(" "));
  svg.setAttribute("aria-label", `Equity, ${shown(times[0], "day")} to ${shown(times.at(-1), "day")}: from ${shown(values[0], "money")} to ${shown(values.at(-1), "money")}`);
}
