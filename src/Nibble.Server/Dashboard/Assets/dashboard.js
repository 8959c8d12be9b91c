// Which page is shown, and when it is brought up to date: while the window is looked at, often while something runs.
import { h } from "./common.js";
import { forget } from "./charts.js";
import { runsPage } from "./runs.js";
import { runPage } from "./run.js";
import { comparePage } from "./compare.js";
import { machinePage } from "./machine.js";

const often = 2000, seldom = 6000;
const view = document.getElementById("view"), live = document.getElementById("live");
let turn = 0, timer = 0, refresh = null;

const go = place => { location.hash = `#${place}`; };

function route() {
  const [path, search] = (location.hash.replace(/^#/, "") || "/").split("?");
  const query = new URLSearchParams(search ?? "");
  const parts = path.split("/").filter(Boolean);
  document.title = "Nibble dashboard";
  if (parts.length === 0) return ["runs", runsPage(view, query, go)];
  if (parts[0] === "run" && /^\d+$/.test(parts[1] ?? "")) return ["runs", runPage(view, parts[1])];
  const ids = (parts[1] ?? "").split(",").filter(id => /^\d+$/.test(id));
  if (parts[0] === "compare" && ids.length > 1) return ["runs", comparePage(view, ids, query, go)];
  if (parts[0] === "machine") return ["machine", machinePage(view)];
  view.replaceChildren(h("h1", {}, "There is no such page"), h("p", {}, h("a", { href: "#/" }, "Runs")));
  return ["", null];
}

async function update(mine) {
  clearTimeout(timer);
  let running = false;
  try {
    running = await refresh?.();
    if (mine !== turn) return;
    live.textContent = running ? "live" : "";
    live.className = "live";
  } catch (error) {
    if (mine !== turn) return;
    live.textContent = error.known ? "" : "the dashboard does not answer";
    live.className = "live away";
    if (error.known && view.dataset.loaded !== "yes") view.replaceChildren(h("h1", {}, "This can't be shown"), h("pre", { class: "notice" }, error.message), h("p", {}, h("a", { href: "#/" }, "Runs")));
    if (!error.known && !(error instanceof TypeError)) console.error(error);
  }
  view.dataset.loaded = "yes";
  if (running !== null && refresh) timer = setTimeout(() => document.hidden ? wait(mine) : update(mine), running ? often : seldom);
}

function wait(mine) {
  const shown = () => { if (!document.hidden) { document.removeEventListener("visibilitychange", shown); if (mine === turn) update(mine); } };
  document.addEventListener("visibilitychange", shown);
}

function open() {
  forget();
  turn++;
  delete view.dataset.loaded;
  const [page, next] = route();
  refresh = next;
  document.querySelectorAll("nav a").forEach(link => link.dataset.page === page ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current"));
  scrollTo(0, 0);
  update(turn);
}

// The address holds the page: a link that only moves the focus must not change it.
document.getElementById("skip").addEventListener("click", event => { event.preventDefault(); view.focus(); });
addEventListener("hashchange", open);
open();
