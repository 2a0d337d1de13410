// Correlations now (below the diagonal) and their change (above it), in colours that everybody tells apart.
import { make, mark, put } from "./format.js";
import { csvButton, pngButton } from "./export.js";

const two = (v) => (v === null || v === undefined ? "?" : v.toFixed(2).replace("-", "−"));
const change = (v) => (v === null || v === undefined ? "?" : (v > 0 ? "+" : v < 0 ? "−" : "±") + Math.abs(v).toFixed(2));

export function heat(body, spec, tools) {
  const head = make("p", { class: "ruling" });
  const facts = make("p", { class: "soft" });
  const svg = make("svg:svg", { class: "matrix", role: "img", tabindex: "0" });
  const read = make("p", { class: "read", "aria-live": "polite" });
  const movers = make("ol", { class: "movers" });
  const title = make("h3", {}, "Moved most");
  const scale = make("p", { class: "ramp", "aria-hidden": "true" }, make("span", {}, "−1"), make("span", { class: "colours" }), make("span", {}, "+1"));
  const side = make("div", { class: "side" }, head, facts, title, movers);
  body.append(make("div", { class: "heatmap" }, make("div", { class: "map" }, svg, read, scale), side));
  let data = null;
  tools.append(
    csvButton(spec.id, () => [["", ...data.units], ...data.units.map((unit, i) => [unit, ...data.matrix[i]])]),
    pngButton(spec.id, () => [svg], spec.title),
  );
  let place = [1, 0];
  let signature = "";

  function say([i, j]) {
    const { units, matrix, change: moved } = data;
    put(read, i === j ? units[i] : `${units[i]} and ${units[j]}: ${two(matrix[i][j])} now, ${change(moved?.[i]?.[j])} against ${data.window_days} days ago`);
    for (const cell of svg.querySelectorAll(".here")) cell.classList.remove("here");
    svg.querySelector(`[data-at="${i},${j}"]`)?.classList.add("here");
  }
  svg.addEventListener("pointerover", (event) => {
    const where = event.target.dataset?.at;
    if (where) say(where.split(",").map(Number));
  });
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step || !data) return;
    event.preventDefault();
    place = place.map((v, k) => Math.max(0, Math.min(data.units.length - 1, v + step[k])));
    say(place);
  });

  return (state, now) => {
    data = now;
    put(head, "");
    head.replaceChildren(mark(now.level), now.state ? `: ${now.state}` : "");
    put(facts, [
      now.mean === undefined ? "" : `Mean ${two(now.mean)}.`,
      now.effective_bets === undefined ? "" : `Effective bets ${now.effective_bets.toFixed(1)} of ${now.units.length}.`,
      now.diversification_ratio === undefined ? "" : `Diversification ratio ${now.diversification_ratio.toFixed(2)}.`,
      now.note || "",
    ].filter(Boolean).join(" "));
    const next = JSON.stringify([now.units, now.matrix, now.change]);
    if (next === signature) return;
    signature = next;
    draw(svg, now);
    const pairs = now.units.flatMap((a, i) => now.units.slice(0, i).map((b, j) => [a, b, now.matrix[i]?.[j], now.change?.[i]?.[j]]))
      .filter(([, , , c]) => typeof c === "number")
      .sort((p, q) => Math.abs(q[3]) - Math.abs(p[3]))
      .slice(0, 6);
    title.hidden = pairs.length === 0;
    movers.replaceChildren(...pairs.map(([a, b, r, c]) => make("li", {}, make("span", {}, `${b} – ${a}`), make("span", { class: "n" }, `${two(r - c)} → ${two(r)}`), make("span", { class: "n" }, `${c > 0 ? "▲" : "▼"} ${change(c)}`))));
  };
}

function draw(svg, now) {
  const n = now.units.length;
  const size = 34;
  const longest = Math.max(...now.units.map((u) => u.length));
  const left = 10 + 8.2 * Math.min(12, longest);
  const nodes = [];
  now.units.forEach((unit, i) => {
    const word = unit.length > 12 ? `${unit.slice(0, 11)}…` : unit;
    nodes.push(make("svg:text", { x: left - 6, y: left + size * (i + 0.62), "text-anchor": "end" }, word));
    nodes.push(make("svg:text", { transform: `translate(${left + size * (i + 0.62)} ${left - 6}) rotate(-90)`, "text-anchor": "start" }, word));
    now.units.forEach((_, j) => {
      const value = i === j ? 1 : i > j ? now.matrix[i]?.[j] : now.change?.[i]?.[j];
      const box = make("svg:rect", { x: left + size * j + 0.5, y: left + size * i + 0.5, width: size - 1, height: size - 1, "data-at": `${i},${j}`, class: i === j ? "self" : "cell" });
      if (i !== j && typeof value === "number") {
        const share = Math.round(100 * Math.min(1, Math.abs(value)));
        box.style.fill = `color-mix(in oklab, var(${value < 0 ? "--cold" : "--warm"}) ${share}%, var(--none))`;
      }
      nodes.push(box);
      if (i !== j && n <= 24) nodes.push(make("svg:text", { x: left + size * (j + 0.5), y: left + size * (i + 0.62), "text-anchor": "middle", class: Math.abs(value ?? 0) > 0.62 ? "in strong" : "in" }, i > j ? short(value) : short(value, true)));
    });
  });
  const side = left + size * n + 2;
  svg.setAttribute("viewBox", `0 0 ${side} ${side}`);
  svg.setAttribute("aria-label", `Correlations of ${n} units: now below the diagonal, change against ${now.window_days} days ago above it. Arrow keys read pairs.`);
  svg.replaceChildren(...nodes);
}

const short = (v, sign = false) => {
  if (v === null || v === undefined) return "?";
  const text = Math.abs(v) >= 0.995 ? "1" : Math.abs(v).toFixed(2).slice(1);
  return (v < -0.004 ? "−" : sign && v > 0.004 ? "+" : "") + text;
};
