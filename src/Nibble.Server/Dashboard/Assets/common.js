// What every page needs: elements from text (never from markup, so nothing in a run's names can become markup), numbers, requests.

/** An element; properties that begin with "on" are listeners, the rest attributes; children are elements or text. */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined && child !== false));
  return element;
}

/** Puts children into an element in place of those that it has, unless they are the same: focus and what is marked stay. What is not there is left out. */
export function put(element, ...children) {
  const wanted = children.flat(Infinity).filter(child => child !== null && child !== undefined && child !== false);
  const form = child => child.outerHTML ?? String(child);
  const known = [...element.childNodes].map(child => child.outerHTML ?? child.data);
  if (wanted.length !== known.length || wanted.some((child, i) => form(child) !== known[i])) element.replaceChildren(...wanted);
}

/** An element of a drawing. */
export function s(tag, properties, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A document of the server; an error has what it says. */
export async function get(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" } });
  const document = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(document.error ?? `status ${answer.status}`), { known: true });
  return document;
}

/** Text for the tooltips of the charts, which take markup. */
export const escape = text => String(text).replace(/[&<>"']/g, sign => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" })[sign]);

export function number(value, digits = 4) {
  if (value === 0) return "0";
  const power = Math.floor(Math.log10(Math.abs(value)));
  if (power < -4) return value.toExponential(Math.max(0, digits - 2));
  const decimals = Math.min(6, Math.max(0, digits - 1 - power));
  return value.toLocaleString("en-US", { minimumFractionDigits: 0, maximumFractionDigits: decimals });
}

export function bytes(value) {
  return value < 1e4 ? `${value.toLocaleString("en-US")} B` : value < 1e6 ? `${(value / 1e3).toFixed(1)} kB` : value < 1e9 ? `${(value / 1e6).toFixed(1)} MB` : `${(value / 1e9).toFixed(2)} GB`;
}

export function duration(seconds) {
  if (seconds === undefined) return "";
  const whole = Math.round(seconds);
  if (whole < 100) return `${whole} s`;
  if (whole < 6000) return `${Math.floor(whole / 60)} min ${whole < 1200 ? `${whole % 60} s` : ""}`.trim();
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** A moment as the reader's clock shows it. */
export function moment(text) {
  const time = new Date(text);
  const today = new Date().toDateString() === time.toDateString();
  return today ? time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" }) : time.toLocaleString([], { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
}

export const nameOf = run => run.label && run.label !== run.method ? run.label : run.method;

/** The status, and how far a running one is. */
export function badge(run) {
  const meaning = { lost: "its process ended without a word" }[run.status];
  return h("span", { class: `badge ${run.status}`, title: meaning }, run.status);
}

export function progress(run) {
  if (run.status !== "running" || run.progress === undefined) return null;
  const percent = Math.round(run.progress * 100);
  return h("span", { class: "progress" }, h("progress", { max: 100, value: percent, "aria-label": `run ${run.id}, done` }), `${percent} %`);
}

/** A key and what it holds, as deep as it goes. */
export function flatten(value, path = "") {
  if (value === null || value === undefined) return [];
  if (Array.isArray(value)) return value.length ? [[path, value.every(item => typeof item !== "object") ? value.join(", ") : JSON.stringify(value)]] : [];
  if (typeof value === "object") return Object.entries(value).flatMap(([name, inner]) => flatten(inner, path ? `${path}.${name}` : name));
  return value === "" ? [] : [[path, String(value)]];
}

export const facts = pairs => h("dl", {}, pairs.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
