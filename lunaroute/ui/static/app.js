// Small comforts; every page works without this file. Nothing here reads recorded content as anything but text.

const said = document.getElementById("said");

export function say(words) {
  said.textContent = words;
}

// --- theme: system, light, dark; kept in a cookie so that the server can render it without a flash
const THEMES = ["system", "light", "dark"];
const themeButton = document.getElementById("theme");

function showTheme(theme) {
  const word = `Theme: ${theme}`;
  themeButton.querySelector(".theme-word").textContent = word;
  themeButton.title = `${word}. Change it`;
}

function setTheme(theme) {
  if (theme === "system") {
    delete document.documentElement.dataset.theme;
    document.cookie = "theme=; path=/; max-age=0; samesite=strict";
  } else {
    document.documentElement.dataset.theme = theme;
    document.cookie = `theme=${theme}; path=/; max-age=31536000; samesite=strict`;
  }
  showTheme(theme);
  say(`Theme ${theme}`);
}

let theme = document.documentElement.dataset.theme ?? "system";
showTheme(theme);
themeButton.hidden = false;

function nextTheme() {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  setTheme(theme);
}
themeButton.addEventListener("click", nextTheme);

// --- open and close all folds of a conversation
const talk = document.querySelector("article.talk");
const foldButton = document.getElementById("folds");
const folds = () => (talk ? [...talk.querySelectorAll("details.fold")] : []);

function foldAll() {
  const open = folds().some((fold) => !fold.open);
  for (const fold of folds()) fold.open = open;
  foldButton.textContent = open ? "Fold all" : "Unfold all";
}
if (foldButton && folds().length > 0) {
  foldButton.hidden = false;
  foldButton.addEventListener("click", foldAll);
}

// --- copy a body as shown, or what an address gives
async function textOf(button) {
  if (!button.dataset.from) return document.getElementById(button.dataset.copy)?.textContent ?? "";
  const answer = await fetch(button.dataset.from);
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.text();
}
for (const button of document.querySelectorAll("button.copy")) {
  if (!navigator.clipboard) continue;
  const word = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(await textOf(button));
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not copied";
    }
    say(button.textContent);
    setTimeout(() => { button.textContent = word; }, 1500);
  });
}

// --- a choice in a filter is the question already
for (const form of document.querySelectorAll("form[data-submits]")) {
  for (const select of form.querySelectorAll("select")) select.addEventListener("change", () => { form.requestSubmit(); });
  const apply = form.querySelector(".apply");
  if (apply) apply.hidden = true;
}
// an empty field is no question: it stays out of the address
for (const form of document.querySelectorAll("form[method=get]")) {
  form.addEventListener("submit", () => {
    for (const field of form.querySelectorAll("input, select")) if (!field.value) field.disabled = true;
    setTimeout(() => { for (const field of form.elements) field.disabled = false; }, 0);
  });
}

// --- find in a list that is on the page
for (const input of document.querySelectorAll("input[data-filters]")) {
  const list = document.getElementById(input.dataset.filters);
  const rows = list ? [...list.querySelectorAll("li, tbody tr")] : [];
  if (rows.length < 8) continue;
  input.closest("[hidden]").hidden = false;
  input.addEventListener("input", () => {
    const word = input.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = word !== "" && !row.textContent.toLowerCase().includes(word);
      shown += row.hidden ? 0 : 1;
    }
    say(`${shown} of ${rows.length}`);
  });
}

// --- menus close when something else is clicked
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open], details.own[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

// --- keys
const help = document.getElementById("help");
const keys = document.getElementById("keyboard");
if (help && keys) {
  help.addEventListener("click", (event) => {
    event.preventDefault();
    keys.showModal();
  });
}

const rowsOf = () => [...document.querySelectorAll("[data-row]")].filter((row) => row.checkVisibility());
const steps = () => (rowsOf().length > 0 ? rowsOf() : [...document.querySelectorAll("section.turn")]);

function move(by) {
  const all = steps();
  if (all.length === 0) return;
  const now = all.findIndex((row) => row.classList.contains("at"));
  const seen = all.findIndex((row) => row.getBoundingClientRect().bottom > 80);
  const next = now < 0 ? (by > 0 ? Math.max(0, seen) : all.length - 1) : Math.min(all.length - 1, Math.max(0, now + by));
  if (now >= 0) all[now].classList.remove("at");
  all[next].classList.add("at");
  const link = all[next].querySelector("a");
  link?.focus({ preventScroll: true });
  all[next].scrollIntoView({ block: all[next].matches("section") ? "start" : "nearest" });
}

function escape() {
  const open = document.querySelector("details.menu[open], details.own[open]");
  if (open) {
    open.open = false;
    open.querySelector("summary").focus();
    return;
  }
  const at = document.querySelector(".at");
  if (at) {
    at.classList.remove("at");
    document.activeElement?.blur();
    return;
  }
  const back = document.querySelector(".trail a:last-of-type") ?? document.querySelector(".clear");
  if (back) back.click();
}

function search() {
  const field = document.getElementById("q") ?? document.getElementById("find");
  field?.focus();
  field?.select();
}

const follow = (selector) => () => document.querySelector(selector)?.click();
const COMMANDS = {
  "/": search,
  j: () => { move(1); },
  k: () => { move(-1); },
  Escape: escape,
  "?": () => { keys?.showModal(); },
  t: nextTheme,
  f: () => { if (foldButton && !foldButton.hidden) foldAll(); },
  "[": follow("a[rel=prev]"),
  "]": follow("a[rel=next]"),
  Enter: () => { document.querySelector(".at a")?.click(); },
};
const PLACES = { d: "/", s: "/sessions", a: "/analytics", r: "/routing", e: "/settings" };
let going = 0;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || keys?.open) return;
  const target = event.target instanceof Element ? event.target : null;
  if (target?.closest("input, select, textarea")) {
    if (event.key === "Escape") target.blur();
    return;
  }
  if (event.key === "Enter" && target?.closest("a, button, summary, .plot")) return;
  if (event.key === "g") {
    going = event.timeStamp;
    return;
  }
  if (event.timeStamp - going < 1000 && PLACES[event.key]) {
    location.assign(PLACES[event.key]);
    return;
  }
  const command = COMMANDS[event.key];
  if (!command) return;
  if (event.key !== "Escape" && event.key !== "Enter") event.preventDefault();
  command();
});
