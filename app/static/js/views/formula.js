/** Pictures by formula: a source that needs no upload. */
import { send } from "../api.js";
import { count } from "../format.js";
import { html, useState } from "../lib.js";
import { Action, Choice, Field, Input } from "../parts.js";
import { go } from "../route.js";

const GENERATORS = ["mixed", "fractals", "contours", "gratings", "textures", "tracks", "formants"];
const NUMBERS = [
  ["labels", "Labels", 2, 5000, "each a formula of its own"],
  ["items_per_label", "Pictures of each", 1, 5000, "small changes of its numbers"],
  ["image_size", "Pixels a side", 16, 128, ""],
  ["seed", "Seed", 0, 2 ** 31 - 1, "the same numbers draw the same pictures"],
];
const START = { generator: "mixed", name: "", labels: "100", items_per_label: "50", image_size: "32", seed: "0" };

export function FormulaForm() {
  const [values, setValues] = useState(START);
  const change = (field) => (value) => setValues((old) => ({ ...old, [field]: value }));
  const draw = async () => {
    const numbers = Object.fromEntries(NUMBERS.map(([field]) => [field, Number(values[field])]));
    const name = values.name.trim();
    const made = await send("POST", "/datasets", { generator: values.generator, ...numbers, ...(name ? { name } : {}) }, { once: true });
    go(["datasets", made.id]);
  };
  return html`<details>
    <summary>Draw pictures by formula instead</summary>
    <div class="stack">
      <p class="note">A network that learns to tell formulas apart is a source for speech models; nothing needs to be uploaded.</p>
      <div class="filters">
        <${Field} id="generator" label="Family">
          <${Choice} id="generator" value=${values.generator} options=${GENERATORS} onChange=${change("generator")} />
        <//>
        ${NUMBERS.map(([field, label, least, most, note]) => html`<${Field} key=${field} id=${`formula-${field}`} label=${label} note=${note}>
          <${Input} id=${`formula-${field}`} type="number" min=${least} max=${most} step="1" value=${values[field]} onChange=${change(field)} />
        <//>`)}
        <${Field} id="formula-name" label="Name of the pictures">
          <${Input} id="formula-name" dir="auto" maxlength="200" value=${values.name} onChange=${change("name")} />
        <//>
      </div>
      <p><${Action} run=${draw} className="primary">Draw ${count(Number(values.labels) * Number(values.items_per_label))} pictures<//></p>
    </div>
  </details>`;
}
