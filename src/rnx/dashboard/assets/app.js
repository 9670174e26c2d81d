// The page that an address names, behind the sign #.

import { el, notice } from "./dom.js";
import { get } from "./net.js";
import { jobs } from "./jobs.js";
import { job } from "./job.js";
import { workflow, workflows } from "./workflows.js";
import { node } from "./node.js";
import { networks, runtimes, volumes } from "./lists.js";

const PAGES = [
  ["jobs", "Jobs", jobs, job],
  ["workflows", "Workflows", workflows, workflow],
  ["node", "Node", node],
  ["networks", "Networks", networks],
  ["volumes", "Volumes", volumes],
  ["runtimes", "Runtimes", runtimes],
];

const main = document.getElementById("main");
const nav = document.getElementById("nav");
let stop = null;
let session = { role: "" };

nav.append(...PAGES.map(([name, title]) => el("a", { href: `#/${name}` }, title)));

function open() {
  const [name = "jobs", id] = location.hash.replace(/^#\/?/, "").split("/").filter((part) => part).map(decodeURIComponent);
  const page = PAGES.find(([known]) => known === name) ?? PAGES[0];
  for (const link of nav.children) {
    if (link.getAttribute("href") === `#/${page[0]}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  stop?.();
  notice("");
  document.title = `${id ? `${id.slice(0, 8)} \u00b7 ` : ""}${page[1]} \u00b7 joblet`;
  main.replaceChildren();
  const make = id && page[3] ? page[3] : page[2];
  stop = make(main, session, id) ?? null;
}

window.addEventListener("hashchange", () => { open(); main.focus(); });
get("session").then((found) => {
  session = found;
  document.getElementById("node").textContent = `${found.node} \u00b7 ${found.role || "no role"}`;
  open();
}, (why) => notice(`This page cannot reach rnx: ${why.message}`));
