// The list of runs: filters, order, a choice of runs to compare; rows are brought up to date in place, so focus stays where it is.
import { badge, duration, get, h, moment, nameOf, progress } from "./common.js";
import { spark } from "./charts.js";

const step = 100;

const columns = [
  { name: "run", key: run => run.id, show: run => h("a", { href: `#/run/${run.id}` }, `${run.id}`) },
  { name: "kind", key: run => run.kind, show: run => run.kind },
  { name: "model", key: run => run.model, show: run => [run.model, run.study && h("small", {}, run.study)] },
  { name: "method", key: run => nameOf(run), show: run => nameOf(run) },
  { name: "status", key: run => run.status, show: run => [badge(run), progress(run), run.seconds_left !== undefined && h("small", {}, `${duration(run.seconds_left)} left`)] },
  { name: "started", key: run => run.started, show: run => h("time", { datetime: run.started }, moment(run.started)) },
  { name: "took", number: true, key: run => run.seconds ?? -1, show: run => duration(run.seconds) },
  { name: "result", number: true, key: run => run.result_value, show: run => run.result === undefined ? "–" : [h("b", {}, run.result), h("small", {}, run.result_heading)] },
  { name: "course", plain: true, show: run => run.course ? spark(run.course, `training loss of run ${run.id}, from ${run.course[0].toFixed(3)} to ${run.course.at(-1).toFixed(3)}`) : "" },
];

/** Makes the page; gives a function that brings it up to date. */
export function runsPage(view, query, go) {
  const chosen = new Set((query.get("chosen") ?? "").split(",").filter(Boolean).map(Number));
  const order = { column: query.get("sort") ?? "run", down: query.get("down") !== "0" };
  let limit = Number(query.get("limit") ?? step), runs = [];
  const rows = new Map();

  const select = (name, label) => h("label", {}, label, h("select", { name, onchange: changed }, h("option", { value: "" }, "all")));
  const filters = { kind: select("kind", "kind"), model: select("model", "model"), method: select("method", "method"), status: select("status", "status") };
  const text = h("input", { type: "search", name: "text", value: query.get("text") ?? "", placeholder: "in names and settings", oninput: () => { clearTimeout(text.timer); text.timer = setTimeout(changed, 250); } });
  const compare = h("button", { type: "button", class: "primary", disabled: true, onclick: () => go(`/compare/${[...chosen].join(",")}`) }, "Compare");
  const clear = h("button", { type: "button", onclick: () => { chosen.clear(); rows.forEach(row => row.box.checked = false); choose(); } }, "Clear");
  const heads = columns.map(column => h("th", { scope: "col", class: column.number ? "number" : null }, column.plain ? column.name : h("button", { type: "button", onclick: () => sort(column.name) }, column.name)));
  const body = h("tbody", {});
  const table = h("table", { class: "runs" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, h("span", { class: "hidden" }, "choose")), heads)), body);
  const more = h("button", { type: "button", hidden: true, onclick: () => { limit += step; update(); } }, "Older runs");
  const count = h("p", { class: "hint", role: "status" });
  const list = h("section", {}, h("form", { class: "filters", role: "search", onsubmit: event => event.preventDefault() }, Object.values(filters), h("label", { class: "grow" }, "text", text)),
    h("div", { class: "actions" }, compare, clear, count), h("div", { class: "scroll" }, table), more);
  const empty = h("div", { hidden: true });
  view.replaceChildren(h("h1", {}, "Runs"), empty, list);
  choose();

  function state() {
    const parts = new URLSearchParams();
    for (const name of Object.keys(filters)) if (value(name)) parts.set(name, value(name));
    if (text.value) parts.set("text", text.value);
    return parts;
  }

  function value(name) {
    const element = filters[name].querySelector("select");
    // Before the first answer the choices are not known.
    return element.options.length > 1 ? element.value : query.get(name) ?? "";
  }

  function remember() {
    const parts = state();
    if (order.column !== "run" || !order.down) { parts.set("sort", order.column); parts.set("down", order.down ? "1" : "0"); }
    if (chosen.size) parts.set("chosen", [...chosen].join(","));
    if (limit !== step) parts.set("limit", limit);
    history.replaceState(null, "", `#/${parts.size ? `?${parts}` : ""}`);
  }

  function changed() { remember(); update(); }

  function sort(name) {
    order.down = order.column === name ? !order.down : columns.find(column => column.name === name).number || name === "run" || name === "started";
    order.column = name;
    remember();
    arrange();
  }

  function choose() {
    compare.disabled = chosen.size < 2 || chosen.size > 20;
    compare.textContent = chosen.size > 1 ? `Compare ${chosen.size} runs` : "Compare";
    clear.hidden = chosen.size === 0;
  }

  function fill(name, values) {
    const element = filters[name].querySelector("select"), now = value(name);
    const wanted = ["", ...values];
    if (now && !wanted.includes(now)) wanted.push(now);
    if (wanted.join("\n") !== [...element.options].map(option => option.value).join("\n")) {
      element.replaceChildren(...wanted.map(item => h("option", { value: item }, item || "all")));
    }
    element.value = now;
  }

  function row(run) {
    const box = h("input", { type: "checkbox", "aria-label": `choose run ${run.id}`, onchange: () => { if (box.checked) chosen.add(run.id); else chosen.delete(run.id); choose(); remember(); } });
    box.checked = chosen.has(run.id);
    const cells = columns.map((column, i) => h(i === 0 ? "th" : "td", { scope: i === 0 ? "row" : null, class: column.number ? "number" : null, "data-name": column.name }));
    return { box, cells, shown: columns.map(() => null), element: h("tr", {}, h("td", { class: "choice" }, h("label", { class: "touch" }, box)), cells) };
  }

  function show(run) {
    if (!rows.has(run.id)) rows.set(run.id, row(run));
    const known = rows.get(run.id);
    columns.forEach((column, i) => {
      const content = [column.show(run)].flat(Infinity).filter(part => part || part === 0);
      const form = content.map(part => part.outerHTML ?? part).join("|");
      if (form !== known.shown[i]) { known.shown[i] = form; known.cells[i].replaceChildren(...content); }
    });
    return known.element;
  }

  function arrange() {
    const column = columns.find(item => item.name === order.column) ?? columns[0];
    const sorted = [...runs].sort((a, b) => {
      const x = column.key(a), y = column.key(b);
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined) || b.id - a.id;
      return (typeof x === "string" ? x.localeCompare(y) : x - y) * (order.down ? -1 : 1) || b.id - a.id;
    });
    heads.forEach((head, i) => columns[i].name === column.name ? head.setAttribute("aria-sort", order.down ? "descending" : "ascending") : head.removeAttribute("aria-sort"));
    const elements = sorted.map(show);
    if (elements.length !== body.children.length || elements.some((element, i) => body.children[i] !== element)) {
      const focused = document.activeElement;
      body.replaceChildren(...elements);
      if (body.contains(focused)) focused.focus({ preventScroll: true });
    }
  }

  async function update() {
    const parts = state();
    parts.set("limit", Math.min(limit, 500));
    const asked = parts.toString(), document_ = await get(`/api/runs?${asked}`);
    if (asked !== new URLSearchParams([...state(), ["limit", Math.min(limit, 500)]]).toString()) return update();
    runs = document_.runs;
    const filtered = parts.size > 1, nothing = runs.length === 0 && !filtered;
    fill("kind", document_.kinds); fill("model", document_.models); fill("method", document_.methods); fill("status", document_.statuses);
    empty.hidden = !nothing;
    list.hidden = nothing;
    if (nothing && !empty.firstChild) empty.append(welcome(document_.store));
    arrange();
    const working = runs.filter(run => run.status === "running").length;
    count.textContent = runs.length === 0 ? "No run is like this." : `${runs.length}${document_.more ? " newest" : ""} ${runs.length === 1 ? "run" : "runs"}${working ? `, ${working} running` : ""}`;
    more.hidden = !document_.more || limit >= 500;
    return working > 0;
  }

  return update;
}

function welcome(store) {
  return h("section", { class: "welcome" }, h("h2", {}, "Nothing was recorded yet"),
    h("p", {}, "Measurements, comparisons, trainings and quantizations appear here by themselves, while they work. For example:"),
    h("pre", {}, [
      "nibble demo                                   # every low-bit method on the embedded model, a few minutes",
      "nibble finetune --demo -o tuned               # a training: its curve appears as it goes",
      "nibble quantize MODEL --method nf4 -o MODEL-nf4",
      "nibble eval MODEL --data FILE.txt",
    ].join("\n")),
    h("p", { class: "hint" }, "They are recorded in ", h("code", {}, store), "; NIBBLE_RUNS names another file."));
}
