// Tables of what the node has besides jobs.

import { el, notice, table } from "./dom.js";
import { get, repeat } from "./net.js";
import { bytes, moment } from "./words.js";

function list(main, title, path, headings, cells, none) {
  const body = el("div", {});
  main.append(el("div", { class: "tools" }, el("h1", {}, title)), body);
  let last = "";
  return repeat(3000, async () => {
    let found;
    try { found = (await get(path))[path]; } catch (error) { notice(error.message); return true; }
    const now = JSON.stringify(found);
    if (now === last) return true;
    last = now;
    body.replaceChildren(found.length === 0 ? el("p", { class: "empty" }, none) : table(title, headings, found.map(cells)));
    return true;
  });
}

export const networks = (main) => list(main, "Networks", "networks", ["Name", "Range", "Bridge", "Reaches", "Jobs", "Created"],
  (network) => [network.name, network.cidr, network.bridge, network.internal ? "its own jobs only" : "by egress list",
    network.jobs ?? "", moment(network.created_time)], "There is no network here.");

export const volumes = (main) => list(main, "Volumes", "volumes", ["Name", "Size", "Type", "Jobs", "Created", "Path"],
  (volume) => [volume.name, volume.size, volume.type, volume.jobs ?? "", moment(volume.created_time), el("code", {}, volume.path ?? "")],
  "There is no volume here; rnx volume create makes one.");

export const runtimes = (main) => list(main, "Runtimes", "runtimes", ["Name", "Version", "Language", "Size", "Jobs", "Last used", "Description"],
  (runtime) => [runtime.name, runtime.version, [runtime.language, runtime.language_version].filter((word) => word).join(" "),
    bytes(runtime.size_bytes), runtime.jobs ?? "", moment(runtime.last_used), runtime.description],
  "There is no runtime here; rnx runtime install and rnx runtime import make them.");
