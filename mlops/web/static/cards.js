// A card: where it stands, what it is drawn from, and how.
import { LEVELS, LIMITS, NONE, PRIORITIES, at, bounded, make, mark, missing, put, shown } from "./format.js";
import { table, reveal } from "./table.js";
import { panels } from "./panels.js";
import { heat } from "./heat.js";
import { models } from "./models.js";

const ALSO = { answer: ["positions", "missing", "kpi", "limits"], tiles: ["limits", "trading"], rail: ["positions"], table: ["as_of", "exposure"] };
const DRAWN = { answer, tiles, verdict, rail, limits, table, panels, heat, models };

export function mounted(element) {
  const spec = JSON.parse(element.dataset.spec);
  const body = element.querySelector(".body");
  const tools = element.querySelector(".tools");
  let drawn = null;
  let was = null;
  const topics = [spec.topic.split(".")[0], ...(ALSO[spec.kind] || [])];
  return {
    topics,
    show(state) {
      const data = at(state, spec.topic);
      const why = nothing(spec, data) ? missing(state, spec.topic) || spec.empty : "";
      if (why) {
        if (was !== why) body.replaceChildren(make("p", { class: "empty" }, why[0].toUpperCase() + why.slice(1)));
        drawn = null;
        if (tools) tools.hidden = true;
      } else {
        if (drawn === null) {
          body.replaceChildren();
          tools?.replaceChildren();
          if (tools) tools.hidden = false;
          drawn = DRAWN[spec.kind](body, spec, tools, element);
        }
        drawn(state, data);
      }
      was = why;
    },
  };
}

function nothing(spec, data) {
  if (spec.kind === "answer" || spec.kind === "tiles") return false;
  if (spec.kind === "verdict") return !data || !data.n;
  if (spec.kind === "heat") return !data?.units?.length;
  if (spec.options.choose) return !spec.options.choose.some((name) => Object.keys(data?.[name] || {}).length);
  return !data || Object.keys(data).length === 0;
}

// --- what can we lose today, where, and is that normal? ---------------------------------------------------------
function answer(body) {
  const rows = ["What can we lose today?", "Where?", "Is that usual?"].map((question) => {
    const reply = make("dd");
    body.append(make("div", { class: "question" }, make("dt", {}, question), reply));
    return reply;
  });
  const list = make("dl", {}, ...body.childNodes);
  const summary = make("summary");
  const sentences = make("ul");
  const unknown = make("details", { class: "missing" }, summary, sentences);
  body.append(list, unknown);
  return (state) => {
    const loss = state.kpi?.var || {};
    const es = state.kpi?.es || {};
    says(rows[0], loses(state, loss, es));
    says(rows[1], where(state));
    const normal = state.kpi?.normal || {};
    const [sign, , level] = standing(state, "kpi.var", loss.level);
    const over = normal.line ? [make("span", { class: `mark ${level}` }, `${sign} ${normal.line}`)] : [];
    says(rows[2], normal.sentence ? [normal.sentence, ...(over.length ? [" ", ...over] : [])] : [missing(state, "kpi.normal") || "Not known: too little history."]);
    const found = Object.values(state.missing || {});
    unknown.hidden = found.length === 0;
    put(summary, `? ${found.length} ${found.length === 1 ? "thing is" : "things are"} not known`);
    if (sentences.dataset.of !== found.join("\n")) {
      sentences.dataset.of = found.join("\n");
      sentences.replaceChildren(...found.map((sentence) => make("li", {}, sentence)));
    }
  };
}

// "$44,560 (3.2 % of equity) by tomorrow's close, worse one day in 100."
function loses(state, loss, es) {
  const known = loss.value !== undefined;
  const about = !known && loss.bound === undefined; // no model says anything
  const value = known ? loss.value : about ? loss.estimate : loss.bound;
  if (value === undefined) return [unknown(missing(state, "kpi.var") || loss.why)];
  const money = known ? loss.money : about ? loss.estimate_money : loss.bound_money;
  const bars = loss.horizon_bars === 1 ? "within one bar" : `within ${loss.horizon_bars} bars`;
  const odds = loss.odds || `worse one time in ${Math.round(1 / (1 - (loss.confidence ?? 0.99)))}`;
  const of = state.kpi?.notional === undefined ? "of equity" : "of an equity that is notional";
  return [known ? "" : about ? "About " : "At least ", make("strong", {}, money === undefined ? shown(value, "percent") : shown(money, "money")),
    money === undefined ? ` ${of}` : ` (${shown(value, "percent")} ${of})`,
    about ? " by stand-ins; no nightly model yet:" : "", ` ${loss.until || bars}, ${odds}`,
    es.value === undefined ? ". " : `; on such a day ${shown(es.value, "percent")} on average. `,
    known ? "" : loss.why || missing(state, "kpi.var")];
}

// A reason may be a sentence or a part of one.
const unknown = (why) => (why ? `Not known: ${why.replace(/\.?$/, ".")}` : "Not known.");
// What the list on top says already is not said again.
const above = (state, why) => (why && Object.values(state.missing || {}).some((one) => one.includes(why.replace(/\.$/, ""))) ? "why: see the answer on top" : why);

const NOT_STATED = "(not stated)"; // the sector of what names none
// "37 % technology, 22 % finance; AMD 12 %": shares of the VaR by sector and by underlying, each ranked by the same number.
// A unit counts with all strategies that hold it: what one is long and another short cancels, unlike in its rows below.
function where(state) {
  const many = Object.keys(state.positions || {}).length;
  const total = state.kpi?.var?.value;
  if (many === 0) return [missing(state, "positions") || "Nowhere: no open positions."];
  if (total === undefined) return ["Not known while the VaR is not known."];
  const ranked = (name) => Object.entries(state.exposure?.[name] || {})
    .filter(([key, row]) => key && key !== NOT_STATED && row.component_var !== undefined)
    .sort(([, a], [, b]) => b.component_var - a.component_var).slice(0, 3)
    .map(([key, row]) => [key, shown(row.component_var / total, "meter").replace("%", " %")]);
  const sectors = ranked("sector").flatMap(([key, share], i) => [i ? ", " : "", make("strong", {}, `${share} ${key}`)]);
  const units = ranked("underlying").flatMap(([key, share], i) => [i ? ", " : "", leading(state, key), ` ${share}`]);
  const shared = new Set(Object.values(state.positions).map((row) => row.unit)).size < many ? ", all strategies together" : "";
  return [...sectors, sectors.length ? "; " : "", ...units, ` of the VaR of ${many} position${many === 1 ? "" : "s"}${shared}.`];
}

// To the largest position in a unit.
function leading(state, unit) {
  const rows = Object.entries(state.positions).filter(([, row]) => row.unit === unit);
  rows.sort(([, a], [, b]) => (b.share_of_var ?? 0) - (a.share_of_var ?? 0));
  return rows.length ? link(rows[0][0], unit) : make("span", {}, unit);
}

// To the row of a position, here or on the page that has it.
function link(key, text) {
  const here = document.getElementById("positions") !== null;
  const go = (event) => {
    event.preventDefault();
    reveal(key);
  };
  return make("a", { href: `/risk#row:${encodeURIComponent(key)}`, onclick: here ? go : undefined }, text);
}

function says(node, parts) {
  const text = parts.map((part) => part.textContent ?? part).join("");
  if (node.textContent !== text) node.replaceChildren(...parts);
}

// --- the strip ------------------------------------------------------------------------------------------------------
const STATES = {
  active: ["✓", "ACTIVE", "ok", "Orders of all kinds."],
  reducing: ["▲", "REDUCING", "warn", "No new positions; open ones may only shrink."],
  halted: ["✕", "HALTED", "alert", "No orders at all."],
};

function tiles(body, spec) {
  const list = make("div", { class: "strip" });
  body.append(list);
  const draw = spec.parts.map((tile) => (tile.of === "kpi.trading" ? trading(list, tile) : figure(list, tile)));
  return (state) => draw.forEach((one) => one(state));
}

// Sign, word and colour of a measure: of the line that it crossed, as in the list of limits; else of its level.
function standing(state, path, level) {
  const line = path && state.limits?.[`${path.split(".").at(-1)}:all`]?.state;
  if (line) return LIMITS[line] || LIMITS.unknown;
  const of = LEVELS[level] ? level : "unknown";
  return [...LEVELS[of], of];
}

function figure(list, tile) {
  const value = make("p", { class: "value" });
  const notes = make("p", { class: "also" });
  const gauge = tile.meter ? meter() : null;
  const label = make("h2", { title: tile.help }, tile.label);
  const box = make("div", { class: "tile" }, label, value, gauge?.node, notes);
  list.append(box);
  return (state) => {
    const found = at(state, tile.of);
    const use = tile.meter ? at(state, tile.meter) || {} : {};
    const [sign, word, level] = standing(state, tile.meter, use.level);
    const signed = tile.format.startsWith("gain") && found ? (found > 0 ? "▲ " : "▼ ") : "";
    const lacks = tile.least && at(state.missing, tile.least); // what of it is not known
    const part = lacks && found !== undefined;
    if (part) put(value, tile.meter ? `≥ ${shown(found, tile.format)}` : NONE);
    else put(value, found === undefined ? bounded(use, tile.format) : signed + shown(found, tile.format));
    if (part) value.className = "value";
    else if (signed) value.className = `value ${found > 0 ? "up" : "down"}`;
    const confidence = use.confidence === undefined ? "" : ` ${+(100 * use.confidence).toFixed(2)} %`;
    const since = tile.since && at(state, tile.since);
    put(label, since ? `${tile.label.replace(" today", "")} since ${shown(since, "date")}` : tile.label + confidence);
    const also = tile.also
      .map(([path, format, word]) => [at(state, path), format, word])
      .filter(([v]) => v !== undefined && v !== "")
      .map(([v, format, word]) => `${word} ${shown(v, format)}`.trim());
    const why = use.why || missing(state, tile.of) || "Not known.";
    const told = use.why && use.why === state.kpi?.var?.why; // the answer on top says it
    if (part) put(notes, `${tile.meter ? "" : `${shown(found, tile.format)} of what is known. `}${lacks}`);
    else put(notes, found === undefined ? (told ? "Why: see the answer above." : why) : [use.old, ...also].filter(Boolean).join(" · "));
    notes.title = told ? why : notes.textContent;
    gauge?.show(use, found === undefined && use.bound === undefined, sign, word, level);
    box.dataset.level = tile.meter ? level : "";
  };
}

function meter() {
  const fill = make("span", { class: "fill" });
  const track = make("div", { class: "track", role: "img" }, fill);
  const text = make("span", { class: "of" });
  const node = make("div", { class: "gauge" }, track, text);
  return {
    node,
    show(use, part, sign, word, level) {
      const known = use.utilisation !== undefined;
      node.hidden = use.limit === undefined && !known;
      fill.style.width = `${Math.min(100, 100 * Math.max(0, use.utilisation ?? 0))}%`;
      track.dataset.level = level;
      const limit = use.limit === undefined ? "" : ` of limit ${shown(use.limit, use.limit > 1 ? "times" : "percent")}`;
      put(text, known ? `${sign} ${part ? "known part: " : ""}${shown(use.utilisation, "meter")}${limit}` : `${sign} not known${limit && `, limit${limit.replace(" of limit", "")}`}`);
      track.setAttribute("aria-label", `${word}: ${text.textContent}`);
    },
  };
}

function trading(list, tile) {
  const value = make("p", { class: "value" });
  const means = make("p", { class: "means" });
  const why = make("p", { class: "also" });
  const box = make("div", { class: "tile trading" }, make("h2", {}, tile.label), value, means, why);
  list.append(box);
  return (state) => {
    const now = state.kpi?.trading || {};
    const [sign, word, level, meaning] = STATES[now.state] || ["?", "NOT KNOWN", "unknown", ""];
    put(value, `${sign} ${word}`);
    put(means, meaning || missing(state, "kpi.trading"));
    const who = [now.since && `since ${shown(now.since, "minute")}`, now.actor && `by ${now.actor}`].filter(Boolean).join(", ");
    const replay = state.clock === "replay" ? "A replay: lines that are crossed are shown, and change nothing." : "";
    put(why, replay || [who, now.reason].filter(Boolean).join(": "));
    why.title = why.textContent;
    box.dataset.level = level;
  };
}

// --- the backtest ---------------------------------------------------------------------------------------------------
const TESTS = [
  ["kupiec", "Kupiec", "as many as expected"],
  ["christoffersen", "Christoffersen", "not in clusters"],
  ["dq", "DQ", "not foreseeable"],
  ["z2", "Z2", "ES is large enough"],
];
const WORDS = { ok: "Yes", warn: "In doubt", alert: "No: it failed its backtest", unknown: "Not known yet" };
const ZONES = { green: ["✓", "ok"], yellow: ["▲", "warn"], red: ["✕", "alert"] };

function verdict(body, spec, tools, element) {
  const head = make("p", { class: "ruling" });
  const line = make("p", { class: "soft" });
  const tests = make("tbody");
  const others = make("tbody");
  const tables = make("div", { class: "two" },
    make("table", {}, make("caption", {}, "What is claimed; a small p speaks against it"),
      make("thead", {}, make("tr", {}, th("Test"), th("Claim"), th("p", "n"))), tests),
    make("table", {}, make("caption", {}, "Against alternatives; lower is better"),
      make("thead", {}, make("tr", {}, th("Model"), th("QL", "n"), th("FZ", "n"), th("Exceeded", "n"), th("Test"))), others));
  body.append(head, line, tables);
  return (state, now) => {
    element.dataset.level = now.level;
    const [sign] = LEVELS[now.level] || LEVELS.unknown;
    put(head, `${sign} ${WORDS[now.level] || WORDS.unknown}`);
    head.className = `ruling ${now.level}`;
    const zone = now.zone ? `${now.exceedances_250} of the last 250 days exceeded it: ${ZONES[now.zone][0]} Basel zone ${now.zone}. ` : "";
    const all = now.exceedances === undefined ? "" : `${now.exceedances} of ${now.n.toLocaleString("en-US")} days in all${now.expected === undefined ? "" : `, ${now.expected.toFixed(0)} expected`}. `;
    const note = now.note ? `${now.note[0].toUpperCase()}${now.note.slice(1)}.` : "";
    put(line, `${now.model}: ${zone}${all}${note}`);
    tests.replaceChildren(...TESTS.map(([key, name, meaning]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", { class: "soft" }, meaning), make("td", { class: "n" }, shown(now.p?.[key], "p")))));
    const rows = [[now.model, now, true], ...Object.entries(now.alternatives || {}).map(([name, row]) => [name, row, false])];
    others.replaceChildren(...rows.map(([name, row, own]) => make("tr", { class: own ? "own" : undefined },
      make("th", { scope: "row" }, own ? `${name} (shown)` : name), td(row.ql, "score"), td(row.fz, "score"), td(row.exceedances, "number"), make("td", {}, mark(row.level)))));
  };
}

const th = (text, cls) => make("th", { scope: "col", class: cls }, text);
const td = (value, format) => make("td", { class: "n" }, shown(value, format));

// --- alerts ---------------------------------------------------------------------------------------------------------
const ORDER = ["critical", "high", "medium", "low"];

function rail(body, spec, tools) {
  const list = make("ul", { class: "alerts" });
  body.append(list);
  return (state, data) => {
    const rows = Object.entries(data).sort(([, a], [, b]) => ORDER.indexOf(a.priority) - ORDER.indexOf(b.priority) || (a.as_of < b.as_of ? 1 : -1));
    const signature = JSON.stringify(rows) + rows.map(([, row]) => row.position in (state.positions || {}));
    if (list.dataset.of === signature) return;
    list.dataset.of = signature;
    put(tools, `${rows.length} open`);
    list.replaceChildren(...rows.map(([key, row]) => {
      const [, , level] = PRIORITIES[row.priority] || PRIORITIES.low;
      const leads = row.position && row.position in (state.positions || {});
      const meta = [row.model, shown(row.as_of, "minute")].filter(Boolean).join(" · ");
      return make("li", { "data-level": level, "data-key": key }, mark(row.priority, PRIORITIES),
        leads ? link(row.position, row.title) : make("span", { class: "title" }, row.title),
        make("span", { class: "soft" }, leads ? `${meta} · to the position ↓` : meta));
    }));
  };
}

// --- limits ---------------------------------------------------------------------------------------------------------
const WORD = { var: "VaR", es: "ES", daily_loss: "Daily loss" };

function limits(body) {
  const list = make("ul", { class: "limits" });
  body.append(list);
  return (state, data) => {
    const rows = Object.entries(data).sort(([, a], [, b]) => (b.utilisation ?? 9) - (a.utilisation ?? 9));
    list.replaceChildren(...rows.map(([key, row]) => {
      const [, , level] = LIMITS[row.state] || LIMITS.unknown;
      const format = row.hard > 1 ? "times" : "percent";
      const fill = make("span", { class: "fill" });
      const ticks = [row.warning, row.soft].map((at) => {
        const tick = make("span", { class: "tick" });
        tick.style.left = `${(100 * at) / row.hard}%`;
        return tick;
      });
      fill.style.width = `${Math.min(100, 100 * Math.max(0, row.utilisation ?? 0))}%`;
      const name = (WORD[row.measure] || row.measure.replace("_", " ").replace(/^./, (c) => c.toUpperCase())) + (row.scope === "all" ? "" : ` · ${row.scope}`);
      const least = row.why ? "at least " : "";
      const words = [
        row.value === undefined ? missing(state, `limits.${key}`) || "" : `${least}${shown(row.value, format)} of ${shown(row.hard, format)} (${shown(row.utilisation, "meter")})`,
        row.stands ? `stands at ${LIMITS[row.stands]?.[1] || row.stands}` : "",
        row.why && row.measure === "es" && row.why === data[key.replace("es:", "var:")]?.why ? "why: as the VaR" : above(state, row.why) || row.old || "",
      ].filter(Boolean).join("; ") || "not known";
      return make("li", { "data-key": key, title: `Warning ${shown(row.warning, format)}, soft ${shown(row.soft, format)}, hard ${shown(row.hard, format)}` },
        make("p", { class: "row" }, make("strong", {}, name), mark(row.state, LIMITS)),
        make("span", { class: "track", "data-level": level, "aria-hidden": "true" }, fill, ...ticks),
        make("p", { class: "row soft" }, make("span", { class: "words", title: words }, words), make("span", {}, `owner ${row.owner}`)));
    }));
  };
}
