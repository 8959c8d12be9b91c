// One run: how far it is, curves, results, settings, files.
import { badge, bytes, duration, facts, flatten, get, h, moment, nameOf, progress, put } from "./common.js";
import { draw, lines } from "./charts.js";

// Curves that belong into one picture; every other one has its own.
const together = [["train_loss", "heldout_nll"], ["heldout_accuracy", "heldout_macro_f1"], ["memory_bytes", "device_memory_bytes"]];

export function runPage(view, id) {
  let axis = "step", last = null, known = "";
  const name = h("div", {}), line = h("div", {}), going = h("div", {}), links = h("div", {}), head = h("div", { class: "top" }, name, line, going, links), charts = h("div", { class: "charts" }), chosen = h("div", { class: "segmented", role: "group", "aria-label": "horizontal axis" });
  const results = h("section", { hidden: true }), files = h("section", { hidden: true }), settings = h("section", {}), environment = h("section", {});
  put(view, head, chosen, charts, results, files, settings, environment);
  const figures = new Map();
  for (const way of ["step", "time"]) {
    chosen.append(h("button", { type: "button", "aria-pressed": String(way === axis), onclick: event => {
      axis = way;
      [...chosen.children].forEach(button => button.setAttribute("aria-pressed", button === event.currentTarget));
      curves(last);
    } }, `by ${way}`));
  }

  function title(document_) {
    const run = document_.run;
    const link = (id_, text) => h("a", { href: `#/run/${id_}` }, text);
    // Each by itself: what does not change keeps the focus.
    put(name, h("p", { class: "crumbs" }, h("a", { href: "#/" }, "Runs"), " / ", `${run.id}`), h("h1", {}, `${run.model}, ${nameOf(run)}`));
    put(line, h("p", { class: "line" }, badge(run), h("span", {}, run.kind), run.study && h("span", {}, `study ${run.study}`),
      h("span", {}, "started ", h("time", { datetime: run.started }, moment(run.started))), run.seconds !== undefined && h("span", {}, run.status === "running" ? `for ${duration(run.seconds)}` : `took ${duration(run.seconds)}`)));
    put(going,
      run.status === "running" && h("p", { class: "line big" }, progress(run), run.steps !== undefined && h("span", {}, `step ${run.step ?? 0} of ${run.steps}`), run.seconds_left !== undefined && h("span", {}, `${duration(run.seconds_left)} left`)),
      run.status === "lost" && h("p", { class: "notice" }, "Its process is gone and never said how it ended: it was killed, or the machine stopped. ", run.kind === "finetune" && "If it wrote checkpoints, the same command with --resume goes on."),
      run.note && h("pre", { class: run.status === "failed" ? "notice" : "" }, run.note));
    put(links,
      (run.resumes !== undefined || document_.resumed_by !== undefined) && h("p", { class: "line" },
        run.resumes !== undefined && link(run.resumes, `goes on from run ${run.resumes}`), document_.resumed_by !== undefined && link(document_.resumed_by, `run ${document_.resumed_by} goes on from here`)),
      document_.report && h("p", {}, h("a", { class: "button", href: document_.report, target: "_blank", rel: "noopener" }, "Open the study's report")));
  }

  function curves(document_) {
    last = document_;
    const all = new Map(document_.curves.map(curve => [curve.name, curve]));
    const time = all.get("elapsed_seconds");
    all.delete("elapsed_seconds");
    chosen.hidden = !time;
    const points = curve => curve.points.map(([x, y], i) => [axis === "step" ? x : curve.seconds[i], y * curve.scale]);
    const order = [...all.keys()];
    const groups = [...together.map(names => names.filter(name => all.has(name))).filter(names => names.length), ...order.filter(name => !together.flat().includes(name)).map(name => [name])].sort((a, b) => order.indexOf(a[0]) - order.indexOf(b[0]));
    groups.forEach((names, place) => {
      const key = names.join("+");
      if (!figures.has(key)) {
        const chart = h("div", { class: place === 0 ? "chart tall" : "chart", role: "img" });
        const figure = { chart, line: h("p", {}), title: h("h2", {}) };
        figure.element = h("figure", { class: place === 0 ? "wide" : null }, h("figcaption", {}, figure.title, figure.line), chart);
        figures.set(key, figure);
        charts.append(figure.element);
      }
      const figure = figures.get(key), shown = names.map(name => all.get(name));
      const parts = shown.map(curve => curve.heading.split(", ")), unit = parts[0][1];
      figure.title.textContent = parts.map(part => part[0]).join(" and ") + (unit ? `, ${unit}` : "");
      figure.line.textContent = shown.map(curve => `${shown.length > 1 ? `${curve.heading.split(",")[0]}: ` : ""}${document_.run.status === "running" ? "now" : "last"} ${curve.last.text}${curve.best ? `, best ${curve.best.text} at step ${curve.best.step}` : ""}`).join("; ");
      figure.chart.setAttribute("aria-label", `${figure.title.textContent}: ${figure.line.textContent}`);
      draw(figure.chart, lines(shown.map((curve, i) => ({ name: curve.heading.split(", ")[0], points: points(curve), color: i, noisy: ["train_loss", "step_tokens_per_second", "gradient_norm"].includes(curve.name), dash: 0 })), { x: axis === "step" ? "step" : "seconds" }));
    });
    charts.hidden = figures.size === 0;
  }

  function numbers(document_) {
    const list = document_.results;
    results.hidden = list.length === 0;
    put(results, h("h2", {}, "Results"), h("div", { class: "scroll" }, h("table", { class: "plain" },
      h("thead", {}, h("tr", {}, ["metric", "value", "95 % interval", "meaning"].map((name, i) => h("th", { scope: "col", class: i === 1 || i === 2 ? "number" : null }, name)))),
      h("tbody", {}, list.map(metric => h("tr", {}, h("th", { scope: "row" }, metric.heading, { lower: " ↓", higher: " ↑" }[metric.better] ?? ""), h("td", { class: "number" }, metric.text), h("td", { class: "number" }, metric.interval ?? ""), h("td", { class: "soft" }, metric.meaning)))))),
      h("p", { class: "hint" }, "↓ less is better, ↑ more is better. MB = 10⁶ bytes."));
  }

  function artefacts(document_) {
    const list = document_.artefacts;
    files.hidden = list.length === 0;
    put(files, h("h2", {}, "Files"), document_.run.output && h("p", { class: "hint" }, h("code", {}, document_.run.output)), h("div", { class: "scroll" }, h("table", { class: "plain" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "file"), h("th", { scope: "col", class: "number" }, "size"), h("th", { scope: "col" }, "path"))),
      h("tbody", {}, list.map(file => h("tr", {}, h("th", { scope: "row" }, file.name), h("td", { class: "number" }, bytes(file.bytes)), h("td", { class: "soft" }, h("code", {}, file.path), !file.exists && h("small", {}, "not there any more"))))))));
  }

  return async () => {
    const document_ = await get(`/api/runs/${id}`);
    document.title = `run ${id}, ${document_.run.model} – Nibble`;
    const running = document_.run.status === "running";
    // What has ended is drawn once.
    const form = JSON.stringify(document_);
    if (form !== known) {
      known = form;
      title(document_);
      curves(document_);
      numbers(document_);
      artefacts(document_);
      put(settings, h("h2", {}, "Configuration"), facts(flatten(document_.configuration)));
      put(environment, h("h2", {}, "Environment"), facts(flatten(document_.environment)));
    }
    return running;
  };
}
