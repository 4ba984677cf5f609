// A JSON body as a tree to unfold and to search. It is built of text nodes, as far as it is looked at; the text that the
// server laid out stays the exact one (here a number may lose digits, and of doubled keys the last one stays).

import { say } from "./app.js";

const PIECE = 200; // entries of one object that are shown at a time
const FOUND_MOST = 500;
const LONG = 4000;

const button = document.getElementById("tree");

function element(name, kind, text) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

function few(value) {
  const count = Array.isArray(value) ? value.length : Object.keys(value).length;
  const hint = ["type", "role", "name", "id"].map((key) => (typeof value[key] === "string" ? value[key] : "")).filter(Boolean);
  const word = Array.isArray(value) ? `[${count}]` : `{${count}}`;
  return hint.length > 0 ? `${word} ${hint.join(" · ").slice(0, 120)}` : word;
}

function shownLeaf(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > LONG ? `${text.slice(0, LONG)} … ${(text.length - LONG).toLocaleString("en")} more characters` : text;
}

function node(key, value) {
  if (value === null || typeof value !== "object") {
    const leaf = element("div", "leaf");
    if (key !== null) leaf.append(element("span", "key", key), document.createTextNode(": "));
    const kind = typeof value === "string" ? "s" : typeof value === "number" ? "mi" : "kc";
    leaf.append(element("span", kind, shownLeaf(value)));
    return leaf;
  }
  const fold = element("details");
  const head = element("summary");
  if (key !== null) head.append(element("span", "key", key), document.createTextNode(" "));
  head.append(element("span", "note", few(value)));
  fold.append(head);
  fold.addEventListener("toggle", () => { if (fold.open) grow(fold, value); });
  fold.grow = () => { grow(fold, value); };
  fold.value = value;
  return fold;
}

function grow(fold, value) {
  if (fold.dataset.grown) return;
  fold.dataset.grown = "yes";
  more(fold, Object.entries(value), 0);
}

function more(fold, entries, start) {
  for (const [key, value] of entries.slice(start, start + PIECE)) fold.append(node(key, value));
  const left = entries.length - start - PIECE;
  if (left <= 0) return;
  const next = element("button", "quiet", `${left.toLocaleString("en")} more`);
  next.type = "button";
  next.addEventListener("click", () => { next.remove(); more(fold, entries, start + PIECE); });
  fold.append(next);
}

function matches(value, word, path, found) {
  if (found.length >= FOUND_MOST) return;
  if (value === null || typeof value !== "object") {
    if (String(value).toLowerCase().includes(word)) found.push(path);
    return;
  }
  for (const [key, inner] of Object.entries(value)) {
    if (key.toLowerCase().includes(word)) found.push([...path, key]);
    else matches(inner, word, [...path, key], found);
  }
}

function reveal(root, path) {
  let at = root;
  for (const key of path) {
    if (!at?.grow) return null;
    at.grow();
    at.open = true;
    let child = null;
    for (;;) {
      child = [...at.children].find((one) => one.querySelector?.(":scope > .key, :scope > summary > .key")?.textContent === key);
      const next = at.querySelector(":scope > button");
      if (child || !next) break;
      next.click();
    }
    at = child;
  }
  return at;
}

function build(value) {
  const whole = element("div", "tree-whole");
  const bar = element("div", "tree-find");
  const label = element("label", "visually-hidden", "Find in the tree");
  const input = element("input");
  Object.assign(input, { type: "search", id: "find-tree", placeholder: "Find in the tree", autocomplete: "off", spellcheck: false });
  label.htmlFor = "find-tree";
  const count = element("span", "soft");
  bar.append(label, input, count);
  const tree = element("div", "tree");
  const root = node(null, value);
  tree.append(root);
  if (root.grow) root.open = true;
  whole.append(bar, tree);
  let found = [];
  let at = -1;
  function step() {
    for (const old of tree.querySelectorAll(".hitted")) old.classList.remove("hitted");
    if (found.length === 0) return;
    at = (at + 1) % found.length;
    const place = reveal(root, found[at]);
    const mark = place?.matches("details") ? place.querySelector("summary") : place;
    mark?.classList.add("hitted");
    mark?.scrollIntoView({ block: "center" });
    count.textContent = `${at + 1} of ${found.length}${found.length >= FOUND_MOST ? "+" : ""}`;
    say(count.textContent);
  }
  input.addEventListener("input", () => {
    const word = input.value.trim().toLowerCase();
    found = [];
    at = -1;
    if (word) matches(value, word, [], found);
    count.textContent = word ? (found.length > 0 ? "" : "nothing") : "";
    step();
  });
  input.addEventListener("keydown", (event) => { if (event.key === "Enter") step(); });
  return whole;
}

async function open() {
  const answer = await fetch(button.dataset.body);
  return build(JSON.parse(await answer.text()));
}

if (button) {
  const text = document.getElementById(button.dataset.text);
  let tree = null;
  button.hidden = !text;
  button.addEventListener("click", async () => {
    try {
      tree ??= await open();
    } catch {
      button.hidden = true;
      say("This body is no whole JSON text");
      return;
    }
    const shown = tree.isConnected;
    if (shown) tree.replaceWith(text);
    else text.replaceWith(tree);
    button.textContent = shown ? "Tree" : "Text";
    if (!shown) tree.querySelector("input").focus();
  });
}
