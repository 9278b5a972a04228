/** Whether the transfer paid, as a picture: the gain with its interval, then each arm's accuracy and time. */
import { duration, percent, points } from "../format.js";
import { html } from "../lib.js";
import { Section, To } from "../parts.js";
import { OverTime } from "./history.js";
import { OverItems } from "./over_items.js";

const WORDS = {
  positive: "It paid: with the carried layers the words are told apart better than from scratch.",
  neutral: "It made no difference that could be told.",
  negative: "It cost: from scratch the words are told apart better.",
  unmeasured: "It was not measured.",
};
const ARMS = { scratch: "the same network from scratch", frozen: "carried layers held still", repeat: "another seed" };
const WIDTH = 600;
const MARGIN = 40;
const ROW = 74;
const STEPS = [0.05, 0.1, 0.2, 0.5, 1]; // how far the axis may reach, as shares

/** `job` is what made the model, `dataset` what it learned from. */
export function Verdict({ transfer, job, dataset }) {
  return html`<${Section} title="Did the transfer pay?">
    <p class=${`verdict ${transfer.verdict}`}><strong>${transfer.verdict}</strong> ${WORDS[transfer.verdict]}</p>
    ${transfer.interval_95 && html`<${Gain} transfer=${transfer} />`}
    ${transfer.accuracy != null && html`<${Arms} transfer=${transfer} />`}
    <${OverTime} transfer=${transfer} job=${job} />
    <${OverItems} dataset=${transfer.accuracy == null ? null : dataset} />
    ${transfer.sentence && html`<p dir="auto">${transfer.sentence}</p>`}
    ${transfer.seconds_to_match != null && html`
      <p class="note">As good as from scratch after ${duration(transfer.seconds_to_match)} of training.</p>`}
  <//>`;
}

/** The gain in points on an axis with zero in its middle; the bar is where it lies with 95 % confidence. */
function Gain({ transfer }) {
  const [low, high] = transfer.interval_95;
  const far = Math.max(Math.abs(low), Math.abs(high), Math.abs(transfer.gain));
  const reach = STEPS.find((step) => step >= far) ?? far;
  const at = (value) => MARGIN + ((value + reach) / (2 * reach)) * (WIDTH - 2 * MARGIN);
  const ticks = [-reach, -reach / 2, 0, reach / 2, reach];
  const sure = `with 95 % confidence between ${points(low)} and ${points(high)}`;
  const label = `Gain over training from scratch: ${points(transfer.gain)} points, ${sure}`;
  return html`<figure>
    <figcaption>${label}</figcaption>
    <svg class="gain" viewBox=${`0 0 ${WIDTH} ${ROW}`} role="img" aria-label=${label}>
      <line class="axis" x1=${MARGIN} x2=${WIDTH - MARGIN} y1="44" y2="44" />
      ${ticks.map((tick) => html`<g key=${tick}>
        <line class=${tick === 0 ? "zero" : "tick"} x1=${at(tick)} x2=${at(tick)} y1=${tick === 0 ? 4 : 40} y2="48" />
        <text x=${at(tick)} y="66" text-anchor="middle">${points(tick)}</text>
      </g>`)}
      <line class=${`interval ${transfer.verdict}`} x1=${at(low)} x2=${at(high)} y1="24" y2="24" />
      <circle class=${`estimate ${transfer.verdict}`} cx=${at(transfer.gain)} cy="24" r="8" />
    </svg>
  </figure>`;
}

function Arms({ transfer }) {
  const own = { name: "own", text: "with the carried layers", accuracy: transfer.accuracy };
  const measured = transfer.controls.filter((control) => control.accuracy != null);
  const others = measured.map((control) => ({ ...control, text: ARMS[control.name] ?? control.name }));
  return html`<figure>
    <figcaption>Right on the same ${transfer.n ?? ""} ${transfer.split ?? ""} items</figcaption>
    <ul class="arms">
      ${[own, ...others].map((arm, index) => html`<li key=${`${arm.name}${index}`}>
        <span class="arm-name">${arm.job ? html`<${To} parts=${["jobs", arm.job]}>${arm.text}<//>` : arm.text}</span>
        <span class=${`meter ${arm.name}`}><span style=${{ "--share": arm.accuracy }}></span></span>
        <span class="arm-value">${percent(arm.accuracy)}${arm.seconds == null ? "" : ` in ${duration(arm.seconds)}`}</span>
      </li>`)}
    </ul>
  </figure>`;
}
