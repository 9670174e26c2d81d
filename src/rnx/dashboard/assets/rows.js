// A list of any length, of which only the rows in sight are elements. A browser cannot make an element as high as a
// million rows, so beyond HIGHEST the bar moves through the list in larger steps.

import { el } from "./dom.js";

const HIGHEST = 10_000_000;
const BEYOND = 10;

export class Rows {
  // `height` of a row in pixels; `draw(index)` makes one; `head` stays at the top.
  constructor({ height, draw, label, head, role, onscroll }) {
    this.height = height;
    this.draw = draw;
    this.onscroll = onscroll;
    this.count = 0;
    this.drawn = "";
    this.pending = false;
    this.window = el("div", { class: "window", role: role === "table" ? "rowgroup" : null });
    this.space = el("div", { class: "space" }, this.window);
    this.element = el("div", { class: "rows", tabIndex: 0, role: role ?? "region", ariaLabel: label }, head, this.space);
    this.element.addEventListener("scroll", () => this.later(true), { passive: true });
    this.observer = new ResizeObserver(() => this.later(false));
    this.observer.observe(this.element);
  }

  // The number of rows, and a version that changes with the content of rows in sight.
  set(count, version) {
    this.count = count;
    this.version = version;
    this.later(false);
  }

  later(scrolled) {
    this.scrolled ||= scrolled;
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.refresh();
      if (this.scrolled) this.onscroll?.();
      this.scrolled = false;
    });
  }

  get full() { return this.count * this.height; }
  get shown() { return Math.min(this.full, HIGHEST); }
  get room() { return this.element.clientHeight; }

  // The first row in sight, with its fraction.
  get top() {
    const way = this.shown - this.room;
    if (way <= 0) return 0;
    return (Math.min(this.element.scrollTop, way) / way) * ((this.full - this.room) / this.height);
  }

  get atEnd() {
    return this.element.scrollTop >= this.element.scrollHeight - this.room - this.height * 1.5;
  }

  toEnd() {
    this.refresh();
    this.element.scrollTop = this.element.scrollHeight;
    this.refresh();
  }

  to(index) {
    const way = this.shown - this.room;
    this.element.scrollTop = way <= 0 ? 0 : (way * index * this.height) / (this.full - this.room);
    this.later(false);
  }

  // The rows in sight: first, and behind the last.
  get range() {
    const first = Math.max(0, Math.floor(this.top) - BEYOND);
    return [first, Math.min(this.count, Math.ceil(this.top + this.room / this.height) + BEYOND)];
  }

  refresh() {
    const height = `${this.shown}px`;
    if (this.space.style.height !== height) this.space.style.height = height;
    const [first, end] = this.range;
    const offset = this.full > HIGHEST ? this.element.scrollTop - (this.top - first) * this.height : first * this.height;
    const key = `${first}:${end}:${this.version}:${this.height}`;
    this.window.style.transform = `translateY(${offset}px)`;
    if (key === this.drawn) return;
    this.drawn = key;
    const rows = [];
    for (let index = first; index < end; index += 1) rows.push(this.draw(index));
    // A row that stays is not moved: a click on it may be half done.
    const kept = new Set(rows);
    for (const row of [...this.window.children]) if (!kept.has(row)) row.remove();
    let next = this.window.firstChild;
    for (const row of rows) {
      if (row === next) next = next.nextSibling;
      else this.window.insertBefore(row, next);
    }
  }

  close() { this.observer.disconnect(); }
}
