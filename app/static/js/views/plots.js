/** Small plots of shares, drawn by hand; the numbers of each stand in a table below it. */
import { count, percent } from "../format.js";
import { html, useState } from "../lib.js";
import { Table } from "../parts.js";

const WIDTH = 320;
const HEIGHT = 220;
const LEFT = 44;
const BOTTOM = 40;
const TOP = 10;
const RIGHT = 24;
const TICKS = [0, 0.25, 0.5, 0.75, 1];

/**
 * Points of two shares, joined by a line. `rows` are {x, y, n}; `from` is where the vertical axis begins; `even`: the line where both
 * are equal is drawn too.
 */
export function Shares({ title, across, up, rows, even = false, from = 0, note }) {
  const x = (share) => LEFT + share * (WIDTH - LEFT - RIGHT);
  const y = (share) => HEIGHT - BOTTOM - ((share - from) / (1 - from)) * (HEIGHT - BOTTOM - TOP);
  const path = rows.map((row) => `${x(row.x)},${y(row.y)}`).join(" ");
  return html`<figure class="small-plot">
    <figcaption>${title}</figcaption>
    ${note && html`<p class="note">${note}</p>`}
    <svg viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label=${`${title}; the numbers are in the table below`}>
      ${TICKS.map((tick) => html`<g key=${tick}>
        <line class="grid" x1=${x(tick)} x2=${x(tick)} y1=${TOP} y2=${HEIGHT - BOTTOM} />
        <text x=${x(tick)} y=${HEIGHT - BOTTOM + 16} text-anchor="middle">${percent(tick, 0)}</text>
        <line class="grid" x1=${LEFT} x2=${WIDTH - RIGHT} y1=${y(from + tick * (1 - from))} y2=${y(from + tick * (1 - from))} />
        <text x=${LEFT - 4} y=${y(from + tick * (1 - from)) + 4} text-anchor="end">${percent(from + tick * (1 - from), 0)}</text>
      </g>`)}
      <text x=${(LEFT + WIDTH - RIGHT) / 2} y=${HEIGHT - 6} text-anchor="middle">${across}</text>
      ${even && html`<line class="even" x1=${x(0)} y1=${y(0)} x2=${x(1)} y2=${y(1)} />`}
      <polyline class="line" points=${path} />
      ${rows.map((row) => html`<circle key=${row.x} class="dot" cx=${x(row.x)} cy=${y(row.y)} r="3.5" />`)}
    </svg>
    <${Numbers} title=${title} head=${[across, up, "Items"]} rows=${rows.map((row) => [percent(row.x), percent(row.y), count(row.n)])} />
  </figure>`;
}

/** How many lie between two edges each. */
export function Bars({ title, unit, edges, counts }) {
  const most = Math.max(1, ...counts);
  const rows = counts.map((number, bar) => [`${edges[bar].toFixed(2)} to ${edges[bar + 1].toFixed(2)} ${unit}`, count(number)]);
  return html`<figure class="small-plot">
    <figcaption>${title}</figcaption>
    <div class="histogram" role="img" aria-label=${`${title}; the numbers are in the table below`}>
      ${counts.map((number, bar) => html`<span key=${bar} style=${{ "--share": number / most }}></span>`)}
    </div>
    <div class="picture-scale note" aria-hidden="true"><span>0 ${unit}</span><span>${edges.at(-1).toFixed(2)} ${unit}</span></div>
    <${Numbers} title=${title} head=${["Between", "Items"]} rows=${rows} />
  </figure>`;
}

/** What a plot shows, as a table that opens; `rows` begin with what each is of. */
export function Numbers({ title, head, rows }) {
  const [open, setOpen] = useState(false);
  return html`<details onToggle=${(event) => setOpen(event.currentTarget.open)}>
    <summary>The numbers</summary>
    ${open && html`<${Table} caption=${title} head=${head}>
      ${rows.map(([name, ...values], place) => html`<tr key=${place}>
        <th scope="row">${name}</th>${values.map((value) => html`<td class="number">${value}</td>`)}
      </tr>`)}
    <//>`}
  </details>`;
}
