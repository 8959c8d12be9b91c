"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const cells = data.cells;
  const charts = [];
  document.documentElement.classList.add("scripted");

  // ---- the table: sorts by the raw number of each cell
  const table = document.getElementById("results");
  table.classList.add("sortable");
  const heads = [...table.tHead.rows[0].cells];
  const valueOf = (row, i) => {
    const cell = row.cells[i];
    return cell.dataset.value === undefined ? cell.textContent : cell.dataset.value === "" ? NaN : Number(cell.dataset.value);
  };
  const sortBy = i => {
    const down = heads[i].getAttribute("aria-sort") === "ascending";
    heads.forEach(head => head.removeAttribute("aria-sort"));
    heads[i].setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const x = valueOf(a, i), y = valueOf(b, i);
      if (typeof x === "string") return (down ? -1 : 1) * x.localeCompare(y);
      if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
      return (down ? -1 : 1) * (x - y);
    });
    table.tBodies[0].append(...rows);
  };
  heads.forEach((head, i) => {
    head.tabIndex = 0;
    head.addEventListener("click", () => sortBy(i));
    head.addEventListener("keydown", event => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sortBy(i); } });
  });

  // ---- colours by bits, the same in every chart
  const groups = [
    { name: "16 and 32 bit", color: "--b16", has: bits => bits > 8 },
    { name: "8 bit", color: "--b8", has: bits => bits > 4 && bits <= 8 },
    { name: "4 bit", color: "--b4", has: bits => bits > 3 && bits <= 4 },
    { name: "3 bit", color: "--b3", has: bits => bits > 2 && bits <= 3 },
    { name: "2 bit and less", color: "--b2", has: bits => bits <= 2 },
  ];
  const groupOf = cell => groups.find(group => group.has(cell.bits ?? 16)) ?? groups[0];
  // On a telephone names are cut, ticks are fewer, and the legend has rows of its own above the plot.
  const narrow = () => innerWidth < 600;
  const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const nameOf = cell => data.models ? `${cell.model}, ${cell.label}` : cell.label;
  const has = metric => cell => cell.metrics[metric] !== undefined;
  const number = (value, digits = 3) => {
    const decimals = value === 0 ? 0 : Math.min(6, Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value)))));
    return value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  };
  const escape = text => text.replace(/[&<>"]/g, sign => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[sign]);
  const tip = (cell, lines) => `<b>${escape(nameOf(cell))}</b><br>${lines.join("<br>")}`;
  const base = () => ({
    animationDuration: 350,
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: css("--text") },
    tooltip: { confine: true, backgroundColor: css("--card"), borderColor: css("--line"), textStyle: { color: css("--text"), fontSize: 13 } },
  });
  const axis = more => ({
    axisLine: { lineStyle: { color: css("--line") } }, axisTick: { show: false }, axisLabel: { color: css("--soft") },
    splitLine: { lineStyle: { color: css("--line"), opacity: .7 } }, nameTextStyle: { color: css("--soft") }, ...more,
  });
  const draw = (id, option) => {
    const element = document.getElementById(id);
    if (!option) { (element.closest("figure") ?? element).hidden = true; return; }
    const chart = echarts.init(element, null, { renderer: "svg" });
    chart.setOption(option);
    charts.push(chart);
  };

  // A line from low to high with two ends, in either direction.
  const whisker = (horizontal, color) => ({
    type: "custom", silent: true, z: 4, tooltip: { show: false },
    renderItem: (params, api) => {
      const [place, low, high] = [api.value(0), api.value(1), api.value(2)];
      if (isNaN(low) || isNaN(high)) return null;
      const a = api.coord(horizontal ? [low, place] : [place, low]), b = api.coord(horizontal ? [high, place] : [place, high]);
      const style = { stroke: css(color), lineWidth: 1.4, opacity: .75 };
      const [dx, dy] = horizontal ? [0, 4] : [4, 0];
      const line = (x1, y1, x2, y2) => ({ type: "line", shape: { x1, y1, x2, y2 }, style });
      return { type: "group", children: [line(a[0], a[1], b[0], b[1]), line(a[0] - dx, a[1] - dy, a[0] + dx, a[1] + dy), line(b[0] - dx, b[1] - dy, b[0] + dx, b[1] + dy)] };
    },
  });

  // Labels beside their points, moved up or down until none covers another; a line leads back to the point.
  const placeLabels = (right, bottom) => {
    const dots = new Map();
    let placed = new Map();
    return item => {
      const key = `${item.seriesIndex}/${item.dataIndex}`;
      if (placed.has(key)) placed = new Map();
      const { width, height } = item.labelRect, dot = item.rect;
      const x = dot.x + dot.width / 2, y = dot.y + dot.height / 2;
      dots.set(key, { x: dot.x, y: dot.y, width: dot.width, height: dot.height });
      const free = box => [...placed.values(), ...dots.values()].every(other => other === dots.get(key) ||
        box.x + width < other.x || other.x + other.width < box.x || box.y + height < other.y + 1 || other.y + other.height < box.y + 1);
      let box = null;
      for (let step = 0; step < 24 && !box; step++) {
        for (const side of [1, -1]) {
          const down = (step % 2 ? -1 : 1) * Math.ceil(step / 2) * 9;
          const tried = { x: side > 0 ? x + 14 : x - 14 - width, y: y - height / 2 + down, width, height };
          if (tried.x > 40 && tried.x + width < right() && tried.y > 4 && tried.y + height < bottom() && free(tried)) { box = tried; break; }
        }
      }
      box ??= { x: x + 14, y: y - height / 2, width, height };
      placed.set(key, box);
      const near = box.x > x ? box.x - 2 : box.x + width + 2, middle = box.y + height / 2;
      const moved = Math.abs(middle - y) > 6;
      return { x: box.x, y: middle, align: "left", verticalAlign: "middle", labelLinePoints: moved ? [[x, y], [near, middle], [near, middle]] : [[x, y], [x, y], [x, y]] };
    };
  };

  // The interval that separates methods is the paired one: what differs between texts is the same for all of them.
  const paired = cell => {
    const baseline = cells.find(other => other.baseline && other.model === cell.model);
    const ratio = cell.intervals.perplexity_ratio;
    return baseline && ratio ? ratio.map(end => end * baseline.metrics.perplexity) : cell.baseline ? null : cell.intervals.perplexity;
  };

  const scatter = () => {
    const points = cells.filter(cell => has("perplexity")(cell) && has("weight_bytes")(cell));
    if (points.length === 0) return null;
    const mb = cell => cell.metrics.weight_bytes / 1e6, ppl = cell => cell.metrics.perplexity;
    // A method that destroys the model would squeeze all others into one line: it is drawn at the upper edge, with its value.
    const best = Math.min(...points.map(ppl)), ceiling = best * 2;
    const beyond = cell => ppl(cell) > ceiling;
    const inside = points.filter(cell => !beyond(cell)).map(ppl);
    const top = points.some(beyond) ? Math.max(best * 1.25, best + (Math.max(...inside) - best) * 1.2) : undefined;
    const place = cell => [mb(cell), beyond(cell) ? top : ppl(cell)];
    const sizes = points.map(mb);
    const power = (value, round) => 2 ** round(Math.log2(value));
    const room = document.getElementById("scatter");
    const layout = placeLabels(() => room.clientWidth - 4, () => room.clientHeight - 44);
    const symbols = ["circle", "rect", "triangle", "diamond", "roundRect", "pin"];
    const models = [...new Set(points.map(cell => cell.model))];
    const series = groups.map(group => ({
      name: group.name, type: "scatter", symbolSize: 13, z: 5, itemStyle: { color: css(group.color), borderColor: css("--card"), borderWidth: 1.5 },
      label: { show: true, position: "right", formatter: item => nameOf(item.data.cell) + (beyond(item.data.cell) ? ` (${number(ppl(item.data.cell), 3)})` : ""), color: css("--text"), fontSize: 12, textBorderColor: css("--card"), textBorderWidth: 3 },
      labelLayout: layout,
      labelLine: { show: true, lineStyle: { color: css("--soft"), opacity: .6 } },
      data: points.filter(cell => groupOf(cell) === group).map(cell => ({ value: place(cell), cell, symbol: beyond(cell) ? "path://M0,10 L5,0 L10,10 Z" : symbols[models.indexOf(cell.model) % symbols.length] })),
    })).filter(item => item.data.length > 0);
    const fronts = models.map(model => ({
      name: "Pareto front", type: "line", step: "end", symbol: "none", silent: true, z: 2,
      lineStyle: { color: css("--front"), width: 1.5, type: "dashed" }, itemStyle: { color: css("--front") },
      data: points.filter(cell => cell.model === model && cell.front).map(place).sort((a, b) => a[0] - b[0]),
    }));
    const bars = {
      ...whisker(false, "--soft"), name: "95 % interval", encode: { x: 0, y: [1, 2] },
      data: points.filter(cell => paired(cell) && !beyond(cell)).map(cell => [mb(cell), ...paired(cell)]),
    };
    return {
      ...base(),
      grid: narrow() ? { left: 34, right: 12, top: 92, bottom: 44 } : { left: 58, right: 40, top: 40, bottom: 44 },
      legend: { top: 0, ...(narrow() ? { left: 0 } : { right: 0 }), itemHeight: 9, itemWidth: 20, itemGap: 16, textStyle: { color: css("--soft") }, data: [...series.map(item => ({ name: item.name, icon: "circle" })), "Pareto front"] },
      tooltip: {
        ...base().tooltip, trigger: "item",
        formatter: item => tip(item.data.cell, [`${number(mb(item.data.cell))} MB of weights`, `perplexity ${number(ppl(item.data.cell), 4)}`,
          ...(paired(item.data.cell) ? [`95 %, paired with the baseline: ${paired(item.data.cell).map(end => number(end, 4)).join(" to ")}`] : [])]),
      },
      xAxis: axis({ type: "log", logBase: 2, min: power(Math.min(...sizes) * .9, Math.floor), max: power(Math.max(...sizes), Math.ceil), name: "weights in memory, MB (log scale)", nameLocation: "middle", nameGap: 28 }),
      yAxis: axis({ type: "value", name: "perplexity", scale: true, max: top, nameTextStyle: { color: css("--soft"), align: "left" }, nameGap: 14,
        axisLabel: { color: css("--soft"), showMaxLabel: !top, formatter: value => value.toLocaleString("en-US") } }),
      series: [...series, ...fronts, bars],
    };
  };

  // Horizontal bars in the order of the study, with whiskers where there is an interval.
  const bars = (metric, { scale = value => value, digits = 3, log = false, unit = "" }) => {
    const shown = cells.filter(has(metric));
    if (shown.length === 0) return null;
    const value = cell => scale(cell.metrics[metric]);
    const ends = cell => cell.intervals[metric]?.map(scale);
    const text = number_ => `${number(number_, digits)}${unit}`;
    const positive = shown.map(value).filter(item => item > 0);
    const floor = log ? Math.pow(10, Math.floor(Math.log10(Math.min(...positive)))) : 0;
    return {
      ...base(),
      grid: { left: narrow() ? 0 : 8, right: narrow() ? 0 : 8, top: 6, bottom: 8, containLabel: true },
      tooltip: { ...base().tooltip, trigger: "item", formatter: item => tip(item.data.cell, [text(value(item.data.cell)), ...(ends(item.data.cell) ? [`interval: ${ends(item.data.cell).map(text).join(" to ")}`] : [])]) },
      xAxis: axis(log
        ? { type: "log", min: floor, startValue: floor, axisLabel: { color: css("--soft"), hideOverlap: true, formatter: tick => `${tick.toLocaleString("en-US")}${unit}` } }
        : { type: "value", splitNumber: narrow() ? 2 : 4, axisLabel: { color: css("--soft"), hideOverlap: true } }),
      // The numbers stand in a column of their own, where no whisker runs through them.
      yAxis: [
        axis({ type: "category", inverse: true, data: shown.map(nameOf), splitLine: { show: false }, axisLabel: { color: css("--text"), fontSize: 12, interval: 0, ...(narrow() && { width: 104, overflow: "truncate" }) } }),
        axis({ type: "category", inverse: true, position: "right", data: shown.map(cell => text(value(cell))), splitLine: { show: false }, axisLine: { show: false }, axisLabel: { color: css("--text"), fontSize: 12, interval: 0 } }),
      ],
      series: [
        {
          type: "bar", barWidth: "62%", itemStyle: { borderRadius: [0, 4, 4, 0] },
          data: shown.map(cell => ({ value: log ? Math.max(value(cell), floor) : value(cell), cell, itemStyle: { color: css(groupOf(cell).color) } })),
        },
        { ...whisker(true, "--text"), encode: { x: [1, 2], y: 0 }, data: shown.map((cell, i) => [i, ...(ends(cell) ?? [NaN, NaN]).map(end => log ? Math.max(end, floor) : end)]) },
      ],
    };
  };

  const loss = () => {
    const lost = cells.filter(has("perplexity_ratio")).map(cell => cell.metrics.perplexity_ratio - 1).filter(item => item > 0);
    const log = lost.length > 1 && Math.max(...lost) > 30 * Math.min(...lost);
    return bars("perplexity_ratio", { scale: value => (value - 1) * 100, log, unit: " %" });
  };

  // Each axis from 0 to 1, where 1 is the best of the study.
  const axes = [
    { name: "quality", metric: "perplexity", lower: true },
    { name: "small\nweights", metric: "weight_bytes", lower: true },
    { name: "decode\nspeed", metric: "decode_tokens_per_second", lower: false },
    { name: "low\nmemory", metric: "peak_memory_bytes", lower: true },
    { name: "low\nenergy", metric: "energy_joules", lower: true },
  ];
  const radars = () => {
    const used = axes.filter(item => cells.some(has(item.metric)));
    if (used.length < 3) return;
    const score = (cell, item) => {
      const all = cells.filter(has(item.metric)).map(other => other.metrics[item.metric]);
      return !has(item.metric)(cell) ? 0 : item.lower ? Math.min(...all) / cell.metrics[item.metric] : cell.metrics[item.metric] / Math.max(...all);
    };
    const dashes = ["solid", "dashed", "dotted", [8, 3, 2, 3], [12, 4], [3, 6]];
    const shades = ["--b4", "--b8", "--b3", "--b2", "--b16", "--accent"];
    for (const group of groups) {
      const members = cells.filter(cell => groupOf(cell) === group);
      if (members.length === 0) continue;
      const figure = document.createElement("figure");
      const id = `radar-${groups.indexOf(group)}`;
      figure.innerHTML = `<figcaption><h2>${group.name}</h2><p>1 = best of the whole study on that axis; quality = lowest perplexity ÷ perplexity.</p></figcaption><div class="chart" id="${id}" role="img" aria-label="Radar of ${group.name}; the numbers are in the table below"></div>`;
      document.getElementById("radars").append(figure);
      draw(id, {
        ...base(),
        legend: { bottom: 0, type: "plain", itemWidth: 18, itemHeight: 8, icon: "roundRect", textStyle: { color: css("--soft"), fontSize: 12 } },
        radar: {
          indicator: used.map(item => ({ name: item.name, max: 1, min: 0 })), radius: "60%", center: ["50%", "47%"], splitNumber: 4, axisNameGap: 8, axisName: { color: css("--soft"), fontSize: 12, lineHeight: 14 },
          splitArea: { show: false }, splitLine: { lineStyle: { color: css("--line") } }, axisLine: { lineStyle: { color: css("--line") } },
        },
        tooltip: { ...base().tooltip, trigger: "item", formatter: item => tip(item.data.cell, used.map((one, i) => `${one.name.replace("\n", " ")}: ${number(item.value[i], 2)}`)) },
        series: [{
          type: "radar", symbolSize: 5,
          data: members.map((cell, i) => ({
            name: nameOf(cell), cell, value: used.map(item => score(cell, item)),
            itemStyle: { color: css(shades[i % shades.length]) }, lineStyle: { width: 2, type: dashes[i % dashes.length] }, areaStyle: { opacity: .06 },
          })),
        }],
      });
    }
  };

  const render = () => {
    charts.splice(0).forEach(chart => chart.dispose());
    document.getElementById("radars").replaceChildren();
    document.querySelector(".charts").hidden = false;
    draw("scatter", scatter());
    // The second layout knows where all points are.
    charts.at(-1)?.resize();
    draw("accuracy", bars("accuracy", { scale: value => value * 100, unit: " %" }));
    draw("f1", bars("macro_f1", { scale: value => value * 100, unit: " %" }));
    draw("loss", loss());
    draw("speed", bars("decode_tokens_per_second", {}));
    draw("size", bars("weight_bytes", { scale: value => value / 1e6, unit: " MB" }));
    draw("energy", bars("energy_joules", { unit: " J" }));
    radars();
  };

  render();
  let was = narrow();
  addEventListener("resize", () => {
    if (narrow() === was) { charts.forEach(chart => chart.resize()); return; }
    was = narrow();
    render();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", render);
})();
