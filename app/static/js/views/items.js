/** The files of a dataset, a page at a time, by what became of them. The filters stand in the address. */
import { duration, percent, words } from "../format.js";
import { html, memo, useState } from "../lib.js";
import { ItemPicture, Listen, Thumb } from "../media.js";
import { Choice, Empty, Field, More, Section, Status, Table, To, Trouble, Word } from "../parts.js";
import { usePages } from "../resource.js";
import { go } from "../route.js";

const NOTE = "A file that can't be used is rejected with its reason and the rest goes on; suspects are used, and worth a look.";
const PAGE = 100;
const STATES = [["", "all"], ["accepted", "accepted"], ["suspect", "suspect"], ["rejected", "rejected"]];
const SPLITS = [["", "all"], "train", "validation", "test"];

export function Items({ id, data, query }) {
  const asked = { status: query.get("status") ?? "", split: query.get("split") ?? "", label: query.get("label") ?? "" };
  const search = new URLSearchParams(Object.entries(asked).filter(([, value]) => value));
  const { rows, more, error, loading, reload } = usePages(`/datasets/${id}/items${search.size ? `?${search}` : ""}`, { limit: PAGE });
  const change = (field) => (value) => go(["datasets", id], { ...asked, [field]: value }, { replace: true });
  const size = data.modality === "image" ? "Size" : "Length";
  return html`<${Section} title="Files" note=${NOTE}>
    <div class="filters">
      <${Field} id="item-status" label="State">
        <${Choice} id="item-status" value=${asked.status} options=${STATES} onChange=${change("status")} />
      <//>
      <${Field} id="item-split" label="Split">
        <${Choice} id="item-split" value=${asked.split} options=${SPLITS} onChange=${change("split")} />
      <//>
      <${Field} id="item-label" label="Label">
        <${Choice} id="item-label" value=${asked.label} options=${[["", "all"], ...data.labels]} onChange=${change("label")} />
      <//>
    </div>
    <${Trouble} problem=${error} retry=${reload} />
    ${loading && html`<p role="status">Loading …</p>`}
    ${!loading && !rows.length && !error && html`<${Empty}>No file is like that.<//>`}
    ${rows.length > 0 && html`<${Table} caption="Files of the dataset" head=${["File", "Label", "State", "Why", "Split", "Speaker", size, data.modality === "image" ? "Look" : "Listen"]}>
      ${rows.map((row) => html`<${Row} key=${row.id} dataset=${id} row=${row} />`)}
    <//>`}
    <${More} more=${more} />
  <//>`;
}

const Row = memo(({ dataset, row }) => {
  return html`<tr>
    <th scope="row"><${Word}>${row.file_name}<//></th>
    <td><${Word} fallback="–">${row.label}<//></td>
    <td><${Status} value=${row.status} /></td>
    <td>${row.reasons.map(words).join(", ")}${row.duplicate_of && html` of <${Word}>${row.duplicate_of}<//>`}
      ${row.doubt && html`<${Doubt} doubt=${row.doubt} />`}</td>
    <td>${row.split ?? "–"}</td>
    <td><${Word} fallback="–">${row.group}<//></td>
    <td class="number">${row.width ? `${row.width} × ${row.height}` : duration(row.duration_seconds)}</td>
    <td>${row.kept ? html`<${Content} dataset=${dataset} row=${row} />` : html`<span class="note">not kept</span>`}</td>
  </tr>`;
});

function Doubt({ doubt }) {
  return html`: <${To} parts=${["models", doubt.model]}>a model<//> takes it for “<${Word}>${doubt.predicted}<//>” (${percent(doubt.probability, 0)})`;
}

function Content({ dataset, row }) {
  const [seen, setSeen] = useState(false);
  if (row.width) return html`<${Thumb} dataset=${dataset} item=${row.id} label=${`Picture ${row.file_name}`} />`;
  return html`<div class="listen">
    <${Listen} dataset=${dataset} item=${row.id} label=${row.file_name} />
    ${seen
      ? html`<${ItemPicture} dataset=${dataset} item=${row.id} label=${row.file_name} />`
      : html`<button type="button" class="plain" aria-label=${`See ${row.file_name}`} onClick=${() => setSeen(true)}>See</button>`}
  </div>`;
}
