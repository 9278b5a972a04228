/** Where a model comes from: every dataset and model on the way, and which of its layers came along. */
import { count } from "../format.js";
import { html } from "../lib.js";
import { Section, Table, To } from "../parts.js";

export function Lineage({ model }) {
  const from = model.transfer.base_model;
  const known = model.lineage.some((step) => step.model === from);
  return html`<${Section} title="Where it comes from">
    <ol class="lineage">
      ${from && !known && html`<li><span class="kind">source</span> <span>${from}</span></li>`}
      ${model.lineage.map((step, index) => html`<li key=${step.model ?? index}>
        <span class="kind">${step.modality === "image" ? "saw" : "heard"}</span>${" "}
        <${Step} step=${step} own=${step.model === model.id} />
      </li>`)}
    </ol>
  <//>`;
}

function Step({ step, own }) {
  const made = own ? html`<strong>this model</strong>` : html`<${To} parts=${["models", step.model]}>${step.model}<//>`;
  return html`<span>
    <${To} parts=${["datasets", step.dataset]}>${step.dataset}<//> as ${step.architecture}
    ${step.job && html` in <${To} parts=${["jobs", step.job]}>${step.job}<//>`}
    ${step.model && html`, which made ${made}`}
  </span>`;
}

export function Layers({ model }) {
  const { shared_layers: shared, frozen_layers: frozen, mode } = model.transfer;
  if (!model.layers.length) return null;
  const from = model.transfer.base_model;
  return html`<${Section} title="Its layers" note=${mode === "none" ? "All began with random weights." : `Carried over: ${mode}, from ${from}.`}>
    <${Table} caption="Layers from input to output" head=${["Layer", "Parameters", "Began as", "In training"]}>
      ${model.layers.map((layer) => html`<tr key=${layer.name}>
        <th scope="row">${layer.name}</th>
        <td class="number">${count(layer.parameters)}</td>
        <td>${shared.includes(layer.name) ? html`<span class="tag carried">carried over</span>` : "random weights"}</td>
        <td>${frozen.includes(layer.name) ? "held still" : "moved"}</td>
      </tr>`)}
    <//>
  <//>`;
}
