// What is recorded while a page is open appears on it. One stream from the server while the page is looked at; a page
// that is hidden hangs up, and asks what it missed when it is seen again. What comes is the server's own page, of which
// the parts that changed are put in the place of the old ones.

import { say } from "./app.js";
import { charts } from "./charts.js";

const main = document.getElementById("content");
const fresh = document.getElementById("fresh");
const asks = "asks" in main.dataset; // not at the newest: tell, and change nothing under the reader's eyes
const every = Number(main.dataset.every ?? 2000);
let seen = main.dataset.seen ?? "";
let stream = null;
let timer = 0;
let last = 0;
let asked = false;
const shown = new Map();

function partsOf(page) {
  const parts = new Map();
  for (const part of page.querySelectorAll("[data-live][id]")) parts.set(part.id, part);
  return parts;
}

function entriesOf(page) {
  return [...(page.querySelector("[data-live-list]")?.children ?? [])].filter((entry) => entry.id);
}

// what the server wrote last, to tell what it changed from what the reader unfolded
function remember(page) {
  for (const part of [...partsOf(page).values(), ...entriesOf(page)]) shown.set(part.id, part.outerHTML);
}

// the server's page as a document that does nothing: its scripts never run, and no markup is assigned anywhere
function load() {
  return new Promise((resolve, reject) => {
    const asking = new XMLHttpRequest();
    asking.responseType = "document";
    asking.open("GET", location.pathname + location.search);
    asking.onload = () => { asking.status === 200 && asking.response ? resolve(asking.response) : reject(new Error("no page")); };
    asking.onerror = reject;
    asking.send();
  });
}

function busy(part) {
  return part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")
    || part.matches("figure") && !(part.querySelector(".tip")?.hidden ?? true);
}

function exchange(old, part) {
  const key = old.querySelector("[data-row].at")?.dataset.key;
  const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const known = new Set([...old.querySelectorAll("[data-key]")].map((row) => row.dataset.key));
  const now = document.adoptNode(part);
  old.replaceWith(now);
  for (const row of now.querySelectorAll("[data-key]")) {
    if (!known.has(row.dataset.key)) row.classList.add("came");
    if (row.dataset.key === key) row.classList.add("at");
  }
  if (focused) [...now.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus({ preventScroll: true });
  charts(now);
}

function changeParts(page) {
  const mine = partsOf(document);
  for (const [id, part] of partsOf(page)) {
    const html = part.outerHTML;
    if (shown.get(id) === html) continue;
    const old = mine.get(id);
    if (!old || busy(old)) continue;
    shown.set(id, html);
    exchange(old, part);
  }
}

function changeEntries(page) {
  const list = document.querySelector("[data-live-list]");
  if (!list) return;
  const atEnd = window.innerHeight + window.scrollY > document.documentElement.scrollHeight - 160;
  let added = 0;
  for (const entry of entriesOf(page)) {
    const html = entry.outerHTML;
    if (shown.get(entry.id) === html) continue;
    shown.set(entry.id, html);
    const old = document.getElementById(entry.id);
    const now = document.adoptNode(entry);
    if (old) {
      const open = [...old.querySelectorAll("details")].map((fold) => fold.open);
      now.querySelectorAll("details").forEach((fold, n) => { fold.open = open[n] ?? fold.open; });
      old.replaceWith(now);
    } else {
      now.classList.add("came");
      list.append(now);
      added += 1;
    }
  }
  document.getElementById("no-turn")?.remove();
  if (atEnd && added > 0) window.scrollTo({ top: document.documentElement.scrollHeight });
  if (added > 0) say(`${added} new`);
}

async function refresh() {
  timer = 0;
  last = performance.now();
  if (document.hidden) { asked = true; return; }
  try {
    const page = await load();
    seen = page.getElementById("content")?.dataset.seen ?? seen;
    if (!!page.getElementById("now") !== !!document.getElementById("now")) place(page);
    changeParts(page);
    changeEntries(page);
  } catch {
    // the server is away; the stream says when it is back
  }
}

// the list of what runs comes and goes as a whole
function place(page) {
  const part = page.getElementById("now");
  const old = document.getElementById("now");
  if (old) old.remove();
  else document.getElementById("figures")?.after(document.adoptNode(part));
}

function changed(pulse) {
  if (pulse === seen) return;
  seen = pulse;
  if (asks) {
    if (fresh) fresh.hidden = false;
    return;
  }
  if (!timer) timer = setTimeout(refresh, Math.max(60, every - (performance.now() - last)));
}

// --- a running answer, word by word
function block(within, said) {
  const id = `block-${said.block}`;
  let place = [...within.children].find((one) => one.dataset.block === id);
  if (!place) {
    place = document.createElement("div");
    place.dataset.block = id;
    place.className = { thinking: "coming-thinking", tool_call: "coming-tool" }[said.kind] ?? "coming-text";
    if (said.kind === "tool_call") place.append(document.createTextNode(`${said.name ?? "tool"} `));
    place.append(document.createTextNode(""));
    within.append(place);
  }
  return place.lastChild;
}

function answer(told) {
  const within = [...document.querySelectorAll(".coming")].find((one) => one.dataset.exchange === told.exchange);
  if (!within) return;
  const atEnd = window.innerHeight + window.scrollY > document.documentElement.scrollHeight - 200;
  for (const said of told.said) {
    const text = block(within, said);
    if (said.at !== text.length) text.data = "";
    text.appendData(said.text);
  }
  if (atEnd) window.scrollTo({ top: document.documentElement.scrollHeight });
}

// --- the stream
function open() {
  if (stream || document.hidden || !main.dataset.pulse) return;
  for (const within of document.querySelectorAll(".coming")) within.replaceChildren();
  const address = new URL(main.dataset.pulse, location.origin);
  address.searchParams.set("seen", seen);
  stream = new EventSource(address);
  stream.addEventListener("pulse", (event) => { changed(JSON.parse(event.data).pulse); });
  stream.addEventListener("answer", (event) => { answer(JSON.parse(event.data)); });
}

function close() {
  stream?.close();
  stream = null;
}

if (main.dataset.pulse) {
  remember(document);
  fresh?.addEventListener("click", () => { location.reload(); });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) close();
    else {
      open();
      if (asked) { asked = false; refresh(); }
    }
  });
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  open();
}

// --- how long what runs has been running
function span(ms) {
  const seconds = ms / 1000;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return whole % 60 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${Math.floor(whole / 60)} min`;
}
let ticking = 0;
function tick() {
  ticking = 0;
  const running = document.hidden ? [] : [...document.querySelectorAll(".elapsed")];
  for (const one of running) one.textContent = span(Math.max(0, Date.now() - Number(one.dataset.since)));
  ticking = document.hidden ? 0 : setTimeout(tick, running.length > 0 ? 1000 : 3000);
}
if (document.getElementById("figures")) {
  tick();
  document.addEventListener("visibilitychange", () => { if (!ticking) tick(); });
}
