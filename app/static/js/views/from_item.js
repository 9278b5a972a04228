/** Asking a model about an item of a dataset, where the right answer is known. */
import { ask, askBlob } from "../api.js";
import { html, useEffect, useState } from "../lib.js";
import { itemPath } from "../media.js";
import { Choice, Empty, Field, More, Table, Trouble, Word } from "../parts.js";
import { usePages, useResource } from "../resource.js";
import { go } from "../route.js";

const SPLITS = ["test", "validation", "train"];

/** `onSound(blob, {item})` is told what is to be asked; `query` names dataset and split, and an item that is asked about at once. */
export function FromItem({ query, model, onSound }) {
  const datasets = useResource("/datasets?limit=100&modality=audio&status=ready");
  const [error, setError] = useState(null);
  const dataset = query.get("dataset") || datasets.data?.data[0]?.id;
  const asked = query.get("item");
  const take = async (item) => {
    setError(null);
    try {
      onSound(await askBlob(`${itemPath(dataset, item.id)}/content`), item);
    } catch (problem) {
      setError(problem);
    }
  };
  useEffect(() => {
    if (asked && dataset) ask(itemPath(dataset, asked)).then(take, setError);
  }, [dataset, asked]);
  const trouble = error ?? datasets.error;
  if (!datasets.data) return html`<${Trouble} problem=${trouble} />`;
  if (!dataset) return html`<${Empty}>There is no dataset of sounds yet.<//>`;
  const split = SPLITS.includes(query.get("split")) ? query.get("split") : SPLITS[0];
  const change = (field) => (value) => go(["try"], { model, way: "item", dataset, split, [field]: value }, { replace: true });
  const options = datasets.data.data.map((row) => [row.id, row.name]);
  const known = options.some(([id]) => id === dataset) ? options : [[dataset, dataset], ...options];
  return html`<div class="stack">
    <div class="filters">
      <${Field} id="from-dataset" label="Dataset"><${Choice} id="from-dataset" value=${dataset} options=${known} onChange=${change("dataset")} /><//>
      <${Field} id="from-split" label="Split"><${Choice} id="from-split" value=${split} options=${SPLITS} onChange=${change("split")} /><//>
    </div>
    <${Trouble} problem=${trouble} />
    <${Rows} dataset=${dataset} split=${split} onTake=${take} />
  </div>`;
}

function Rows({ dataset, split, onTake }) {
  const { rows, more, error, loading } = usePages(`/datasets/${dataset}/items?split=${split}`, { limit: 20 });
  if (error) return html`<${Trouble} problem=${error} />`;
  if (!rows.length) return html`<${Empty}>${loading ? "Loading …" : "No item is in this split."}<//>`;
  return html`<${Table} caption="Items to ask about" head=${["File", "Label", "Ask"]}>
      ${rows.filter((row) => row.kept).map((row) => html`<tr key=${row.id}>
        <th scope="row"><${Word}>${row.file_name}<//></th>
        <td><${Word}>${row.label}<//></td>
        <td><button type="button" aria-label=${`Ask about ${row.file_name}`} onClick=${() => onTake(row)}>Ask</button></td>
      </tr>`)}
    <//>
    <${More} more=${more} />`;
}
