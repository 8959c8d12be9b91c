// This machine: devices, memory, what works.
import { bytes, facts, flatten, get, h, put } from "./common.js";

export function machinePage(view) {
  return async () => {
    const found = await get("/api/machine");
    document.title = "This machine – Nibble";
    const row = (...cells) => h("tr", {}, cells.map((cell, i) => h(i === 0 ? "th" : "td", { scope: i === 0 ? "row" : null }, cell)));
    put(view, 
      h("h1", {}, "This machine"),
      h("section", {}, h("h2", {}, "Devices"), h("div", { class: "scroll" }, h("table", { class: "plain" }, h("thead", {}, h("tr", {}, ["device", "processor", "cores", "memory", "instruction sets"].map(name => h("th", { scope: "col" }, name)))),
        h("tbody", {}, found.devices.map(device => row(device.device, device.processor, `${device.cores ?? device.multiprocessors}`, bytes(device.memory_bytes), device.instruction_sets.join(" ")))))),
      found.memory_available_bytes ? h("p", { class: "hint" }, `${bytes(found.memory_available_bytes)} of memory are free now.`) : null),
      h("section", {}, h("h2", {}, "What works"), h("div", { class: "scroll" }, h("table", { class: "plain" }, h("thead", {}, h("tr", {}, ["check", "state", "found", "what to do"].map(name => h("th", { scope: "col" }, name)))),
        h("tbody", {}, found.findings.map(finding => row(finding.check, h("span", { class: `badge ${finding.state}` }, finding.state), finding.found, finding.remedy ?? "")))))),
      h("section", {}, h("h2", {}, "Nibble"), facts([...flatten(found.environment), ["run store", found.store], ["its size", found.store_bytes === undefined ? "not there yet" : bytes(found.store_bytes)]])));
    return null;
  };
}
