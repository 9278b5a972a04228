/** The verdict over clips: with the carried layers and from scratch, by how many items of each label there were to learn from. */
import { count, number, percent, points } from "../format.js";
import { html } from "../lib.js";
import { To, Word } from "../parts.js";
import { useResource } from "../resource.js";
import { Numbers } from "./plots.js";

const WIDTH = 320;
const HEIGHT = 220;
const LEFT = 44;
const RIGHT = 24;
const TOP = 10;
const BOTTOM = 40;
const SHARES = [0, 0.25, 0.5, 0.75, 1];
const APART = 4; // pixels between the two marks of a model
const LEAST_GAP = 24; // pixels between two numbers on the axis
const TITLE = "Right answers over the clips of each label";
const HEAD = ["Clips of each label", "Model", "With the carried layers", "From scratch", "Gain", "Judged on"];

/** `dataset` null: nothing is asked for. Shown once models of datasets of different sizes, each extending another, were compared. */
export function OverItems({ dataset }) {
  const { data } = useResource(dataset && `/datasets/${encodeURIComponent(dataset)}/transfers`);
  const rows = data?.data ?? [];
  const sizes = [...new Set(rows.map((row) => row.items_per_label))];
  if (sizes.length < 2) return null;
  return html`<figure class="small-plot">
    <figcaption>${TITLE}</figcaption>
    <p class="note">
      Models of this dataset, of those it extends and of those that extend it. <span class="key own">●</span> with the carried layers,${" "}
      <span class="key scratch">□</span> the same network from scratch, on the same clips; lines are where each lies with 95 % confidence.
    </p>
    <${Picture} rows=${rows} sizes=${sizes} />
    <${Numbers} title=${TITLE} head=${HEAD} rows=${rows.map(numbersOf)} />
  </figure>`;
}

function Picture({ rows, sizes }) {
  const x = across(sizes);
  const y = (share) => HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP);
  return html`<svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label=${spoken(rows)}>
    ${SHARES.map((share) => html`<g key=${share}>
      <line class="grid" x1=${LEFT} x2=${WIDTH - RIGHT} y1=${y(share)} y2=${y(share)} />
      <text x=${LEFT - 4} y=${y(share) + 4} text-anchor="end">${percent(share, 0)}</text>
    </g>`)}
    ${numbered(sizes, x).map((size) => html`<text key=${size} x=${x(size)} y=${HEIGHT - BOTTOM + 16} text-anchor="middle">${number(size)}</text>`)}
    <text x=${(LEFT + WIDTH - RIGHT) / 2} y=${HEIGHT - 6} text-anchor="middle">${HEAD[0]}</text>
    ${rows.map((row) => html`<g key=${row.model}>
      <${Range} arm="scratch" x=${x(row.items_per_label) + APART} y=${y} measured=${row.scratch} />
      <${Range} arm="own" x=${x(row.items_per_label) - APART} y=${y} measured=${row.own} />
    </g>`)}
  </svg>`;
}

/** One accuracy with its interval: a disc or a square, so that nobody has to see colours. */
function Range({ arm, x, y, measured }) {
  const [low, high] = measured.interval_95;
  const at = y(measured.accuracy);
  return html`<g class=${`range ${arm}`}>
    <line x1=${x} x2=${x} y1=${y(low)} y2=${y(high)} />
    ${arm === "own" ? html`<circle cx=${x} cy=${at} r="3.5" />` : html`<rect x=${x - 3} y=${at - 3} width="6" height="6" />`}
  </g>`;
}

/** Where a number of clips lies: twice as many are always as far away. */
function across(sizes) {
  const logs = sizes.map((size) => Math.log2(Math.max(size, 0.5)));
  const [low, high] = [Math.min(...logs) - 0.3, Math.max(...logs) + 0.3];
  return (size) => LEFT + ((Math.log2(Math.max(size, 0.5)) - low) / (high - low)) * (WIDTH - LEFT - RIGHT);
}

/** The sizes whose numbers have room on the axis. */
function numbered(sizes, x) {
  return sizes.reduce((kept, size) => (kept.length && x(size) - x(kept.at(-1)) < LEAST_GAP ? kept : [...kept, size]), []);
}

function numbersOf(row) {
  return [
    number(row.items_per_label),
    html`<${To} parts=${["models", row.model]}><${Word}>${row.name ?? row.model}<//><//>`,
    withInterval(row.own),
    withInterval(row.scratch),
    `${points(row.gain)} (${points(row.interval_95[0])} to ${points(row.interval_95[1])})`,
    `${count(row.n)} ${row.split.replace("+", " and ")}`,
  ];
}

function withInterval({ accuracy, interval_95: [low, high] }) {
  return `${percent(accuracy)} (${percent(low)} to ${percent(high)})`;
}

function spoken(rows) {
  const told = rows.map((row) => `${number(row.items_per_label)} clips: ${percent(row.own.accuracy)} against ${percent(row.scratch.accuracy)}`);
  return `${TITLE}, with the carried layers against from scratch; ${told.join("; ")}`;
}
