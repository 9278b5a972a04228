/** The files of a dataset, a page at a time, by what became of them. The filters stand in the address. */
import { duration, words } from "../format.js";
import { html } from "../lib.js";
import { Choice, Empty, Field, More, Section, Status, Table, Trouble, Word } from "../parts.js";
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
    ${rows.length > 0 && html`<${Table} caption="Files of the dataset" head=${["File", "Label", "State", "Why", "Split", "Speaker", size]}>
      ${rows.map((row) => html`<${Row} key=${row.id} row=${row} />`)}
    <//>`}
    <${More} more=${more} />
  <//>`;
}

function Row({ row }) {
  return html`<tr>
    <th scope="row"><${Word}>${row.file_name}<//></th>
    <td><${Word} fallback="–">${row.label}<//></td>
    <td><${Status} value=${row.status} /></td>
    <td>${row.reasons.map(words).join(", ")}${row.duplicate_of && html` of <${Word}>${row.duplicate_of}<//>`}</td>
    <td>${row.split ?? "–"}</td>
    <td><${Word} fallback="–">${row.group}<//></td>
    <td class="number">${row.width ? `${row.width} × ${row.height}` : duration(row.duration_seconds)}</td>
  </tr>`;
}
