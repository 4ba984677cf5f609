// Small comforts; every page works without this file. Nothing here reads recorded content as anything but text.

const said = document.getElementById("said");

function say(words) {
  said.textContent = words;
}

// --- theme: system, light, dark; kept in a cookie so that the server can render it without a flash
const THEMES = ["system", "light", "dark"];
const themeButton = document.getElementById("theme");

function showTheme(theme) {
  const word = `Theme: ${theme}`;
  themeButton.querySelector(".theme-word").textContent = word;
  themeButton.setAttribute("aria-label", `${word}. Change it`);
  themeButton.title = word;
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
themeButton.addEventListener("click", () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  setTheme(theme);
});

// --- open and close all folds of a conversation
const talk = document.querySelector("article.talk");
const folds = talk ? [...talk.querySelectorAll("details.fold")] : [];
const foldButton = document.getElementById("folds");
if (foldButton && folds.length > 0) {
  foldButton.hidden = false;
  foldButton.addEventListener("click", () => {
    const open = folds.some((fold) => !fold.open);
    for (const fold of folds) fold.open = open;
    foldButton.textContent = open ? "Fold all" : "Unfold all";
  });
}

// --- copy a body as shown
for (const button of document.querySelectorAll("button.copy")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy)?.textContent ?? "";
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not copied";
    }
    say(button.textContent);
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}

// --- keys: "/" searches
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target instanceof Element && event.target.closest("input, select, textarea")) return;
  const search = document.getElementById("q");
  if (!search) return;
  event.preventDefault();
  search.focus();
  search.select();
});

// --- tell that something was recorded since; asked only while the page is looked at
const fresh = document.getElementById("fresh");
const EVERY_MS = 3000;

async function pulse() {
  const answer = await fetch(fresh.dataset.pulse, { headers: { Accept: "application/json" } });
  return answer.ok ? (await answer.json()).pulse : null;
}

async function watch() {
  if (document.hidden || !fresh.hidden) return;
  try {
    const now = await pulse();
    if (now !== null && now !== fresh.dataset.seen) fresh.hidden = false;
  } catch {
    // the server is away; the next look may find it again
  }
}

if (fresh) {
  fresh.addEventListener("click", () => { location.reload(); });
  setInterval(watch, EVERY_MS);
  document.addEventListener("visibilitychange", watch);
}
