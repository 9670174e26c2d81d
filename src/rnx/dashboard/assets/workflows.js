// Workflows: the list, and one as a picture of its graph.

import { ask, el, facts, notice, status, svg, table } from "./dom.js";
import { get, post, repeat } from "./net.js";
import { moment, short, took } from "./words.js";

// More boxes than these are no picture.
const DRAWN = 300;
// More rows than these are no table.
const LISTED = 1000;
const BOX = { width: 168, height: 46, right: 56, below: 18 };

export function workflows(main) {
  const body = el("div", {});
  main.append(el("div", { class: "tools" }, el("h1", {}, "Workflows")), body);
  let last = "";
  return repeat(2000, async () => {
    let found;
    try { found = await get("workflows"); } catch (error) { notice(error.message); return true; }
    const now = JSON.stringify(found);
    if (now === last) return true;
    last = now;
    const rows = found.reverse().map((flow) => [
      status(flow.status), el("a", { href: `#/workflows/${flow.uuid}`, title: flow.uuid }, flow.name || short(flow.uuid)),
      `${flow.completed_jobs} of ${flow.total_jobs}`, flow.failed_jobs || "", moment(flow.created_at),
      took(flow.started_at, flow.completed_at), flow.message]);
    body.replaceChildren(rows.length === 0 ? el("p", { class: "empty" }, "There is no workflow here.")
      : table("Workflows", ["Status", "Workflow", "Completed", "Failed", "Created", "Took", "Message"], rows));
    return true;
  });
}

export function workflow(main, session, id) {
  const path = `workflows/${encodeURIComponent(id)}`;
  const title = el("h1", {}, short(id));
  const word = el("span", {});
  const said = el("span", { class: "why", role: "status", ariaLive: "polite" });
  const actions = el("div", { class: "buttons" });
  const picture = el("div", { class: "graph scroll", tabIndex: 0, role: "region", ariaLabel: "Graph" });
  const body = el("div", { class: "stack" });
  main.append(el("div", { class: "tools" }, title, word, said, el("span", { class: "gap" }), actions), picture, body);
  let last = "";
  let shape = "";
  const cancel = async () => {
    if (!(await ask("Cancel this workflow? Its running jobs are stopped.", "Cancel the workflow"))) return;
    try { await post(`${path}/cancel`); notice("The workflow is canceled"); } catch (error) { notice(error.message); }
  };
  return repeat(1000, async () => {
    let flow;
    try { flow = await get(path); } catch (error) { notice(error.message); return error.status !== 404; }
    const now = JSON.stringify(flow);
    if (now === last) return true;
    last = now;
    const live = ["PENDING", "RUNNING"].includes(flow.status);
    title.textContent = flow.name || short(flow.uuid);
    word.replaceChildren(status(flow.status));
    said.textContent = flow.message || `${flow.completed_jobs} of ${flow.total_jobs} jobs completed`;
    actions.replaceChildren(...(live && session.role === "admin" ? [el("button", { class: "danger", onclick: cancel }, "Cancel")] : []));
    const graph = JSON.stringify(flow.jobs.map((job) => [job.name, job.dependencies]));
    if (graph !== shape) { shape = graph; picture.replaceChildren(draw(flow.jobs)); }
    paint(picture, flow.jobs);
    const rows = flow.jobs.slice(0, LISTED).map((job) => [status(job.status), link(job), job.dependencies.join(", "),
      job.exit_code ?? "", took(job.start_time, job.end_time), job.array ? `${job.array.completed} of ${job.array.total}` : "", job.message]);
    body.replaceChildren(...[
      facts([["Id", el("code", {}, flow.uuid)], ["Created", moment(flow.created_at)], ["Took", took(flow.started_at, flow.completed_at)]]),
      table("Jobs of the workflow", ["Status", "Job", "After", "Exit", "Took", "Elements", "Message"], rows),
      flow.jobs.length > LISTED && el("p", {}, `The first ${LISTED} of ${flow.jobs.length} jobs; rnx workflow status has all.`),
    ].filter((part) => part));
    return live;
  });
}

const started = (job) => job.uuid && job.uuid !== "0";
const link = (job) => (started(job) ? el("a", { href: `#/jobs/${job.uuid}` }, job.name) : job.name);

// Columns by the longest way from the beginning.
function columns(jobs) {
  const at = new Map(jobs.map((job, index) => [job.name, index]));
  const needs = jobs.map((job) => job.dependencies.map((name) => at.get(name)).filter((index) => index !== undefined));
  const column = jobs.map(() => 0);
  const left = needs.map((list) => list.length);
  const after = jobs.map(() => []);
  needs.forEach((list, index) => list.forEach((need) => after[need].push(index)));
  const ready = left.flatMap((count, index) => (count === 0 ? [index] : []));
  while (ready.length > 0) {
    const index = ready.pop();
    for (const next of after[index]) {
      column[next] = Math.max(column[next], column[index] + 1);
      left[next] -= 1;
      if (left[next] === 0) ready.push(next);
    }
  }
  return { column, needs };
}

function draw(jobs) {
  if (jobs.length > DRAWN) return el("p", {}, `A graph of ${jobs.length} jobs is no picture any more; rnx workflow graph prints it.`);
  const { column, needs } = columns(jobs);
  const filled = [];
  const place = column.map((number) => {
    filled[number] = (filled[number] ?? -1) + 1;
    return [8 + number * (BOX.width + BOX.right), 8 + filled[number] * (BOX.height + BOX.below)];
  });
  const width = 16 + Math.max(...place.map(([x]) => x)) + BOX.width;
  const height = 16 + Math.max(...place.map(([, y]) => y)) + BOX.height;
  const arrows = needs.flatMap((list, index) => list.map((need) => {
    const [x1, y1] = [place[need][0] + BOX.width, place[need][1] + BOX.height / 2];
    const [x2, y2] = [place[index][0], place[index][1] + BOX.height / 2];
    const bend = Math.max(24, (x2 - x1) / 2);
    return svg("path", { class: "arrow", d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2 - 6} ${y2}`, "marker-end": "url(#tip)" });
  }));
  const boxes = jobs.map((job, index) => {
    const name = svg("text", { x: 12, y: 19 });
    name.textContent = job.name.length > 20 ? `${job.name.slice(0, 19)}\u2026` : job.name;
    const about = svg("text", { x: 12, y: 36, class: "small" });
    const whole = svg("title", {});
    whole.textContent = job.name;
    return svg("g", { class: "box", "data-job": index, transform: `translate(${place[index].join(" ")})` },
      svg("rect", { width: BOX.width, height: BOX.height, rx: 6 }), name, about, whole);
  });
  const tip = svg("marker", { id: "tip", viewBox: "0 0 8 8", refX: 6, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
    svg("path", { d: "M0 0L8 4L0 8z", class: "tip" }));
  return svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "The jobs of the workflow and what each waits for" },
    svg("defs", {}, tip), arrows, boxes);
}

function paint(picture, jobs) {
  for (const box of picture.querySelectorAll("[data-job]")) {
    const job = jobs[Number(box.dataset.job)];
    if (!job) continue;
    box.setAttribute("class", `box ${job.status.toLowerCase()}`);
    const took_ = took(job.start_time, job.end_time);
    const done = job.array ? ` ${job.array.completed}/${job.array.total}` : "";
    box.querySelector(".small").textContent = `${job.status.toLowerCase()}${done}${took_ ? `, ${took_}` : ""}`;
    box.onclick = started(job) ? () => { location.hash = `#/jobs/${job.uuid}`; } : null;
  }
}
