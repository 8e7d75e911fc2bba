// The last five minutes as lines, drawn by uPlot.

import uPlot from "/page/uplot/uPlot.esm.js";
import { byId, make, setAttribute, setText } from "./dom.js";
import { byName, count, duration, figure, percent, rate, time } from "./format.js";
import { HISTORY_SECONDS } from "./model.js";

const MOST_LINES = 8; // of substations; of more, the highest, the median and the lowest are drawn
const HEIGHT = 150;

const CHARTS = [
  { name: "load", title: "Sessions per substation", note: "in progress and in flight", wide: true, shown: count, series: loads, whole: true },
  { name: "flow", title: "Requests", note: "a second", shown: rate, series: (history) => [
    ["accepted", "--line-1", smooth(history.accepted)], ["decided", "--line-2", smooth(history.assigned)], ["charged", "--line-3", smooth(history.completed)],
  ] },
  { name: "waiting", title: "Waiting", note: "for a substation", shown: count, whole: true, series: (history) => [["waiting", "--line-4", history.waiting]] },
  { name: "spread", title: "Spread", note: "highest less lowest utilisation", shown: percent, series: (history) => [["spread", "--line-1", history.spread]] },
  { name: "latency", title: "Latency", note: "request to session", shown: duration, series: (history) => [
    ["median", "--line-2", history.p50], ["95th percentile", "--line-4", history.p95],
  ] },
];

export class Charts {
  #model;
  #charts = [];
  #visible = true;

  constructor(model) {
    this.#model = model;
    const container = byId("charts");
    for (const each of CHARTS) {
      const legend = make("p", { class: "chart-legend" });
      const plot = make("div", { class: "plot", role: "img", "aria-label": `${each.title}: no figures yet` });
      container.append(make("figure", { class: each.wide ? "chart wide-chart" : "chart", "data-chart": each.name },
        make("figcaption", {}, make("strong", {}, each.title), " ", make("span", { class: "note" }, each.note)), plot, legend));
      this.#charts.push({ ...each, plot, legend, drawn: null, names: "" });
    }
    new ResizeObserver(() => this.#resize()).observe(container);
    new IntersectionObserver((entries) => { this.#visible = entries.at(-1).isIntersecting; }).observe(container);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#forget());
  }

  #forget() {
    for (const each of this.#charts) {
      each.drawn?.destroy();
      each.drawn = null;
    }
    this.draw();
  }

  #resize() {
    for (const { drawn, plot } of this.#charts) drawn?.setSize({ width: plot.clientWidth, height: HEIGHT });
  }

  draw() {
    const { history } = this.#model;
    if (!this.#visible || !history.at.length) return;
    for (const chart of this.#charts) {
      const series = chart.series(history);
      const names = series.map(([name]) => name).join("\n");
      const data = [history.at, ...series.map(([, , values]) => values)];
      if (chart.drawn && chart.names === names) {
        chart.drawn.setData(data);
      } else {
        chart.drawn?.destroy();
        chart.names = names;
        chart.entries = makeLegend(chart.legend, series);
        chart.drawn = new uPlot(options(chart, series, (index) => this.#legend(chart, index)), data, chart.plot);
      }
      this.#legend(chart, chart.drawn.cursor.idx);
    }
  }

  /** Show the figures at the cursor, or else the newest. */
  #legend(chart, index) {
    const data = chart.drawn?.data;
    if (!data) return;
    const at = index ?? data[0].length - 1;
    const texts = chart.entries.map((entry, number) => {
      const text = chart.shown(data[number + 1][at]);
      setText(entry.value, text);
      return `${entry.name} ${text}`;
    });
    setAttribute(chart.plot, "aria-label", `${chart.title}, ${chart.note}: ${texts.join(", ")}`);
  }
}

function makeLegend(legend, series) {
  legend.replaceChildren();
  return series.map(([name, colour]) => {
    const value = make("b");
    const swatch = make("span", { class: "line", "aria-hidden": "true" });
    swatch.style.background = `var(${colour})`;
    legend.append(make("span", { class: "entry" }, swatch, `${name} `, value));
    return { name, value };
  });
}

function options(chart, series, onCursor) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = {
    stroke: colour("--muted"), font: `11px ${style.getPropertyValue("--font")}`, ticks: { show: false },
    grid: { stroke: colour("--grid"), width: 1 },
  };
  return {
    width: Math.max(100, chart.plot.clientWidth), height: HEIGHT, padding: [8, 16, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 5 }, sync: { key: "five-minutes" } },
    hooks: { setCursor: [(plot) => onCursor(plot.cursor.idx)] },
    scales: {
      x: { time: true, range: (_plot, _low, high) => [high - HISTORY_SECONDS, high] },
      y: { range: (_plot, _low, high) => [0, Math.max(high * 1.1 || 0, chart.name === "latency" || chart.name === "spread" ? 0.1 : 1)] },
    },
    axes: [
      { ...axis, size: 24, space: 70, values: (_plot, ticks) => ticks.map((at) => time(at, at).slice(0, 5)), incrs: [60, 120] },
      { ...axis, size: 44, space: 34, values: (_plot, ticks) => ticks.map((value) => (chart.whole ? wholeTick(value) : axisText(chart, value))) },
    ],
    series: [{}, ...series.map(([label, name]) => ({ label, stroke: colour(name), width: 1.5, points: { show: false }, spanGaps: false }))],
  };
}

const wholeTick = (value) => (Number.isInteger(value) ? count(value) : "");
const axisText = (chart, value) => (chart.name === "latency" ? `${Number(value.toPrecision(2))} s` : chart.name === "spread" ? percent(value) : figure(value));

/** Return the mean of the last ten values at each place: single seconds are uneven. */
function smooth(values) {
  let sum = 0;
  return values.map((value, number) => {
    sum += value - (number >= 10 ? values[number - 10] : 0);
    return sum / Math.min(10, number + 1);
  });
}

function loads(history) {
  const names = Object.keys(history.loads).sort(byName);
  if (names.length <= MOST_LINES) return names.map((name, number) => [name, `--line-${number + 1}`, history.loads[name]]);
  const columns = Object.values(history.loads);
  const picked = { highest: [], median: [], lowest: [] };
  history.at.forEach((_, number) => {
    const values = columns.map((column) => column[number]).filter((value) => value !== null).sort((one, other) => one - other);
    picked.highest.push(values.at(-1) ?? null);
    picked.median.push(values[Math.floor(values.length / 2)] ?? null);
    picked.lowest.push(values[0] ?? null);
  });
  return [["highest", "--line-4", picked.highest], ["median", "--line-1", picked.median], ["lowest", "--line-2", picked.lowest]];
}
