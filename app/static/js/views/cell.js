/** The clips behind one cell of the confusion matrix: to be heard, and seen. */
import { words } from "../format.js";
import { html } from "../lib.js";
import { ItemPicture, Listen } from "../media.js";
import { Empty, Notice, To, Trouble, Word } from "../parts.js";
import { useResource } from "../resource.js";

const MOST = 12;

export function CellClips({ model, split, label, predicted }) {
  const asked = new URLSearchParams({ split, label, predicted, limit: MOST });
  const { data, error } = useResource(`/models/${encodeURIComponent(model.id)}/evaluation/items?${asked}`);
  if (error?.code === "answers_not_kept") return html`<${Notice}>What was answered for single items was not kept of this model and split.<//>`;
  if (error) return html`<${Trouble} problem=${error} />`;
  if (!data) return html`<p role="status">Loading …</p>`;
  if (!data.data.length) return html`<${Empty}>No clip is like that.<//>`;
  return html`<ul class="examples" aria-label="Clips of this cell">
    ${data.data.map((item) => html`<li key=${item.id}>
      <h3><${Word}>${item.file_name}<//></h3>
      <${ItemPicture} dataset=${model.dataset} item=${item.id} label=${item.file_name} />
      <div class="actions">
        <${Listen} dataset=${model.dataset} item=${item.id} label=${item.file_name} />
        <${To} parts=${["try"]} query=${{ model: model.id, way: "item", dataset: model.dataset, item: item.id }} className="button">Ask again<//>
      </div>
      ${item.reasons.length > 0 && html`<p class="note">${item.reasons.map(words).join(", ")}</p>`}
    </li>`)}
  </ul>`;
}
