// Charts that were drawn by the server: figures under the pointer, and a time to look at more closely.
// Without this file each column still has its title. What is shown is text that the server wrote, never markup.

import { say } from "./app.js";

const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;

function wordsOf(column) {
  // the browser would show a title of its own beside ours
  const title = column.querySelector("title");
  if (title) {
    column.dataset.words = title.textContent;
    title.remove();
  }
  return (column.dataset.words ?? "").split("\n");
}

function fill(column) {
  const [name, ...lines] = wordsOf(column);
  const head = document.createElement("b");
  head.textContent = name;
  tip.replaceChildren(head);
  for (const line of lines) {
    const [label, value] = line.split("\t");
    const row = document.createElement("div");
    row.className = "tip-line";
    for (const text of [label, value ?? ""]) {
      const part = document.createElement("span");
      part.textContent = text;
      row.append(part);
    }
    tip.append(row);
  }
}

class Chart {
  constructor(plot) {
    this.plot = plot;
    this.figure = plot.closest("figure");
    this.edges = (this.figure.dataset.edges ?? "").split(" ").filter(Boolean).map(Number);
    this.at = -1;
    this.from = -1;
    for (const column of this.columns) wordsOf(column);
    plot.addEventListener("pointermove", (event) => { this.over(event); });
    plot.addEventListener("pointerleave", () => { if (this.from < 0) this.leave(); });
    plot.addEventListener("focus", () => { if (plot.matches(":focus-visible")) this.show(this.columns.length - 1); });
    plot.addEventListener("blur", () => { this.leave(); });
    plot.addEventListener("keydown", (event) => { this.key(event); });
    if (this.edges.length > 2) {
      plot.addEventListener("pointerdown", (event) => { this.begin(event); });
      plot.addEventListener("pointerup", (event) => { this.end(event); });
      plot.addEventListener("pointercancel", () => { this.pick(-1, -1); });
    }
  }

  get columns() { return [...this.plot.querySelectorAll(".col")]; }

  place(event) {
    const box = this.plot.getBoundingClientRect();
    const part = (event.clientX - box.left) / box.width;
    const columns = this.columns.length;
    return Math.min(columns - 1, Math.max(0, Math.floor(part * columns)));
  }

  over(event) {
    this.show(this.place(event));
    if (this.from >= 0) this.pick(this.from, this.at);
  }

  show(number) {
    const columns = this.columns;
    if (number < 0 || number >= columns.length) return;
    columns[this.at]?.classList.remove("on");
    this.at = number;
    columns[number].classList.add("on");
    fill(columns[number]);
    if (tip.parentElement !== this.figure) this.figure.append(tip);
    tip.hidden = false;
    const box = this.plot.getBoundingClientRect();
    const frame = this.figure.getBoundingClientRect();
    const middle = box.left - frame.left + ((number + 0.5) * box.width) / columns.length;
    const left = middle < frame.width / 2 ? middle + 14 : middle - tip.offsetWidth - 14;
    tip.style.setProperty("left", `${Math.max(4, Math.min(frame.width - tip.offsetWidth - 4, left))}px`);
    tip.style.setProperty("top", `${box.top - frame.top + 4}px`);
  }

  leave() {
    this.columns[this.at]?.classList.remove("on");
    this.at = -1;
    tip.hidden = true;
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const last = this.columns.length - 1;
    this.show(Math.min(last, Math.max(0, (this.at < 0 ? last : this.at) + step)));
    say(wordsOf(this.columns[this.at]).join(", ").replaceAll("\t", " "));
  }

  begin(event) {
    if (event.button !== 0 || event.pointerType === "touch") return;
    this.from = this.place(event);
    this.plot.setPointerCapture(event.pointerId);
  }

  end(event) {
    const [first, last] = [this.from, this.place(event)].sort((a, b) => a - b);
    this.pick(-1, -1);
    if (first >= 0 && last > first) this.zoom(this.edges[first], this.edges[last + 1]);
  }

  pick(first, last) {
    if (first < 0) this.from = -1;
    const [low, high] = [first, last].sort((a, b) => a - b);
    this.columns.forEach((column, n) => { column.classList.toggle("picked", first >= 0 && n >= low && n <= high); });
  }

  zoom(since, until) {
    const address = new URL(location.href);
    const text = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 19) + "+00:00";
    address.searchParams.delete("range");
    address.searchParams.set("since", text(since));
    address.searchParams.set("until", text(until));
    location.assign(address);
  }
}

export function charts(within) {
  for (const plot of within.querySelectorAll("svg.plot")) new Chart(plot);
}
charts(document);
