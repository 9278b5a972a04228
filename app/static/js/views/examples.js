/** What a dataset sounds or looks like: one item of each label, and how its items are spread. */
import { ask } from "../api.js";
import { count, duration } from "../format.js";
import { html, useEffect, useState } from "../lib.js";
import { ItemPicture, Listen, Thumb } from "../media.js";
import { Facts, Section, Table, Word } from "../parts.js";
import { useResource } from "../resource.js";
import { Bars } from "./plots.js";

const MOST_LABELS = 12;
const OF_EACH = 4; // pictures; they are small

export function Examples({ data }) {
  const [rows, setRows] = useState([]);
  const labels = data.labels.slice(0, MOST_LABELS);
  const limit = data.modality === "image" ? OF_EACH : 1;
  useEffect(() => {
    const control = new AbortController();
    const { signal } = control;
    const one = (label) => ask(`/datasets/${data.id}/items?${new URLSearchParams({ label, status: "accepted", limit })}`, { signal });
    // A label without an example is no trouble to speak of: the list of files below tells of it.
    const found = Promise.all(labels.map((label) => one(label).then((page) => [label, page.data], () => [label, []])));
    found.then((all) => !signal.aborted && setRows(all.filter(([, items]) => items.length)));
    return () => control.abort();
  }, [data.id]);
  const rest = data.labels.length - labels.length;
  return html`<${Section} title="Examples" note=${rest > 0 ? `Of the first ${MOST_LABELS} labels; ${count(rest)} more are below.` : null}>
    <ul class="examples">
      ${rows.map(([label, items]) => html`<li key=${label}>
        <h3><${Word}>${label}<//></h3>
        ${data.modality === "image"
          ? html`<div class="thumbs">${items.map((item) => html`<${Thumb} key=${item.id} dataset=${data.id} item=${item.id} label=${`Picture ${item.file_name}`} />`)}</div>`
          : html`<${Sound} dataset=${data.id} item=${items[0]} label=${label} />`}
      </li>`)}
    </ul>
  <//>`;
}

function Sound({ dataset, item, label }) {
  return html`<${ItemPicture} dataset=${dataset} item=${item.id} label=${label} />
    <${Listen} dataset=${dataset} item=${item.id} label=${label} />`;
}

export function Spread({ id }) {
  const { data } = useResource(`/datasets/${id}/statistics`);
  if (!data || (!data.durations && !data.groups.length)) return null;
  return html`<${Section} title="Lengths and speakers">
    ${data.durations && html`
      <${Facts} rows=${["shortest", "median", "longest"].map((name) => [name, `${data.durations[name].toFixed(2)} s`])} />
      <${Bars} title="How many items are how long" unit="s" edges=${data.durations.edges} counts=${data.durations.counts} />`}
    ${data.groups.length > 0 && html`<${Table} caption="Items of each speaker or group" head=${["Speaker", "Split", "Items", "Length in all"]}>
      ${data.groups.map((row) => html`<tr key=${row.group}>
        <th scope="row"><${Word}>${row.group}<//></th>
        <td>${Object.keys(row.splits).join(", ")}</td>
        <td class="number">${count(row.items)}</td>
        <td class="number">${duration(row.duration_seconds)}</td>
      </tr>`)}
    <//>`}
  <//>`;
}
