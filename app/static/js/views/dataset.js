/** One dataset: how far its reading is, what is in it, and what became of each file. */
import { send } from "../api.js";
import { bytes, count, duration, when, words } from "../format.js";
import { html, useState } from "../lib.js";
import { Action, Facts, Notice, Progress, Section, Status, Table, To, Trouble, View, Waiting, Word } from "../parts.js";
import { useResource } from "../resource.js";
import { go } from "../route.js";
import { DatasetUpload } from "../uploader.js";
import { Examples, Spread } from "./examples.js";
import { Items } from "./items.js";

const SPLITS = ["train", "validation", "test"];

export function DatasetView({ id, query }) {
  const pause = (found) => (found.status === "processing" ? 500 : null);
  const { data, error, reload } = useResource(`/datasets/${encodeURIComponent(id)}`, pause);
  if (!data) return html`<${Waiting} title="Dataset" problem=${error} retry=${reload} />`;
  return html`<${View} kind="Dataset" title=${data.name} actions=${html`<${Actions} data=${data} />`}>
    <${Trouble} problem=${error} />
    <p><${Status} value=${data.status} /> <span class="note">${data.id}</span></p>
    ${data.status === "processing" && html`<${Reading} progress=${data.progress} />`}
    ${data.error && html`<${Trouble} problem=${{ message: data.error.message, hint: "Mend the archive and upload it again." }} />`}
    ${data.status === "ready" && html`
      <${Overview} data=${data} />
      <${Examples} key=${`examples ${data.id}`} data=${data} />
      <${Labels} data=${data} />
      <${Spread} id=${data.id} />
      <${Items} id=${data.id} data=${data} query=${query} />
      <${Extend} data=${data} />`}
  <//>`;
}

function Actions({ data }) {
  const remove = async () => {
    await send("DELETE", `/datasets/${data.id}`);
    go(["datasets"]);
  };
  return html`
    ${data.status === "ready" && html`
      <${To} parts=${["jobs", "new"]} query=${{ dataset: data.id }} className="button primary">Train on it<//>`}
    <${Action} run=${remove} sure="Delete this dataset?" className="danger">Delete<//>`;
}

function Reading({ progress }) {
  const detail = progress?.total ? `${count(progress.done)} of ${count(progress.total)} files` : "";
  const share = progress?.total ? progress.fraction : null;
  return html`<div role="status"><${Progress} label=${words(progress?.phase ?? "waiting")} share=${share} detail=${detail} /></div>`;
}

function Overview({ data }) {
  const rows = [
    ["Kind", data.modality === "image" ? "pictures" : "sounds"],
    ["Items", count(data.items)],
    ["Rejected", count(data.rejected)],
    ["Labels", count(data.labels.length)],
    ["Speakers or groups", data.groups ? count(data.groups) : null],
    ["Length in all", data.duration_seconds == null ? null : duration(data.duration_seconds)],
    ["Size", bytes(data.size_bytes)],
    ["Made", when(data.created_at)],
    ["Extends", data.parent && html`<${To} parts=${["datasets", data.parent]}>${data.parent}<//>`],
    ["Drawn by", data.generator && `${data.generator.generator ?? "formula"}`],
    ["SHA-256", html`<code class="break">${data.sha256}</code>`],
  ];
  return html`<${Section} title="What is in it">
    <${Facts} rows=${rows} />
    ${data.warnings?.map((warning) => html`<${Notice} kind="warn" key=${warning.code}>
      <span dir="auto">${warning.message ?? String(warning)}</span>
    <//>`)}
  <//>`;
}

function Labels({ data }) {
  const rows = Object.entries(data.per_label ?? {});
  const most = Math.max(1, ...rows.map(([, counts]) => SPLITS.reduce((sum, split) => sum + counts[split], 0)));
  return html`<${Section} title="Labels and splits" note="Validation items choose, test items judge; neither is trained on.">
    <${Table} caption="Items of each label in each split" head=${["Label", ...SPLITS, "in all"]}>
      ${rows.map(([label, counts]) => {
        const all = SPLITS.reduce((sum, split) => sum + counts[split], 0);
        return html`<tr key=${label}>
          <th scope="row"><${Word}>${label}<//></th>
          ${SPLITS.map((split) => html`<td class="number">${count(counts[split])}</td>`)}
          <td class="bar-cell"><span class="bar" style=${{ "--share": all / most }}></span> ${count(all)}</td>
        </tr>`;
      })}
      <tr class="sum">
        <th scope="row">all labels</th>
        ${SPLITS.map((split) => html`<td class="number">${count(data.splits[split])}</td>`)}
        <td class="number">${count(data.items)}</td>
      </tr>
    <//>
  <//>`;
}

function Extend({ data }) {
  const [open, setOpen] = useState(false);
  return html`<${Section} title="Extend it" note="A new dataset comes out, with these items and those that you add; this one stays as it is.">
    ${open
      ? html`<${DatasetUpload} parent=${data.id} onMade=${(made) => go(["datasets", made.id])} />`
      : html`<div class="actions">
          <button type="button" onClick=${() => setOpen(true)}>Add an archive</button>
          ${data.modality === "audio" && html`<${To} parts=${["record"]} query=${{ parent: data.id }} className="button">Record more<//>`}
        </div>`}
  <//>`;
}
