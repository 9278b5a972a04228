/** Learning curves. Lines differ in their dashes as well as in their colours; the same numbers stand in a table below. */
import { number } from "./format.js";
import { html, useEffect, useRef, useState } from "./lib.js";
import { Table } from "./parts.js";

const HEIGHT = 240;
const DARK = matchMedia("(prefers-color-scheme: dark)");
const HEADS = { epoch: "Epoch", s: "Seconds" };
const MOST_ROWS = 200; // of the table: beyond it, the last ones

/** How the lines of a plot look: the job's own first, then its controls. */
const STYLES = {
  own: { token: "--line-own", width: 2.5 },
  training: { token: "--line-training", width: 1.5, dash: [2, 3], mark: "dotted" },
  scratch: { token: "--line-scratch", width: 2, dash: [8, 4], mark: "dashed" },
  frozen: { token: "--line-frozen", width: 2, dash: [10, 3, 2, 3], mark: "dotted" },
};

let library = null;

/** The drawing library, null until it is there: it is a third of the page's weight, so it comes with the first plot. */
function useLibrary() {
  const [found, setFound] = useState(() => library);
  useEffect(() => {
    if (found) return;
    import("../vendor/uPlot.esm.js").then((module) => {
      library = module.default;
      setFound(() => library);
    });
  }, []);
  return found;
}

/**
 * Curves over epochs, or over seconds where `unit` says so. `series` is a list of {name, style, points: [[epoch, value], …]}; an empty
 * one is not drawn. `share`: values are shares, shown from 0 to 100 %.
 */
export function Chart({ title, series, share = false, unit = "epoch" }) {
  const frame = useRef(null);
  const plot = useRef(null);
  const [dark, setDark] = useState(DARK.matches);
  const Plot = useLibrary();
  const drawn = series.filter((line) => line.points.length);
  const data = aligned(drawn);
  const shape = JSON.stringify([drawn.map((line) => [line.name, line.style]), share, dark]);
  useEffect(() => {
    const change = () => setDark(DARK.matches);
    DARK.addEventListener("change", change);
    return () => DARK.removeEventListener("change", change);
  }, []);
  useEffect(() => {
    if (!Plot || !drawn.length) return undefined;
    const place = frame.current;
    const made = new Plot(optionsOf(drawn, share, unit, place), data, place);
    plot.current = made;
    const watcher = new ResizeObserver(() => place.clientWidth && made.setSize({ width: place.clientWidth, height: HEIGHT }));
    watcher.observe(place);
    return () => {
      watcher.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape, Plot]);
  useEffect(() => plot.current?.setData(data));
  return html`<figure class="chart">
    <figcaption>${title}</figcaption>
    <div ref=${frame} role="img" aria-label=${spoken(title, drawn, share)}></div>
    ${drawn.length
      ? html`<${Numbers} title=${title} series=${drawn} data=${data} share=${share} unit=${unit} />`
      : html`<p class="note">The first epoch has not ended yet.</p>`}
  </figure>`;
}

function Numbers({ title, series, data, share, unit }) {
  const [open, setOpen] = useState(false);
  const [epochs, ...values] = data;
  const first = Math.max(0, epochs.length - MOST_ROWS);
  return html`<details onToggle=${(event) => setOpen(event.currentTarget.open)}>
    <summary>The numbers</summary>
    ${open && html`<${Table} caption=${title} head=${[HEADS[unit], ...series.map((line) => line.name)]}>
      ${epochs.slice(first).map((epoch, row) => html`<tr key=${epoch}>
        <th scope="row">${unit === "s" ? epoch.toFixed(1) : epoch}</th>
        ${values.map((column) => html`<td class="number">${shown(column[first + row], share)}</td>`)}
      </tr>`)}
    <//>`}
  </details>`;
}

function aligned(series) {
  const epochs = [...new Set(series.flatMap((line) => line.points.map(([epoch]) => epoch)))].sort((one, other) => one - other);
  const columns = series.map((line) => {
    const values = new Map(line.points);
    return epochs.map((epoch) => values.get(epoch) ?? null);
  });
  return [epochs, ...columns];
}

function optionsOf(series, share, unit, frame) {
  const style = getComputedStyle(frame);
  const color = (token) => style.getPropertyValue(token).trim();
  const axis = { stroke: color("--ink-soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1 } };
  return {
    width: frame.clientWidth || 300,
    height: HEIGHT,
    scales: { x: { time: false, range: unit === "s" ? fromZero : fromOne }, y: { range: share ? [0, 1] : fromZero } },
    axes: [
      { ...axis, label: unit, labelSize: 20, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] },
      { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => (share ? `${Math.round(tick * 100)} %` : number(tick))) },
    ],
    legend: { markers: { dash: (_, index) => STYLES[series[index - 1]?.style]?.mark ?? "solid" } },
    series: [{ label: unit }, ...series.map((line) => lineOf(line, color, share))],
  };
}

function fromOne(_plot, low, high) {
  return [Math.min(1, low), Math.max(2, high)];
}

function fromZero(_plot, _low, high) {
  return [0, Math.max(high, 0.01) * 1.05];
}

function lineOf({ name, style }, color, share) {
  const { token, width, dash } = STYLES[style];
  return { label: name, stroke: color(token), width, dash, spanGaps: true, points: { size: 5 }, value: (_, value) => shown(value, share) };
}

function shown(value, share) {
  if (value == null) return "–";
  return share ? `${(value * 100).toFixed(1)} %` : number(value);
}

function spoken(title, series, share) {
  const ends = series.map((line) => `${line.name} ${shown(line.points.at(-1)[1], share)}`);
  return ends.length ? `${title}; now ${ends.join(", ")}` : `${title}; no value yet`;
}
