// Runs side by side: differences where the conditions were equal, and said where they were not.
import { get, h, nameOf, put } from "./common.js";
import { colorOf, draw, lines, scatter } from "./charts.js";

const affects = { quality: "quality", cost: "speed, memory and energy" };

export function comparePage(view, ids, query, go) {
  let baseline = query.get("baseline") ?? ids[0], known = "";
  const top = h("div", { class: "top" }), warning = h("div", {}), charts = h("div", { class: "charts" }), table = h("section", {}), conditions = h("section", {}), settings = h("section", {});
  put(view, top, warning, table, charts, conditions, settings);
  const names = run => `${run.id}: ${run.model}, ${nameOf(run)}`;
  const dot = i => { const mark = h("span", { class: "dot", "aria-hidden": "true" }); mark.style.background = colorOf(i); return mark; };
  const head = runs => runs.map((run, i) => h("th", { scope: "col", class: "number" }, dot(i), h("a", { href: `#/run/${run.id}` }, `run ${run.id}`), h("small", {}, `${run.model}, ${nameOf(run)}`), String(run.id) === String(baseline) && h("small", {}, "baseline")));

  function title(runs) {
    const choose = h("select", { name: "baseline", onchange: event => { baseline = event.target.value; go(`/compare/${ids.join(",")}?baseline=${baseline}`); } },
      runs.map(run => h("option", { value: run.id, selected: String(run.id) === String(baseline) }, names(run))));
    put(top, h("p", { class: "crumbs" }, h("a", { href: `#/?chosen=${ids.join(",")}` }, "Runs"), " / compare"), h("h1", {}, `${runs.length} runs side by side`),
      h("form", { class: "filters", onsubmit: event => event.preventDefault() }, h("label", { class: "grow" }, "compared with", choose)));
  }

  // Only of what keeps a number from being compared; what else differs stands below.
  function warn(document_) {
    const reasons = new Set([...document_.metrics.flatMap(metric => metric.values), ...document_.curves.flatMap(curve => curve.series)].flatMap(value => value?.not_compared ?? []));
    const different = document_.conditions.filter(item => reasons.has(item.name));
    put(warning, ...["quality", "cost"].map(group => [group, different.filter(item => item.affects === group)]).filter(([, items]) => items.length).map(([group, items]) =>
      h("div", { class: "notice", role: "note" }, h("b", {}, `Not all numbers of ${affects[group]} can be compared: `), `${items.map(item => item.name).join(", ")} ${items.length > 1 ? "differ" : "differs"}. Where it matters, a number stands without a difference.`)));
  }

  function cell(value, isBaseline) {
    if (!value) return h("td", { class: "number" }, "–");
    const verdict = { better: "better", worse: "worse", same: "the same", overlap: value.paired ? "the interval holds 0" : "intervals overlap" }[value.verdict];
    return h("td", { class: `number ${value.verdict ?? ""}` }, value.text, value.interval && h("small", {}, value.interval),
      !isBaseline && value.difference && h("small", { class: "difference" }, value.difference, verdict && `, ${verdict}${value.paired ? " (paired)" : ""}`),
      value.not_compared && h("small", { class: "not" }, `not compared: ${value.not_compared.join(", ")} ${value.not_compared.length > 1 ? "differ" : "differs"}`));
  }

  function numbers(document_) {
    const runs = document_.runs;
    const group = (name, label) => {
      const rows = document_.metrics.filter(metric => metric.group === name);
      return rows.length === 0 ? [] : [h("tr", { class: "group" }, h("th", { scope: "colgroup", colspan: runs.length + 1 }, label)),
        ...rows.map(metric => h("tr", {}, h("th", { scope: "row", title: metric.meaning }, metric.heading, { lower: " ↓", higher: " ↑" }[metric.better] ?? ""), metric.values.map((value, i) => cell(value, String(runs[i].id) === String(baseline)))))];
    };
    put(table, h("h2", {}, "Numbers"), h("div", { class: "scroll" }, h("table", { class: "compare" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, ""), head(runs))),
      h("tbody", {}, group("quality", "quality"), group("size", "size"), group("cost", "time, memory, energy"), group("fact", "facts")))),
      h("p", { class: "hint" }, "Small print: 95 % interval; difference from the baseline's. Differences of runs that were measured by themselves have no interval of their own: only where intervals do not overlap they are called better or worse. Cells of one study are judged by their paired interval against its baseline."));
  }

  const figures = new Map();
  function figure(key, title, text, tall, option) {
    if (!figures.has(key)) {
      const chart = h("div", { class: tall ? "chart tall" : "chart", role: "img", "aria-label": `${title}; the numbers are in the table` });
      const line = h("p", {});
      figures.set(key, { chart, line });
      charts.append(h("figure", { class: tall ? "wide" : null }, h("figcaption", {}, h("h2", {}, title), line), chart));
    }
    const known_ = figures.get(key);
    known_.line.textContent = text;
    if (option) draw(known_.chart, option); else known_.chart.hidden = true;
  }

  function drawAll(document_) {
    const runs = document_.runs, place = id => runs.findIndex(run => run.id === id), name = id => names(runs[place(id)]);
    const models = new Set(runs.map(run => run.model)).size > 1, short = id => { const run = runs[place(id)]; return models ? `${run.id}: ${run.model}, ${nameOf(run)}` : `${run.id}: ${nameOf(run)}`; };
    const points = document_.scatter;
    if (points) {
      const left = points.left_out.length ? ` Left out, as the conditions differ: ${points.left_out.map(item => `run ${item.id} (${item.why.join(", ")})`).join("; ")}.` : "";
      figure("scatter", "Quality against size", `Down and left is better; the dashed line joins what nothing beats on both.${left}`, true, scatter(points.points.map(point => ({ ...point, x: point.x / 1e6, name: short(point.id), color: place(point.id) }))));
    }
    for (const curve of document_.curves) {
      if (curve.name === "elapsed_seconds") continue;
      const apart = curve.series.filter(item => item.not_compared);
      const text = apart.length ? `${curve.meaning}. Dashed, not to be compared with the baseline: ${apart.map(item => `run ${item.id} (${item.not_compared.join(", ")})`).join("; ")}.` : curve.meaning;
      figure(curve.name, curve.heading, text, curve.name === "train_loss", lines(curve.series.map(item => ({
        name: name(item.id), color: place(item.id), dash: item.not_compared ? 1 : 0, noisy: ["train_loss", "step_tokens_per_second", "gradient_norm"].includes(curve.name), points: item.points.map(([x, y]) => [x, y * curve.scale]),
      }))));
    }
    charts.hidden = figures.size === 0;
  }

  const rows = (title, list, hint, runs) => list.length === 0 ? [] : [h("h2", {}, title), h("p", { class: "hint" }, hint), h("div", { class: "scroll" }, h("table", { class: "compare plain" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, ""), head(runs))),
    h("tbody", {}, list.map(item => h("tr", { class: item.differs ? "differs" : null }, h("th", { scope: "row" }, item.name, item.differs && h("small", {}, "differs")), item.values.map(value => h("td", {}, value ?? "–")))))))];

  return async () => {
    const document_ = await get(`/api/compare?ids=${ids.join(",")}&baseline=${encodeURIComponent(baseline)}`);
    document.title = `${ids.length} runs – Nibble`;
    const form = JSON.stringify(document_);
    if (form !== known) {
      known = form;
      title(document_.runs);
      warn(document_);
      numbers(document_);
      drawAll(document_);
      put(conditions, ...rows("Conditions", document_.conditions, "What must be equal for numbers to be compared.", document_.runs));
      put(settings, ...rows("What else differs", document_.settings, "Every setting that is not the same for all.", document_.runs));
      settings.hidden = document_.settings.length === 0;
    }
    return document_.runs.some(run => run.status === "running");
  };
}
