// A table of many rows: sorted, filtered, and only what changed is written.
import { LEVELS, NONE, age, make, put, shown } from "./format.js";
import { csvButton } from "./export.js";

const NUMBERS = new Set(["money", "gain", "percent", "gain_percent", "number", "points", "price", "times", "days", "age", "bar", "version"]);
const tables = new Map();

// Show a position's row, whatever is filtered, and put the focus there.
export function reveal(key, topic = "positions") {
  tables.get(topic)?.reveal(key);
}

export function table(body, spec, tools) {
  const { options, parts: columns } = spec;
  const rows = new Map();
  const downwards = (column) => column === undefined || (column.format !== "text" && !column.negate); // a loss first
  let sort = { of: options.sort, down: downwards(columns.find((c) => c.of === options.sort)) };
  let words = "";
  let chosen = options.choose?.[0];
  let last = null;

  const heads = columns.map((column) => make("button", { type: "button", title: column.help || undefined, onclick: () => turn(column) }, column.label));
  const tbody = make("tbody");
  const notes = columns.findIndex((c) => c.format === "note"); // no column of its own: a line under the row, as wide as what is seen
  const head = make("tr", {}, ...columns.filter((c) => c.format !== "note").map((c, i) => make("th", { scope: "col", class: NUMBERS.has(c.format) ? "n" : undefined }, heads[i])));
  const grid = make("table", { class: "grid" }, make("thead", {}, head), tbody);
  const frame = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${spec.title}, table` }, grid);
  frame.style.setProperty("--rows", options.rows || 10);
  const count = make("span", { class: "count", role: "status" });
  if (options.filter) {
    const input = make("input", { type: "search", placeholder: "Filter", "aria-label": `Filter ${spec.title.toLowerCase()}`, oninput: () => { words = input.value.toLowerCase().trim(); arrange(); } });
    tools.append(count, input);
    tables.set(spec.topic, { reveal: (key) => { input.value = words = ""; arrange(); focus(key); } });
  }
  if (options.choose) tools.append(chooser());
  tools.append(csvButton(spec.id, () => [columns.map((c) => c.label), ...[...tbody.children].filter((node) => !node.hidden).map((node) => columns.map((c) => field(node.dataset.key, rows.get(node.dataset.key).data, c.of)))]));
  body.append(frame);
  // What is cut off at the right fades, so that it is seen to go on.
  const hint = () => {
    frame.style.setProperty("--seen", `${frame.clientWidth}px`);
    frame.classList.toggle("more", frame.scrollLeft + frame.clientWidth < frame.scrollWidth - 4);
  };
  frame.addEventListener("scroll", hint, { passive: true });
  new ResizeObserver(hint).observe(frame);

  function chooser() {
    const buttons = options.choose.map((name) => make("button", { type: "button", "aria-pressed": String(name === chosen), onclick: () => {
      chosen = name;
      buttons.forEach((b, i) => b.setAttribute("aria-pressed", String(options.choose[i] === name)));
      if (last) show(...last);
    } }, name));
    return make("div", { class: "choose", role: "group", "aria-label": "By" }, ...buttons);
  }

  function turn(column) {
    const down = sort.of === column.of ? !sort.down : NUMBERS.has(column.format) && !column.negate;
    sort = { of: column.of, down };
    arrange();
  }

  const negated = new Set(columns.filter((c) => c.negate).map((c) => c.of));
  const field = (key, row, of) => (of === "@key" ? key : negated.has(of) && typeof row[of] === "number" ? 0 - row[of] : row[of]);

  function arrange() {
    heads.forEach((_, i) => head.children[i]?.setAttribute("aria-sort", columns[i].of !== sort.of ? "none" : sort.down ? "descending" : "ascending"));
    const ordered = [...rows.entries()].sort(([a, x], [b, y]) => order(field(a, x.data, sort.of), field(b, y.data, sort.of), sort.down) || (a < b ? -1 : 1));
    let shownRows = 0;
    let place = tbody.firstChild;
    for (const [key, row] of ordered) {
      const hit = !words || options.filter.some((of) => String(field(key, row.data, of) ?? "").toLowerCase().includes(words));
      row.node.hidden = !hit;
      shownRows += hit;
      if (row.node === place) place = place.nextSibling;
      else tbody.insertBefore(row.node, place);
    }
    put(count, words ? `${shownRows} of ${rows.size} rows` : `${rows.size} rows`);
  }

  function focus(key) {
    const row = rows.get(key);
    if (!row) return;
    for (const other of rows.values()) other.node.classList.remove("hit");
    row.node.classList.add("hit");
    row.node.tabIndex = -1;
    frame.scrollIntoView({ block: "nearest" });
    frame.scrollTop = row.node.offsetTop - frame.clientHeight / 3;
    row.node.focus({ preventScroll: true });
  }

  function show(state, data) {
    last = [state, data];
    const all = chosen ? data[chosen] || {} : data;
    let moved = false;
    for (const [key, row] of rows) {
      if (!(key in all)) {
        row.node.remove();
        rows.delete(key);
        moved = true;
      }
    }
    for (const [key, data] of Object.entries(all)) {
      let row = rows.get(key);
      if (!row) {
        const cells = columns.map((column, i) => cell(column, i));
        for (const one of cells) one.was = NaN; // nothing is shown yet
        row = { node: make("tr", { "data-key": key }, ...cells.filter((_, i) => i !== notes).map((c) => c.node)), cells };
        if (notes >= 0) cells[0].node.append(cells[notes].node);
        rows.set(key, row);
        moved = true;
      }
      row.data = data;
      row.cells.forEach((one, i) => {
        const value = field(key, data, columns[i].of);
        const old = columns[i].old ? `${data[columns[i].old]} ${data[columns[i].other]}` : columns[i].none ? data[columns[i].none] : undefined;
        if (value === one.was && old === one.old && columns[i].format !== "age") return;
        one.was = value;
        one.old = old;
        one.show(value, data, state);
        if (i === notes) row.node.classList.toggle("noted", Boolean(value));
      });
    }
    // Rows do not run away from under a pointer or the keyboard.
    if (moved || !frame.matches(":hover, :focus-within")) arrange();
    if (moved) hint();
  }
  return show;
}

function order(a, b, down) {
  const none = (v) => v === undefined || v === null || v === "";
  if (none(a) || none(b)) return none(a) - none(b);
  const way = typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
  return down ? -way : way;
}

function cell(column, index) {
  const node = make(index === 0 ? "th" : "td", { scope: index === 0 ? "row" : undefined, class: NUMBERS.has(column.format) ? `n ${column.format}` : column.format });
  const kind = CELLS[column.format] || plain;
  if (column.format === "note") return { node: make("span", { class: "note" }), show(value) { put(this.node, value || ""); this.node.title = value || ""; } };
  if (index > 0) return { node, show: kind(node, column) };
  const text = make("span"); // a note may stand under it
  node.append(text);
  return { node, show: kind(text, column) };
}

function plain(node, column) {
  return (value, row) => {
    const text = column.none && value === undefined && row[column.none] ? column.none : shown(value, column.format);
    const old = column.old && row[column.old];
    const other = column.other && row[column.other];
    put(node, `${old ? "◷ " : ""}${text}${other === undefined || other === "" ? "" : ` ? ${shown(other, column.format)}`}`);
    if (column.old) {
      node.classList.toggle("old", Boolean(old || other));
      node.title = other ? `Quoted at ${shown(other, column.format)} since, which nothing confirms yet: it does not count.` : old ? "This price is old." : "";
    }
    if (column.format === "text" && text.length > 24) node.title = text;
  };
}

const CELLS = {
  gain: signed,
  gain_percent: signed,
  age: (node) => (value, row, state) => put(node, value === undefined ? NONE : age((Date.parse(state.as_of) - Date.parse(value)) / 1000)),
  bar: (node, column) => {
    const fill = make("span", { class: "fill" });
    const text = make("span");
    node.append(make("span", { class: "track", "aria-hidden": "true" }, fill), text);
    return (value) => {
      put(text, shown(value, column.format));
      const size = `${Math.min(100, 100 * Math.abs(value ?? 0) / column.full)}%`;
      if (fill.style.width !== size) fill.style.width = size;
      fill.classList.toggle("minus", value < 0);
    };
  },
  level: marked(LEVELS),
};

function signed(node, column) {
  return (value) => {
    put(node, shown(value, column.format));
    node.classList.toggle("up", value > 0);
    node.classList.toggle("down", value < 0);
  };
}

function marked(table) {
  return (node) => (value) => {
    const [sign, word, kind] = table[value] || table.unknown;
    put(node, `${sign} ${word}`);
    node.className = `mark ${kind || value}`;
  };
}
