/** What a model heard. */
import { duration, percent, words } from "../format.js";
import { html } from "../lib.js";
import { Facts, Notice, Section, Table, To, Word } from "../parts.js";

const WARNINGS = {
  silence: "The recording is silent.",
  clipped: "The recording is too loud: it was cut off.",
  rescaled: "The recording was louder than a file can say and was scaled.",
};

export function Heard({ answer, milliseconds }) {
  const { timings_ms: times } = answer;
  return html`<${Section} title="The answer">
    <p class="heard">
      ${answer.rejected ? html`<span class="rejected">none of its words</span>` : html`<${Word}>${answer.label}<//>`}
      ${" "}<span class="note">${percent(answer.probability)}</span>
    </p>
    ${answer.warnings.map((warning) => html`<${Notice} key=${warning} kind="warn">${WARNINGS[warning] ?? words(warning)}<//>`)}
    <ul class="arms">
      ${answer.top_k.map((row) => html`<li key=${row.label}>
        <span class="arm-name"><${Word}>${row.label}<//></span>
        <span class="meter own"><span style=${{ "--share": row.probability }}></span></span>
        <span class="arm-value">${percent(row.probability)}</span>
      </li>`)}
    </ul>
    ${answer.segments && html`<${Segments} rows=${answer.segments} />`}
    <${Facts} rows=${[
      ["Length", duration(answer.duration_seconds)],
      ["There and back", `${milliseconds.toFixed(0)} ms`],
      ["At the service", `${times.total.toFixed(1)} ms: ${["decode", "features", "model"].map((part) => `${part} ${times[part].toFixed(1)}`).join(", ")}`],
      ["Model", html`<${To} parts=${["models", answer.model]}>${answer.model}<//>`],
    ]} />
  <//>`;
}

function Segments({ rows }) {
  return html`<${Table} caption="What was heard when" head=${["From", "To", "Word", "Probability"]}>
    ${rows.map((row) => html`<tr key=${row.start}>
      <td class="number">${row.start.toFixed(2)} s</td>
      <td class="number">${row.end.toFixed(2)} s</td>
      <th scope="row">${row.rejected ? "none of its words" : html`<${Word}>${row.label}<//>`}</th>
      <td class="number">${percent(row.probability)}</td>
    </tr>`)}
  <//>`;
}
