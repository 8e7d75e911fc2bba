// Draws a dashboard's panels with uPlot: a preview, not Grafana. `board` and `uPlot` come before this.
const COLOURS = ["#5794f2", "#73bf69", "#ff9830", "#b877d9", "#f2cc0c", "#8ab8ff", "#ff7383", "#96d98d"];
const NAMED = {red: "#f2495c", green: "#73bf69", yellow: "#fade2a", orange: "#ff9830", text: "#d8d9da",
  blue: "#5794f2", purple: "#b877d9", transparent: "transparent"};
const UNITS = {s: " s", reqps: " req/s", ops: " ops/s", kwatt: " kW", kwatth: " kWh"};
const CELL = 38, WIDTH = 1560;

function shown(value, unit) {
  if (value === null || value === undefined) return "–";
  if (unit === "percentunit") return `${+(value * 100).toPrecision(3)} %`;
  if (unit === "bytes") return `${+(value / 2 ** 20).toPrecision(3)} MiB`;
  if (unit === "s" && value !== 0 && Math.abs(value) < 1) {
    return Math.abs(value) < 1e-3 ? `${+(value * 1e6).toPrecision(3)} µs` : `${+(value * 1e3).toPrecision(3)} ms`;
  }
  return `${+value.toPrecision(4)}${UNITS[unit] ?? ""}`;
}

const last = (values) => values.findLast((each) => each !== null) ?? null;
const coloured = (steps, value) =>
  NAMED[steps.filter((each) => each.value === null || value >= each.value).at(-1)?.color] ?? NAMED.text;

function element(parent, kind, className, text = "") {
  const made = document.createElement(kind);
  made.className = className;
  made.textContent = text;
  parent.append(made);
  return made;
}

function stat(box, panel) {
  const value = panel.series.length ? last(panel.series[0].values) : null;
  const number = element(box, "div", "number", value === null ? "no data" : shown(value, panel.unit));
  if (value !== null) number.style.color = coloured(panel.steps, value);
}

function states(box, panel) {
  for (const series of panel.series) {
    const line = element(box, "div", "line");
    element(line, "span", "name", series.name);
    const bar = element(line, "span", "bar");
    for (const value of series.values) {
      const part = element(bar, "i", "");
      part.style.background = value === null ? "transparent" : coloured(panel.steps, value);
    }
    const [off, on] = panel.words;
    element(line, "span", "name", last(series.values) ? on : off);
  }
}

function graph(box, panel) {
  const total = board.times.map(() => 0);
  const drawn = panel.series.map((series) => panel.stacked
    ? series.values.map((value, index) => (total[index] += value ?? 0)) : series.values);
  const limits = panel.limit === null ? [] : [board.times.map(() => panel.limit)];
  const lines = panel.series.map((series, index) => {
    const isLimit = series.name.startsWith("limit of ");
    const stroke = isLimit ? "#c4162a" : COLOURS[index % COLOURS.length];
    return {stroke, width: isLimit ? 1 : 2, dash: isLimit ? [8, 8] : undefined,
      fill: panel.stacked && !isLimit ? `${stroke}55` : undefined, points: {show: false}};
  });
  const ofLimit = {stroke: "#c4162a", width: 1, dash: [8, 8], points: {show: false}};
  const order = panel.stacked ? drawn.map((_, index) => drawn.length - 1 - index) : drawn.map((_, index) => index);
  const axis = {stroke: "#8e8e8e", grid: {stroke: "#ffffff14", width: 1}, ticks: {show: false}, font: "11px sans-serif"};
  const high = Math.max(panel.limit ?? 0, ...drawn.flat().filter((each) => each !== null)) || 1;
  new uPlot({
    width: box.clientWidth - 8, height: box.clientHeight - 56, legend: {show: false}, cursor: {show: false},
    series: [{}, ...order.map((index) => lines[index]), ...limits.map(() => ofLimit)],
    scales: {y: {range: [0, high * 1.05]}},
    axes: [axis, {...axis, size: 62, values: (_, values) => values.map((each) => shown(each, panel.unit))}],
    hooks: {drawClear: [(plot) => marks(plot)]},
  }, [board.times, ...order.map((index) => drawn[index]), ...limits], box);
  const legend = element(box, "div", "legend", panel.series.length ? "" : "no data");
  panel.series.forEach((series, index) => {
    if (series.name.startsWith("limit of ")) return;
    const entry = element(legend, "span", "", `${series.name || panel.title}: ${shown(last(series.values), panel.unit)}`);
    entry.style.color = COLOURS[index % COLOURS.length];
  });
}

function marks(plot) {
  for (const mark of board.marks) {
    plot.ctx.fillStyle = `${NAMED[mark.color]}40`;
    const width = Math.max(1, plot.valToPos(board.times[0] + board.step, "x", true) - plot.valToPos(board.times[0], "x", true));
    for (const at of mark.times) {
      plot.ctx.fillRect(plot.valToPos(at, "x", true), plot.bbox.top, width, plot.bbox.height);
    }
  }
}

document.title = board.title;
const main = document.querySelector("main");
element(main, "h1", "", `${board.title}: a preview, drawn with uPlot; not Grafana`);
const grid = element(main, "div", "grid");
let bottom = 0;
for (const panel of board.panels) {
  const box = element(grid, "section", panel.type);
  const {x, y, w, h} = panel.at;
  Object.assign(box.style, {left: `${x * WIDTH / 24}px`, top: `${y * CELL}px`,
    width: `${w * WIDTH / 24 - 8}px`, height: `${h * CELL - 8}px`});
  bottom = Math.max(bottom, (y + h) * CELL);
  element(box, "h2", "", panel.title);
  ({stat, "state-timeline": states, timeseries: graph})[panel.type]?.(box, panel);
}
grid.style.height = `${bottom}px`;
const key = element(main, "p", "", "Shaded: ");
for (const mark of board.marks) {
  element(key, "span", "", `${mark.name} `).style.color = NAMED[mark.color];
}
document.body.dataset.drawn = "yes";
