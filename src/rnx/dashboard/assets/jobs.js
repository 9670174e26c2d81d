// The list of jobs, live, with a search and a form to start one.

import { el, notice, status } from "./dom.js";
import { follow } from "./net.js";
import { Rows } from "./rows.js";
import { run } from "./run.js";
import { moment, short, took } from "./words.js";

const STATUSES = ["RUNNING", "SCHEDULED", "COMPLETED", "FAILED", "STOPPED", "CANCELED"];
const kept = { search: "", status: "" };

export function jobs(main, session) {
  // Entries by id, and in the order of the list from its end on: new jobs come to the end of an array for nothing.
  const all = new Map();
  let ordered = [];
  let found = [];
  let version = 0;
  const narrow = matchMedia("(max-width: 700px)");
  const height = () => (narrow.matches ? 76 : 34);

  const head = el("div", { class: "job-row head", role: "row" },
    ["Status", "Job", "Command", "Created", "Took", "Why"].map((name) => el("span", { role: "columnheader" }, name)));
  const rows = new Rows({ height: height(), draw, label: "Jobs", role: "table", head });
  rows.element.classList.add("job-rows");
  narrow.addEventListener("change", resized);
  function resized() { rows.height = height(); version += 1; rows.set(found.length, version); }

  const search = el("input", { type: "search", placeholder: "Name, id, command or reason", ariaLabel: "Search jobs", value: kept.search });
  search.addEventListener("input", () => { kept.search = search.value; choose(); });
  const wanted = el("select", { ariaLabel: "Status" }, el("option", { value: "" }, "every status"),
    STATUSES.map((word) => el("option", { value: word, selected: kept.status === word }, word.toLowerCase())));
  wanted.addEventListener("change", () => { kept.status = wanted.value; choose(); });
  const count = el("span", { class: "count", role: "status", ariaLive: "polite" });
  const empty = el("p", { class: "empty", hidden: true }, "There is no job here.");
  const start = session.role === "admin" && el("button", { class: "main", onclick: () => run((id) => { location.hash = `#/jobs/${id}`; }) }, "Run a job");
  main.append(el("div", { class: "tools" }, el("h1", {}, "Jobs"), search, wanted, count, el("span", { class: "gap" }), start), rows.element, empty);

  // Rows that were drawn for these jobs; an element stays while its job does not change.
  let drawn = new Map();
  function draw(at) {
    const { job } = found[found.length - 1 - at];
    let row = drawn.get(job);
    if (!row) {
      if (drawn.size > 500) drawn = new Map();
      row = make(job);
      drawn.set(job, row);
    }
    row.ariaRowIndex = String(at + 2);
    const time = row.querySelector(".took");
    const now = took(job.start_time, job.end_time);
    if (time.textContent !== now) time.textContent = now;
    return row;
  }

  function make(job) {
    const name = job.name || short(job.uuid);
    return el("div", { class: "job-row", role: "row" },
      el("span", { role: "cell" }, status(job.status)),
      el("span", { role: "cell", class: "name" }, el("a", { href: `#/jobs/${job.uuid}`, title: job.uuid }, name),
        job.name && el("small", {}, ` ${short(job.uuid)}`)),
      el("code", { role: "cell", class: "command", title: job.command }, job.command),
      el("span", { role: "cell", class: "created" }, moment(job.created_time)),
      el("span", { role: "cell", class: "took" }, took(job.start_time, job.end_time)),
      el("span", { role: "cell", class: "why", title: job.why }, job.why));
  }

  const before = (one, other) => one.created < other.created || (one.created === other.created && one.order < other.order);
  function put(job) {
    const text = `${job.name} ${job.uuid} ${job.command} ${job.why} ${job.status}`.toLowerCase();
    const known = all.get(job.uuid);
    if (known) { Object.assign(known, { job, text }); return; }
    const entry = { job, text, created: job.created_time, order: order += 1 };
    all.set(job.uuid, entry);
    let at = ordered.length;
    while (at > 0 && before(entry, ordered[at - 1])) at -= 1;
    if (at === ordered.length) ordered.push(entry);
    else ordered.splice(at, 0, entry);
  }

  function choose() {
    const words = kept.search.toLowerCase().split(/\s+/).filter((word) => word);
    const fits = ({ job, text }) => (!kept.status || job.status === kept.status) && words.every((word) => text.includes(word));
    found = kept.status || words.length ? ordered.filter(fits) : ordered;
    version += 1;
    rows.element.ariaRowCount = String(found.length + 1);
    rows.set(found.length, version);
    empty.hidden = found.length > 0 || !ready;
    const running = found.reduce((sum, { job }) => sum + (job.status === "RUNNING"), 0);
    const text = `${found.length.toLocaleString()} job${found.length === 1 ? "" : "s"}, ${running} running`;
    if (count.textContent !== text) count.textContent = text;
  }

  let pending = 0;
  let order = 0;
  let ready = false;
  // Thousands of rows come in many events: they are drawn once.
  const later = () => { pending ||= setTimeout(() => { pending = 0; choose(); }, 50); };
  const close = follow("/api/events", {
    reset: () => { all.clear(); ordered = []; ready = true; later(); },
    jobs: (list) => { list.forEach(put); later(); },
    gone: (list) => {
      for (const id of list) all.delete(id);
      ordered = ordered.filter(({ job }) => all.has(job.uuid));
      later();
    },
    state: (state) => notice(state.connected ? "" : `The node is away: ${state.why}`),
    lost: () => notice("rnx is away; coming back"),
  });
  // Running jobs take longer with each second.
  const clock = setInterval(() => {
    if (document.hidden || !found.some(({ job }) => job.status === "RUNNING")) return;
    version += 1;
    rows.set(found.length, version);
  }, 1000);
  return () => { close(); clearInterval(clock); clearTimeout(pending); narrow.removeEventListener("change", resized); rows.close(); };
}
