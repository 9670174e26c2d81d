// The host: what its monitoring says, live.

import { el, facts, notice, table } from "./dom.js";
import { follow } from "./net.js";
import { Chart } from "./chart.js";
import { bytes, percent, rate, span } from "./words.js";

const bar = (part, words) => el("div", { class: "bar" },
  el("meter", { min: 0, max: 1, high: 0.9, value: Math.min(1, Math.max(0, part || 0)) }), el("span", {}, words));

export function node(main) {
  const cpu = new Chart("Processors", ["use"], percent);
  const memory = new Chart("Memory", ["in use"], bytes);
  const disks = new Chart("Disks", ["read", "write"], rate);
  const network = new Chart("Network", ["received", "sent"], rate);
  const body = el("div", { class: "blocks" });
  const title = el("h1", {}, "Node");
  main.append(el("div", { class: "tools" }, title),
    el("div", { class: "charts" }, [cpu, memory, disks, network].map((chart) => chart.element)), body);
  const block = (name, ...content) => el("section", { ariaLabel: name }, el("h2", {}, name), content);
  const show = (sample) => {
    const time = Date.parse(sample.timestamp) / 1000;
    const { hostInfo: host, cpuInfo, memoryInfo, disksInfo, networkInfo, ioInfo, processesInfo, gpusInfo } = sample;
    const sum = (list, name) => (list ?? []).reduce((total, each) => total + (each[name] ?? 0), 0);
    if (cpuInfo) cpu.add(time, [cpuInfo.usage * 100], 0);
    if (memoryInfo) memory.add(time, [memoryInfo.used], memoryInfo.total);
    if (ioInfo) disks.add(time, [ioInfo.readRate, ioInfo.writeRate], 0);
    if (networkInfo) network.add(time, [sum(networkInfo.interfaces, "rxRate"), sum(networkInfo.interfaces, "txRate")], 0);
    if (host?.hostname) title.textContent = host.hostname;
    // What has the focus or the pointer stays where it is.
    const open = body.contains(document.activeElement) ? document.activeElement.ariaLabel : null;
    body.replaceChildren(
      host && block("Host", facts([["System", host.platform], ["Kernel", host.kernel], ["Architecture", host.arch],
        ["Up for", span(host.uptime)], ["Node", host.nodeId], ["Cloud", [host.cloudProvider, host.region, host.instanceType].filter((word) => word).join(", ")]])),
      cpuInfo && block("Processors", el("p", {}, `Load ${cpuInfo.loadAverage.map((load) => load.toFixed(2)).join(", ")}`),
        cpuInfo.perCoreUsage.map((use, at) => bar(use, `${at}: ${percent(use * 100)}`))),
      memoryInfo && block("Memory", bar(memoryInfo.used / memoryInfo.total, `${bytes(memoryInfo.used)} of ${bytes(memoryInfo.total)} in use`),
        facts([["Available", bytes(memoryInfo.available)], ["Cached", bytes(memoryInfo.cached)],
          ["Swap", memoryInfo.swap.total ? `${bytes(memoryInfo.swap.used)} of ${bytes(memoryInfo.swap.total)}` : "none"]])),
      disksInfo && block("File systems", table("File systems", ["Mounted at", "Use", "Free", "Type", "Device"], disksInfo.disks.map((disk) =>
        [disk.mountpoint, bar(disk.size ? disk.used / disk.size : 0, `${bytes(disk.used)} of ${bytes(disk.size)}`), bytes(disk.available), disk.filesystem, disk.name]))),
      networkInfo && block("Interfaces", table("Interfaces", ["Name", "Addresses", "Receives", "Sends", "Received", "Sent"],
        networkInfo.interfaces.map((each) => [each.name, each.addresses.join(", "), rate(each.rxRate), rate(each.txRate), bytes(each.rxBytes), bytes(each.txBytes)]))),
      gpusInfo && block("GPUs", table("GPUs", ["GPU", "Name", "Use", "Memory", "Temperature", "Power", "State", "Job"], gpusInfo.gpus.map((each) => {
        const or = (value, words) => (value === null ? "n/a" : words(value));
        return [each.index, each.name, or(each.utilization, percent), or(each.memory_used, bytes), or(each.temperature, (degrees) => `${degrees} °C`),
          or(each.power_draw, (watts) => `${Math.round(watts)} W`), [each.state, each.reason].filter((part) => part).join(": "),
          each.job_uuid ? el("a", { href: `#/jobs/${each.job_uuid}` }, each.job_uuid.slice(0, 8)) : ""];
      }))),
      processesInfo && block("Processes", table("Processes", ["Pid", "Name", "User", "Processor", "Memory", "Command"],
        processesInfo.processes.map((each) => [each.pid, each.name, each.user, percent(each.cpu), bytes(each.memoryBytes), el("code", {}, each.command)]))));
    if (open) [...body.querySelectorAll("[aria-label]")].find((each) => each.ariaLabel === open && each.tabIndex === 0)?.focus({ preventScroll: true });
  };
  return follow("/api/node/events?interval=2", {
    sample: show,
    state: (state) => notice(state.connected ? "" : `The node is away: ${state.why}`),
    failure: (why) => body.replaceChildren(el("p", { class: "empty" }, why.message)),
    lost: () => notice("rnx is away; coming back"),
  });
}
