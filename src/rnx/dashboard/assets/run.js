// The form that starts a job.

import { el, notice } from "./dom.js";
import { get, post } from "./net.js";
import { words } from "./words.js";

const lines = (text) => text.split("\n").map((line) => line.trim()).filter((line) => line);

function variables(text) {
  return Object.fromEntries(lines(text).map((line) => {
    const at = line.indexOf("=");
    if (at < 1) throw new Error(`a variable is NAME=VALUE, not ${line}`);
    return [line.slice(0, at), line.slice(at + 1)];
  }));
}

export function run(started) {
  const dialog = document.getElementById("dialog");
  const field = (name, title, attributes, tag = "input") => {
    const input = el(tag, { name, id: `run-${name}`, autocomplete: "off", spellcheck: false, ...attributes });
    return el("label", { class: attributes?.wide ? "wide" : "" }, el("span", {}, title), input);
  };
  const networks = el("select", { name: "network", id: "run-network" }, ["", "none", "isolated", "bridge", "host"]
    .map((name) => el("option", { value: name }, name || "the node's default")));
  const runtimes = el("select", { name: "runtime", id: "run-runtime" }, el("option", { value: "" }, "none: the host's programs"));
  get("networks").then(({ networks: found }) => networks.append(...found.filter((network) => !network.builtin)
    .map((network) => el("option", {}, network.name))), () => {});
  get("runtimes").then(({ runtimes: found }) => runtimes.append(...found
    .map((runtime) => el("option", {}, runtime.version ? `${runtime.name}@${runtime.version}` : runtime.name))), () => {});
  const wrong = el("p", { class: "wrong", role: "alert" });
  const go = el("button", { class: "main", type: "submit" }, "Run");
  // Sent twice, it is one job.
  const id = crypto.randomUUID();
  const form = el("form", { method: "dialog", class: "run" },
    el("h2", {}, "Run a job"),
    field("command", "Command line", { wide: true, placeholder: "python3 train.py --epochs 3", autofocus: true }),
    field("name", "Name", { maxLength: 64 }),
    field("timeout", "Time limit", { placeholder: "30s, 2h30m" }),
    field("maxCPU", "Processor, percent of a core", { type: "number", min: 0 }),
    field("maxMemory", "Memory, MiB", { type: "number", min: 0 }),
    el("label", {}, el("span", {}, "Network"), networks),
    el("label", {}, el("span", {}, "Runtime"), runtimes),
    field("volumes", "Volumes", { placeholder: "cache, models:ro" }),
    field("workDir", "Working directory", { placeholder: "/work" }),
    field("environment", "Variables, one a line", { wide: true, rows: 2, placeholder: "MODE=fast" }, "textarea"),
    field("secretEnvironment", "Secret variables, never shown again", { wide: true, rows: 2 }, "textarea"),
    wrong,
    el("div", { class: "buttons" }, go, el("button", { type: "button", onclick: () => dialog.close() }, "Back")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    wrong.textContent = "";
    go.disabled = true;
    try {
      const text = (name) => form.elements[name].value.trim();
      const [command = "", ...args] = words(text("command"));
      const body = { command, args, requestId: id, environment: variables(text("environment")),
        secretEnvironment: variables(text("secretEnvironment")), volumes: text("volumes").split(/[\s,]+/).filter((name) => name) };
      for (const name of ["name", "timeout", "network", "runtime", "workDir"]) if (text(name)) body[name] = text(name);
      for (const name of ["maxCPU", "maxMemory"]) if (text(name)) body[name] = Number(text(name));
      const job = await post("jobs", body);
      dialog.close();
      notice(`Started ${job.uuid}`);
      started(job.uuid);
    } catch (why) {
      wrong.textContent = why.hint ? `${why.message} \u2013 ${why.hint}` : why.message;
    } finally {
      go.disabled = false;
    }
  });
  dialog.replaceChildren(form);
  dialog.showModal();
}
