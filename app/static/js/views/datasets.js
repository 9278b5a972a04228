/** All datasets, and where a new one comes from. */
import { count, when } from "../format.js";
import { html } from "../lib.js";
import { Empty, More, Section, Status, Table, To, Trouble, View, Word } from "../parts.js";
import { usePages } from "../resource.js";
import { go } from "../route.js";
import { DatasetUpload } from "../uploader.js";
import { FormulaForm } from "./formula.js";

const HEAD = ["Name", "State", "Kind", "Items", "Labels", "Made"];

export function DatasetsView() {
  const pause = (rows) => (rows.some((row) => row.status === "processing") ? 1500 : null);
  const { rows, more, error, loading, reload } = usePages("/datasets", { pause });
  return html`<${View} title="Datasets">
    <${Section} title="New dataset" note="Sounds teach words; pictures make a source that a speech model can stand on.">
      <${DatasetUpload} onMade=${(dataset) => go(["datasets", dataset.id])} />
      <p>No recordings yet? <${To} parts=${["record"]}>Record them here<//>.</p>
      <${FormulaForm} />
    <//>
    <${Section} title="All datasets">
      <${Trouble} problem=${error} retry=${reload} />
      ${loading && html`<p role="status">Loading …</p>`}
      ${!loading && !rows.length && !error && html`<${Empty}>There is none yet.<//>`}
      ${rows.length > 0 && html`<${Table} caption="Datasets" head=${HEAD}>${rows.map((row) => html`<${Row} key=${row.id} row=${row} />`)}<//>`}
      <${More} more=${more} />
    <//>
  <//>`;
}

function Row({ row }) {
  return html`<tr>
    <th scope="row"><${To} parts=${["datasets", row.id]}><${Word}>${row.name}<//><//></th>
    <td><${Status} value=${row.status} /></td>
    <td>${row.modality === "image" ? "pictures" : row.modality === "audio" ? "sounds" : "–"}</td>
    <td class="number">${count(row.items)}</td>
    <td class="number">${count(row.labels?.length)}</td>
    <td>${when(row.created_at)}</td>
  </tr>`;
}
