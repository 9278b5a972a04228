/** All models, the aliases that point at them, and the way in for one from elsewhere. */
import { count, percent, when } from "../format.js";
import { html } from "../lib.js";
import { Choice, Empty, Field, More, Section, Table, To, Trouble, View, Word } from "../parts.js";
import { usePages } from "../resource.js";
import { go } from "../route.js";
import { FileUpload } from "../uploader.js";

const KINDS = [["", "all"], ["audio", "hearing"], ["image", "seeing"]];
const HEAD = ["Name", "Kind", "Labels", "Network", "Test accuracy", "Aliases", "Made"];

export function ModelsView({ query }) {
  const modality = query.get("modality") ?? "";
  const { rows, more, error, loading, reload } = usePages(`/models${modality ? `?modality=${encodeURIComponent(modality)}` : ""}`);
  const choose = (value) => go(["models"], { modality: value }, { replace: true });
  return html`<${View} title="Models">
    <${Section} title="All models">
      <div class="filters">
        <${Field} id="model-kind" label="Kind">
          <${Choice} id="model-kind" value=${modality} options=${KINDS} onChange=${choose} />
        <//>
      </div>
      <${Trouble} problem=${error} retry=${reload} />
      ${loading && html`<p role="status">Loading …</p>`}
      ${!loading && !rows.length && !error && html`<${Empty}>
        <p>There is none yet. <${To} parts=${["jobs", "new"]}>Start a job<//> to make one.</p>
      <//>`}
      ${rows.length > 0 && html`<${Table} caption="Models" head=${HEAD}>${rows.map((row) => html`<${Row} key=${row.id} row=${row} />`)}<//>`}
      <${More} more=${more} />
    <//>
    <${Section} title="Bring a model" note="An artifact that this or another service of the kind gave out: a tar of weights, description and graph.">
      <${FileUpload} path="/models" label="Choose an artifact" accept=".tar" onMade=${(model) => go(["models", model.id])} />
    <//>
  <//>`;
}

function Row({ row }) {
  return html`<tr>
    <th scope="row"><${To} parts=${["models", row.id]}><${Word}>${row.name ?? row.id}<//><//></th>
    <td>${row.modality === "image" ? "seeing" : "hearing"}</td>
    <td class="number">${count(row.labels.length)}</td>
    <td><${Word}>${row.architecture}<//></td>
    <td class="number">${percent(row.metrics.test_accuracy)}</td>
    <td>${row.aliases.map((alias) => html`<span key=${alias} class="tag"><${Word}>${alias}<//></span>`)}</td>
    <td>${when(row.created_at)}</td>
  </tr>`;
}
