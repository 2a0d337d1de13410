// The feed's state, kept up to date, and the cards that show it. Nothing is computed here.
import { age, setCurrency, time, put } from "./format.js";
import { mounted } from "./cards.js";
import { reveal } from "./table.js";

const root = document.documentElement;
const staleAfter = Number(document.body.dataset.staleS) * 1000;
const GIVE_UP_MS = Math.max(15000, 3 * staleAfter); // a connection that says nothing for so long is taken for dead
const FIRST_WAIT_MS = 300;
const LONGEST_WAIT_MS = 5000;

let state = null;
let seq = 0;
let heard = performance.now(); // the last message
let tried = 0; // the last attempt to connect
let saidAt = "";
let socket = null;
let wait = FIRST_WAIT_MS;
let refused = "";
let touched = new Set();
let drawing = false;
const cards = [...document.querySelectorAll("[data-card]")].map(mounted);

// RFC 7386, in place.
export function merge(target, patch) {
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete target[key];
    else if (typeof value === "object" && !Array.isArray(value)) {
      const inner = target[key];
      const into = inner && typeof inner === "object" && !Array.isArray(inner) ? inner : {};
      target[key] = merge(into, value);
    } else target[key] = value;
  }
  return target;
}

function connect() {
  const url = new URL("/feed", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  if (seq) url.searchParams.set("since", seq);
  socket = new WebSocket(url);
  tried = performance.now();
  socket.onmessage = (event) => take(JSON.parse(event.data));
  socket.onclose = (event) => {
    socket = null;
    if (event.code === 4401) return location.assign("/login");
    if (event.code === 4429) refused = event.reason;
    setTimeout(connect, wait * (0.75 + Math.random() / 2));
    wait = Math.min(2 * wait, LONGEST_WAIT_MS);
    tell();
  };
}

function take(message) {
  if (message.type === "delta" && message.prev !== seq) {
    seq = 0; // a gap: start from a snapshot
    return socket.close();
  }
  heard = performance.now();
  wait = FIRST_WAIT_MS;
  refused = "";
  seq = message.seq;
  saidAt = message.at;
  if (message.type === "snapshot") {
    state = message.state;
    touched = null;
  } else if (message.type === "delta") {
    merge(state, message.patch);
    if (touched) for (const key of Object.keys(message.patch)) touched.add(key);
  }
  if (!drawing) {
    drawing = true;
    requestAnimationFrame(draw);
  }
}

function draw() {
  drawing = false;
  setCurrency(state.currency);
  const all = touched === null || touched.has("missing") || touched.has("currency");
  for (const card of cards) {
    if (all || card.topics.some((topic) => touched.has(topic))) card.show(state);
  }
  touched = new Set();
  tell();
  if (location.hash.startsWith("#row:")) {
    reveal(decodeURIComponent(location.hash.slice(5)));
    history.replaceState(null, "", location.pathname);
  }
  document.dispatchEvent(new CustomEvent("shown", { detail: { seq, at: saidAt, shownAt: performance.timeOrigin + performance.now() } }));
}

const connection = document.getElementById("connection");
const asof = document.getElementById("asof");
const ages = document.getElementById("ages");
const banner = document.getElementById("banner");

// How old what is priced is: [the newest, the oldest, how many are old, of how many].
function prices() {
  const rows = Object.values(state?.positions || {}).filter((row) => row.priced_at);
  const ages = rows.map((row) => (Date.parse(state.as_of) - Date.parse(row.priced_at)) / 1000);
  return [Math.min(...ages), Math.max(...ages), rows.filter((row) => row.stale).length, rows.length];
}

function tell() {
  const silent = performance.now() - heard;
  const open = socket !== null && socket.readyState === WebSocket.OPEN;
  if (socket !== null && performance.now() - Math.max(heard, tried) > GIVE_UP_MS) socket.close();
  const news = !open ? "off" : state === null ? "waiting" : silent > staleAfter ? "stale" : state.clock === "replay" ? "replay" : "live";
  const words = { off: "✕ Not connected", waiting: "… Waiting", stale: "▲ Stale", replay: "▶ Replay", live: "● Live", old: "▲ Prices old" };
  const [newest, oldest, old, many] = prices();
  const badge = news === "live" && many && old === many ? "old" : news;
  root.dataset.news = news;
  connection.dataset.of = badge;
  put(connection, words[badge]);
  const behind = Math.max(0, (Date.parse(saidAt) - Date.parse(state?.as_of)) / 1000 || 0);
  put(ages, state === null ? "" : [
    `connection ${open ? age((performance.now() - heard) / 1000) : "none"}`,
    `computed ${age((state.clock === "replay" ? 0 : behind) + silent / 1000)}`,
    many ? `prices ${age(newest)}${oldest - newest > 1 ? ` to ${age(oldest)}` : ""}${old ? `, ${old} of ${many} old` : ""}` : "no prices",
  ].join(" · "));
  const since = age(silent / 1000);
  if (state !== null) {
    const word = time(state.as_of, state.clock === "replay");
    put(asof, news === "stale" || news === "off" ? `as of ${word}, ${since} without news` : `as of ${word}`);
  }
  const why = {
    off: refused || (state ? "The service does not answer. What you see is old; this page tries again by itself." : "The service does not answer. This page tries again by itself."),
    stale: "Connected, but the service has said nothing new. What you see is old.",
  }[news];
  banner.hidden = !why || (news === "off" && silent < 1500 && !state);
  put(banner, why ? `✕ ${why}` : "");
}

const button = document.getElementById("theme");
function theme(next) {
  const order = ["system", "light", "dark"];
  let chosen = root.dataset.theme || "system";
  if (next) chosen = order[(order.indexOf(chosen) + 1) % order.length];
  if (chosen === "system") delete root.dataset.theme;
  else root.dataset.theme = chosen;
  if (next) localStorage.setItem("theme", chosen);
  put(button, `Theme: ${chosen}`);
}
button.addEventListener("click", () => theme(true));
theme(false);

addEventListener("online", () => socket === null && (wait = FIRST_WAIT_MS));
setInterval(tell, 500);
connect();
tell();
