// Charts. The library is loaded when the first one is drawn; small courses in tables are drawn here.
import { escape, number, s } from "./common.js";

let library = null;
const drawn = new Map();

function load() {
  library ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = "/assets/echarts.js";
    script.onload = () => done(window.echarts);
    script.onerror = () => failed(new Error("the charts cannot be loaded"));
    document.head.append(script);
  });
  return library;
}

const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colors = () => ["--b8", "--b3", "--b4", "--b2", "--b16", "--violet", "--pink", "--lime"].map(css);
export const colorOf = i => colors()[i % colors().length];
const dashes = ["solid", "dashed", "dotted"];

/** Draws, or draws again what has changed. What is passed makes the option, so that colours follow the scheme. */
export async function draw(element, option) {
  const echarts = await load();
  if (!element.isConnected) return;
  const known = drawn.get(element);
  const chart = known?.chart ?? echarts.init(element, null, { renderer: "svg" });
  drawn.set(element, { chart, option });
  chart.setOption({ ...option(), animation: !known && !matchMedia("(prefers-reduced-motion: reduce)").matches }, { notMerge: true });
}

/** Frees the charts of a page that is left. */
export function forget() {
  for (const { chart } of drawn.values()) chart.dispose();
  drawn.clear();
}

addEventListener("resize", () => drawn.forEach(({ chart }) => chart.resize()));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(({ chart, option }) => chart.setOption(option(), { notMerge: true })));

const base = () => ({
  animationDuration: 300,
  textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: css("--text") },
  tooltip: { confine: true, backgroundColor: css("--card"), borderColor: css("--line"), textStyle: { color: css("--text"), fontSize: 13 } },
});
const axis = more => ({
  axisLine: { lineStyle: { color: css("--line") } }, axisTick: { show: false }, axisLabel: { color: css("--soft"), hideOverlap: true },
  splitLine: { lineStyle: { color: css("--line"), opacity: .7 } }, nameTextStyle: { color: css("--soft") }, ...more,
});

// A noisy curve keeps its points, thin, and gets a mean that the eye can follow.
function smooth(points) {
  const weight = Math.min(.97, 1 - 1 / Math.max(2, points.length / 25));
  let mean = 0, all = 0;
  return points.map(([x, y]) => {
    mean = weight * mean + (1 - weight) * y;
    all = weight * all + (1 - weight);
    return [x, mean / all];
  });
}

/** Lines over steps or time. A series has name, points, color, and may be noisy, dashed or marked. */
export function lines(series, { x = "step", log = false } = {}) {
  return () => {
    const shown = series.flatMap(item => {
      const color = colorOf(item.color);
      const line = {
        type: "line", name: item.name, data: item.points, showSymbol: item.points.length < 30, symbolSize: 5, color, z: 3,
        lineStyle: { width: 2, type: dashes[item.dash ?? 0], color }, itemStyle: { color }, emphasis: { disabled: true },
      };
      return item.noisy && item.points.length > 40
        ? [{ ...line, name: `${item.name} `, showSymbol: false, silent: true, z: 2, lineStyle: { width: 1, color, opacity: .3 }, tooltip: { show: false } }, { ...line, showSymbol: false, data: smooth(item.points) }]
        : [line];
    });
    const many = series.length > 1;
    return {
      ...base(),
      aria: { enabled: true },
      grid: { left: 8, right: 14, top: many ? 34 : 12, bottom: 22, containLabel: true },
      legend: many ? { top: 0, left: 0, type: "plain", itemHeight: 8, itemWidth: 18, textStyle: { color: css("--soft") }, data: series.map(item => item.name) } : undefined,
      tooltip: {
        ...base().tooltip, trigger: "axis", axisPointer: { lineStyle: { color: css("--soft") } },
        formatter: items => `${x} ${number(items[0].axisValue)}<br>` + items.filter(item => !item.seriesName.endsWith(" ")).map(item => `${item.marker}${escape(item.seriesName)}: <b>${number(item.value[1])}</b>`).join("<br>"),
      },
      xAxis: axis({ type: "value", name: x, nameLocation: "middle", nameGap: 24, min: "dataMin", max: "dataMax", splitLine: { show: false }, axisLabel: { color: css("--soft"), hideOverlap: true, formatter: value => number(value) } }),
      yAxis: axis({ type: log ? "log" : "value", scale: true, splitNumber: 4, axisLabel: { color: css("--soft"), hideOverlap: true, formatter: value => number(value) } }),
      series: shown,
    };
  };
}

/** Perplexity against megabytes. A point has name, x, y, low, high, front, color. */
export function scatter(points) {
  return () => {
    // Labels of neighbours stand on different sides of their points.
    const span = axis_ => Math.max(...points.map(point => point[axis_])) - Math.min(...points.map(point => point[axis_])) || 1;
    const [wide, high] = [span("x"), span("y")], left = Math.min(...points.map(point => point.x));
    points.forEach((point, i) => {
      const near = points.slice(0, i).filter(other => Math.abs(other.x - point.x) < wide * .2 && Math.abs(other.y - point.y) < high * .1).map(other => other.side);
      const sides = point.x - left > wide * .8 ? ["left", "top", "bottom"] : ["right", "left", "top", "bottom"];
      point.side = sides.find(side => !near.includes(side)) ?? sides[0];
    });
    const front = points.filter(point => point.front).map(point => [point.x, point.y]).sort((a, b) => a[0] - b[0]);
    return {
      ...base(),
      grid: { left: 8, right: 24, top: 30, bottom: 30, containLabel: true },
      tooltip: { ...base().tooltip, trigger: "item", formatter: item => item.data.point ? `<b>${escape(item.data.point.name)}</b><br>${number(item.data.point.x)} MB of weights<br>perplexity ${number(item.data.point.y)}${item.data.point.low === undefined ? "" : `<br>interval ${number(item.data.point.low)} to ${number(item.data.point.high)}`}` : "" },
      xAxis: axis({ type: "value", scale: true, boundaryGap: ["12%", "4%"], name: "weights in memory, MB", nameLocation: "middle", nameGap: 28, axisLabel: { color: css("--soft"), hideOverlap: true, formatter: value => number(value) } }),
      yAxis: axis({ type: "value", scale: true, name: "perplexity", nameTextStyle: { color: css("--soft"), align: "left" }, nameGap: 6, splitNumber: 4 }),
      series: [
        { type: "line", step: "end", symbol: "none", silent: true, data: front, lineStyle: { color: css("--front"), width: 1.5, type: "dashed" } },
        {
          type: "scatter", symbolSize: 14, data: points.map(point => ({ value: [point.x, point.y], point, label: { position: point.side }, itemStyle: { color: colorOf(point.color), borderColor: css("--card"), borderWidth: 1.5 } })),
          label: { show: true, distance: 8, formatter: item => item.data.point.name, color: css("--text"), textBorderColor: css("--card"), textBorderWidth: 3 },
        },
      ],
    };
  };
}

/** A course in a table's cell. */
export function spark(values, label) {
  const [width, height] = [96, 24], low = Math.min(...values), range = Math.max(...values) - low || 1;
  const points = values.map((value, i) => `${(i * (width - 4) / Math.max(1, values.length - 1) + 2).toFixed(1)},${(height - 3 - (value - low) / range * (height - 6)).toFixed(1)}`);
  const last = points.at(-1).split(",");
  return s("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label },
    s("polyline", { points: points.join(" ") }), s("circle", { cx: last[0], cy: last[1], r: 2.2 }));
}
