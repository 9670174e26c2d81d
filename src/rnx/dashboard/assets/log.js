// The output of a job: streams together or apart, live, searched, from any time on.

import { el, notice } from "./dom.js";
import { follow, get } from "./net.js";
import { Rows } from "./rows.js";
import { Lines } from "./lines.js";
import { paint, pieces } from "./ansi.js";
import { clock } from "./words.js";

const TAIL = 5000;
const HEIGHT = 18;

// One pane: a stream of the output, or both.
class Pane {
  constructor(job, query, options) {
    this.job = job;
    this.query = query;
    this.options = options;
    this.lines = new Lines((from, before) => this.read(from, before));
    this.lines.changed = () => this.show();
    this.rows = new Rows({
      height: HEIGHT,
      draw: (at) => this.row(at),
      label: `Output ${query.stream ?? ""}`,
      role: "log",
      onscroll: () => this.scrolled(),
    });
    this.rows.element.ariaLive = "off";
    // The number changes all the time and is not announced; the state is.
    this.number = el("span", {});
    this.state = el("span", { role: "status", ariaLive: "polite" }, "waiting for output");
    this.element = el("div", { class: "pane" }, this.rows.element, el("p", { class: "pane-state" }, this.number, this.state));
    this.follows = options.follow;
    this.over = false;
    this.close = follow(this.address({ ...query.range }), {
      output: (chunk) => { this.word = ""; this.lines.add(chunk); this.show(); },
      state: (state) => {
        this.word = state.connected === false ? `the node is away: ${state.why}` : state.waitReason ?? "";
        this.show();
      },
      end: () => { this.over = true; this.word = ""; this.show(); },
      failure: (why) => { this.over = true; this.word = why.message; this.show(); },
      lost: () => { if (!this.over) { this.word = "rnx is away; coming back"; this.show(); } },
    }, (last) => this.address({ from: Number(last) + 1 }));
  }

  address(range) {
    return `/api/jobs/${encodeURIComponent(this.job)}/log/events?${this.parameters(range)}`;
  }

  parameters(range) {
    const all = { stream: this.query.stream, filter: this.query.filter, ...range };
    return new URLSearchParams(Object.entries(all).filter(([, value]) => value !== undefined && value !== ""));
  }

  async read(from, before) {
    const chunks = [];
    for (let next = from; next !== null && next !== undefined;) {
      const part = await get(`jobs/${encodeURIComponent(this.job)}/log?${this.parameters({ from: next, before })}`);
      chunks.push(...part.chunks);
      next = part.next;
    }
    return chunks;
  }

  show() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.rows.set(this.lines.count, this.version());
      if (this.follows) this.rows.toEnd();
      this.lines.trim(...this.rows.range);
      const count = this.lines.count.toLocaleString();
      const how = this.over ? "complete" : "live";
      const { tail, since_ns } = this.query.range;
      const part = since_ns ? " since then" : tail && this.lines.count >= tail ? ", the latest" : "";
      this.number.textContent = `${count} line${this.lines.count === 1 ? "" : "s"}${part}, `;
      const text = this.word || how;
      if (this.state.textContent !== text) this.state.textContent = text;
    });
  }

  // Lines only grow at the end: what is in sight changes when its end is, or when something was read again.
  version() {
    const [, end] = this.rows.range;
    const atEnd = end >= this.lines.total - 1;
    return `${atEnd ? this.lines.version : "-"}:${this.options.times}:${this.reads ?? 0}`;
  }

  scrolled() {
    const follows = this.rows.atEnd;
    if (follows !== this.follows) {
      this.follows = follows;
      this.options.onfollow?.(follows);
    }
    this.lines.trim(...this.rows.range);
  }

  row(at) {
    const row = this.lines.row(at);
    if (!row) {
      this.lines.changed = () => { this.reads = (this.reads ?? 0) + 1; this.show(); };
      return el("div", { class: "line away" }, "\u2026");
    }
    const text = el("span", { class: "text" });
    for (const { text: part, look } of pieces(row.text)) {
      for (const [found, words] of this.marked(part)) {
        const piece = el(found ? "mark" : "span", {}, words);
        if (!found) paint(piece, look);
        text.append(piece);
      }
    }
    const kind = row.stream === 2 ? "lost" : row.stream === 1 ? "stderr" : "stdout";
    return el("div", { class: `line ${kind}` },
      this.options.times && el("time", { dateTime: row.time ?? "" }, clock(row.time)), text);
  }

  // Parts of a text: whether it was searched for, and its letters.
  marked(text) {
    const wanted = this.query.filter;
    if (!wanted) return [[false, text]];
    return text.split(wanted).flatMap((part, at) => (at ? [[true, wanted], [false, part]] : [[false, part]]));
  }

  stop() {
    this.close();
    this.rows.close();
  }
}

// The output with its controls. Returns the element and what ends it.
export function log(job) {
  const options = { times: false, follow: true };
  const query = { range: { tail: TAIL }, filter: undefined };
  let panes = [];
  const body = el("div", { class: "panes" });
  const follows = el("input", { type: "checkbox", checked: true });
  options.onfollow = (value) => { follows.checked = value; options.follow = value; };
  const streams = el("select", { ariaLabel: "Streams" },
    [["", "both streams"], ["stdout", "stdout"], ["stderr", "stderr"], ["apart", "side by side"]]
      .map(([value, text]) => el("option", { value }, text)));
  const begin = () => {
    panes.forEach((pane) => pane.stop());
    const wanted = streams.value === "apart" ? ["stdout", "stderr"] : [streams.value || undefined];
    options.follow = follows.checked;
    panes = wanted.map((stream) => new Pane(job, { ...query, stream }, options));
    body.replaceChildren(...panes.map((pane) => pane.element));
  };
  const search = el("input", { type: "search", placeholder: "Only lines with this text", ariaLabel: "Search the output" });
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { query.filter = search.value || undefined; begin(); }, 300);
  });
  const time = el("input", { type: "datetime-local", step: 1, ariaLabel: "From a time on" });
  time.addEventListener("change", () => {
    if (!time.value) return;
    query.range = { since_ns: `${BigInt(new Date(time.value).getTime()) * 1_000_000n}` };
    options.onfollow(false);
    begin();
  });
  streams.addEventListener("change", begin);
  follows.addEventListener("change", () => {
    options.follow = follows.checked;
    for (const pane of panes) { pane.follows = follows.checked; if (pane.follows) pane.rows.toEnd(); }
  });
  const times = el("input", { type: "checkbox" });
  times.addEventListener("change", () => { options.times = times.checked; panes.forEach((pane) => pane.show()); });
  const start = el("button", {
    onclick: () => { query.range = {}; time.value = ""; options.onfollow(false); notice("Reading the output from its beginning"); begin(); },
  }, "From the beginning");
  const latest = el("button", {
    onclick: () => { query.range = { tail: TAIL }; time.value = ""; options.onfollow(true); begin(); },
  }, "Latest");
  const file = el("a", { class: "button", href: `/api/jobs/${encodeURIComponent(job)}/log/raw`, download: "" }, "Download");
  begin();
  const element = el("section", { class: "log", ariaLabel: "Output" },
    el("h2", {}, "Output"),
    el("div", { class: "tools" }, streams, search, el("label", {}, "from ", time),
      el("label", {}, times, " times"), el("label", {}, follows, " follow"), start, latest, file),
    body);
  return { element, stop: () => panes.forEach((pane) => pane.stop()) };
}
