// Curves over the whole life of a job, in bounded memory: when there are too many points, pairs become one.

import { el, svg } from "./dom.js";
import { moment, span } from "./words.js";

const POINTS = 1200;
const [WIDTH, HEIGHT] = [400, 110];

export class Chart {
  // `lines`: names of the curves; `unit` makes words of a number; `limit` is drawn across.
  constructor(title, lines, unit) {
    this.lines = lines;
    this.unit = unit;
    this.points = [];
    this.limit = 0;
    this.step = 1;
    this.now = el("span", { class: "now" }, "n/a");
    this.paths = lines.map((_, at) => svg("path", { class: `curve curve${at}`, fill: "none" }));
    this.bound = svg("line", { class: "bound", x1: 0, x2: WIDTH, visibility: "hidden" });
    this.most = el("span", { class: "most" });
    this.bottom = el("span", { class: "span" });
    this.cursor = svg("line", { class: "cursor", y1: 0, y2: HEIGHT, visibility: "hidden" });
    this.picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img",
      "aria-label": title }, this.bound, this.paths, this.cursor);
    this.picture.addEventListener("pointermove", (event) => this.point(event));
    this.picture.addEventListener("pointerleave", () => { this.cursor.setAttribute("visibility", "hidden"); this.tell(); });
    const legend = lines.length > 1 && lines.map((name, at) => el("span", { class: `key key${at}` }, name));
    this.element = el("figure", { class: "chart" },
      el("figcaption", {}, el("strong", {}, title), legend),
      el("div", { class: "values" }, this.most, this.now), this.picture, this.bottom);
  }

  add(time, values, limit) {
    this.limit = limit || this.limit;
    const last = this.points.at(-1);
    if (last && last.used < this.step) {
      last.values = last.values.map((value, at) => Math.max(value ?? -Infinity, values[at] ?? -Infinity));
      last.used += 1;
    } else this.points.push({ time, values, used: 1 });
    if (this.points.length > POINTS) {
      const merged = [];
      for (let at = 0; at < this.points.length; at += 2) {
        const [one, other] = [this.points[at], this.points[at + 1] ?? this.points[at]];
        merged.push({ time: one.time, used: this.step * 2,
          values: one.values.map((value, n) => Math.max(value ?? -Infinity, other.values[n] ?? -Infinity)) });
      }
      this.points = merged;
      this.step *= 2;
    }
    this.latest = values;
    this.later();
  }

  later() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => { this.pending = false; this.draw(); });
  }

  draw() {
    const all = this.points.flatMap((point) => point.values).filter((value) => Number.isFinite(value));
    const top = Math.max(this.limit, all.reduce((most, value) => Math.max(most, value), 0)) * 1.05 || 1;
    const [from, to] = [this.points[0].time, this.points.at(-1).time];
    const x = (time) => (to > from ? ((time - from) / (to - from)) * WIDTH : WIDTH);
    const y = (value) => HEIGHT - (value / top) * HEIGHT;
    this.paths.forEach((path, n) => {
      const known = this.points.filter((point) => Number.isFinite(point.values[n]));
      const places = known.map((point) => `${x(point.time).toFixed(1)} ${y(point.values[n]).toFixed(1)}`);
      if (places.length === 1) places.unshift(`0 ${places[0].split(" ")[1]}`);
      path.setAttribute("d", places.length ? `M${places.join("L")}` : "");
    });
    if (this.limit > 0) {
      for (const side of ["y1", "y2"]) this.bound.setAttribute(side, y(this.limit).toFixed(1));
      this.bound.setAttribute("visibility", "visible");
    }
    this.most.textContent = this.limit > 0 ? `limit ${this.unit(this.limit)}` : all.length > 0 ? `most ${this.unit(Math.max(...this.points.map((point) => Math.max(...point.values.map((value) => (Number.isFinite(value) ? value : 0))))))}` : "";
    this.bottom.textContent = to > from ? `over ${span(to - from)}` : "";
    if (this.cursor.getAttribute("visibility") === "hidden") this.tell();
  }

  words(values) {
    return values.map((value) => (Number.isFinite(value) ? this.unit(value) : "n/a")).join(" \u00b7 ");
  }

  tell() { if (this.latest) this.now.textContent = this.words(this.latest); }

  point(event) {
    if (this.points.length < 2) return;
    const box = this.picture.getBoundingClientRect();
    const part = (event.clientX - box.left) / box.width;
    const [from, to] = [this.points[0].time, this.points.at(-1).time];
    const time = from + part * (to - from);
    const near = this.points.reduce((best, point) => (Math.abs(point.time - time) < Math.abs(best.time - time) ? point : best));
    const at = ((near.time - from) / (to - from)) * WIDTH;
    for (const side of ["x1", "x2"]) this.cursor.setAttribute(side, at);
    this.cursor.setAttribute("visibility", "visible");
    this.now.textContent = `${moment(near.time * 1000)}: ${this.words(near.values)}`;
  }
}
