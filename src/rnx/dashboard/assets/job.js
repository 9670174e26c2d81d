// One job: how it is, what it uses, what it prints, and what stands around it.

import { ask, el, facts, notice, status, table } from "./dom.js";
import { follow, get, post, repeat } from "./net.js";
import { Chart } from "./chart.js";
import { log } from "./log.js";
import { bytes, isOver, moment, percent, rate, short, took } from "./words.js";

export function job(main, session, id) {
  const path = `jobs/${encodeURIComponent(id)}`;
  const title = el("h1", {}, short(id));
  const word = el("span", {});
  const why = el("span", { class: "why", role: "status", ariaLive: "polite" });
  // Not a part of the live region: it changes all the time.
  const since = el("span", { class: "count" });
  const actions = el("div", { class: "buttons" });
  const about = el("div", {});
  const charts = curves();
  const output = log(id);
  const layers = security(path);
  const refused = denials(path);
  main.append(el("div", { class: "tools" }, title, word, why, since, el("span", { class: "gap" }), actions),
    about, charts.element, output.element, layers.element, refused);

  let seen = "";
  const ends = [output.stop];
  const act = (name, question, done) => async () => {
    if (!(await ask(question, name))) return;
    try {
      await post(`${path}/${name.toLowerCase()}`);
      notice(done);
      if (name === "Delete") location.hash = "#/jobs";
    } catch (error) { notice(error.message); }
  };
  function buttons(found) {
    if (session.role !== "admin") return [];
    const name = found.name || short(found.uuid);
    const waits = found.status === "SCHEDULED";
    return [
      waits && el("button", { class: "danger", onclick: act("Cancel", `Cancel ${name}, which has not started?`, `${name} is canceled`) }, "Cancel"),
      !waits && !isOver(found.status) && el("button", { class: "danger", onclick: act("Stop", `Stop ${name}? It is asked to end, and killed after its grace period.`, `${name} is stopped`) }, "Stop"),
      isOver(found.status) && el("button", { class: "danger", onclick: act("Delete", `Delete ${name} with its output?`, `${name} is deleted`) }, "Delete"),
    ].filter((button) => button);
  }
  async function look() {
    let found;
    try { found = await get(path); } catch (error) {
      notice(error.message);
      return error.status !== 404;
    }
    title.textContent = found.name || short(found.uuid);
    if (why.textContent !== found.why) why.textContent = found.why;
    since.textContent = found.status === "RUNNING" ? `runs for ${took(found.startTime)}` : "";
    charts.limits(found);
    const now = JSON.stringify(found);
    if (now === look.last) return true;
    look.last = now;
    if (found.status !== seen) {
      seen = found.status;
      word.replaceChildren(status(found.status));
      actions.replaceChildren(...buttons(found));
      layers.change(found.status);
    }
    about.replaceChildren(describe(found));
    return !isOver(found.status);
  }
  ends.push(repeat(1500, look));
  ends.push(follow(`/api/${path}/metrics/events`, {
    sample: charts.add,
    end: () => { charts.note(); look(); },
    failure: (failure) => charts.note(failure.message),
  }));
  return () => ends.forEach((end) => end());
}

function describe(found) {
  const list = (values) => values?.length ? values.join(", ") : "";
  const names = (pairs) => Object.entries(pairs ?? {}).map(([name, value]) => el("div", {}, el("code", {}, `${name}=${value}`)));
  const variables = [...names(found.environment), ...names(found.secretEnvironment)];
  return el("div", { class: "columns" },
    facts([
      ["Id", el("code", {}, found.uuid)],
      ["Command", el("code", {}, found.commandLine)],
      ["Created", moment(found.createdTime)],
      ["Scheduled for", moment(found.scheduledTime)],
      ["Started", moment(found.startTime)],
      ["Ended", found.endTime && `${moment(found.endTime)}, after ${took(found.startTime, found.endTime)}`],
      ["Exit code", isOver(found.status) && found.startTime ? found.exitCode : ""],
      ["Processor time", found.cpuTimeUsec !== undefined && `${(found.cpuTimeUsec / 1e6).toFixed(2)} s`],
      ["Most memory", found.peakMemoryBytes !== undefined && bytes(found.peakMemoryBytes)],
      ["Workflow", found.workflowUuid && el("a", { href: `#/workflows/${found.workflowUuid}` }, short(found.workflowUuid))],
    ].filter(([, value]) => value !== false)),
    facts([
      ["Processor limit", found.maxCPU ? `${found.maxCPU} % of a core` : "none"],
      ["Cores", found.cpuCores],
      ["Memory limit", found.maxMemory ? `${found.maxMemory} MiB` : "none"],
      ["Disk limit", found.maxIOBPS ? rate(found.maxIOBPS) : "none"],
      ["Time limit", found.timeout],
      ["Not enforced here", list(found.unenforcedLimits)],
      ["Network", [found.network, found.address].filter((part) => part).join(", ")],
      ["May reach", list(found.egress)],
      ["Ports", list(found.ports)],
      ["Volumes", list(found.volumes)],
      ["Runtime", found.runtime],
      ["User", [found.user, found.profile].filter((part) => part).join(", ")],
      ["Directory", found.workDir],
      ["Variables", variables.length ? variables : ""],
    ]));
}

function curves() {
  const cpu = new Chart("Processor", ["use"], percent);
  const memory = new Chart("Memory", ["in use"], bytes);
  const disk = new Chart("Disk", ["read", "write"], rate);
  const network = new Chart("Network", ["received", "sent"], rate);
  const gpus = new Chart("GPUs", ["use"], percent);
  const gpuMemory = new Chart("Memory of GPUs", ["in use"], bytes);
  const grid = el("div", { class: "charts" }, [cpu, memory, disk, network].map((chart) => chart.element));
  const said = el("p", { class: "pane-state", role: "status" }, "waiting for the first sample");
  let bound = {};
  let any = false;
  return {
    element: el("section", { ariaLabel: "Use of resources" }, el("h2", {}, "Use"),
      grid, said),
    limits: (job) => { bound = { disk: job.maxIOBPS, network: Math.max(job.netRateUp ?? 0, job.netRateDown ?? 0) }; },
    note: (text) => { said.textContent = any ? "" : text ?? "This job has no samples."; },
    add: (sample) => {
      any = true;
      said.textContent = "";
      const time = sample.timestamp;
      cpu.add(time, [sample.cpu?.usagePercent], sample.limits?.cpu);
      memory.add(time, [sample.memory?.current], sample.memory?.max || sample.limits?.memory);
      disk.add(time, [sample.io?.readBPS, sample.io?.writeBPS], sample.limits?.io || bound.disk);
      if (sample.gpu) {
        if (!gpus.element.isConnected) grid.append(gpus.element, gpuMemory.element);
        // Unknown where one of them is.
        const sum = (name) => sample.gpu.reduce((total, each) => total + each[name], 0);
        gpus.add(time, [sum("utilization") / sample.gpu.length], 100);
        gpuMemory.add(time, [sum("memoryUsed")], sum("memoryTotal"));
      }
      if (sample.network) network.add(time, [sample.network.rxBPS, sample.network.txBPS], bound.network);
    },
  };
}

// The layers around a running job, read back from the kernel when somebody wants to see them.
function security(path) {
  const body = el("div", {});
  const element = el("details", {}, el("summary", {}, "Security layers"), body);
  let state = "";
  const load = async () => {
    if (!element.open) return;
    if (state !== "RUNNING") { body.replaceChildren(el("p", {}, "The layers can be read while the job runs.")); return; }
    try {
      const rows = await get(`${path}/security`);
      const verdict = (layer) => (layer.unenforced ? "not enforced" : layer.ok ? "ok" : "NOT OK");
      body.replaceChildren(table("Security layers", ["Layer", "Verdict", "Expected", "Seen"], rows.map((layer) =>
        [layer.layer, el("span", { class: layer.ok || layer.unenforced ? "" : "wrong" }, verdict(layer)), layer.expected, layer.seen])));
    } catch (error) { body.replaceChildren(el("p", { class: "wrong" }, error.message)); }
  };
  element.addEventListener("toggle", load);
  return { element, change: (now) => { state = now; if (now === "RUNNING") load(); } };
}

function denials(path) {
  const body = el("div", {});
  const element = el("details", {}, el("summary", {}, "Refused connections"), body);
  element.addEventListener("toggle", async () => {
    if (!element.open) return;
    try {
      const found = await get(`${path}/denials`);
      const rows = found.denials ?? [];
      body.replaceChildren(rows.length === 0 ? el("p", {}, "None.") : table("Refused connections",
        ["Destination", "Port", "Times", "Rule", "Would allow it"], rows.map((row) =>
          [row.name || row.address, `${row.port}/${row.protocol}`, row.count, row.rule, row.allow])));
    } catch (error) { body.replaceChildren(el("p", { class: "wrong" }, error.message)); }
  });
  return element;
}
