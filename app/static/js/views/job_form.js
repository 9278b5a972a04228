/** The fields of a new job. */
import { html } from "../lib.js";
import { Choice, Field, Input, Section } from "../parts.js";

const MODES = [
  ["auto", "auto: a short race decides"],
  ["full", "full: carry every layer over"],
  ["partial", "partial: carry the first layers over"],
  ["none", "none: random weights"],
];
const FREEZES = [
  ["none", "all layers learn"],
  ["shared", "carried layers stay as they are"],
  ["gradual", "carried layers begin to learn one after another"],
];
const CONTROLS = [
  ["auto", "auto: from scratch, in a quarter of the time"],
  ["full", "full: from scratch and frozen, in the same time"],
  ["none", "none: it is not measured"],
];
const OPTIMIZERS = ["adamw", "adam", "sgd", "gd", "adagrad", "rmsprop"];
const ALIAS = "[a-z0-9][a-z0-9_\\-]{0,62}";
const KINDS = { bundled: "comes with the service", architecture: "random weights", timm: "timm", model: "your pictures" };

/** Where the network comes from, and how much of it is carried over. */
export function Begin({ values, change, speech, weights, backbones }) {
  const sources = backbones.map((row) => [row.id, `${row.id} (${KINDS[row.kind] ?? row.kind}, ${row.architecture})`]);
  const layers = backbones.find((row) => row.id === values.base_model)?.layers ?? [];
  const origin = speech ? "auto: the bundled network or one of your picture models, whichever does best." : "auto: random weights.";
  const untils = [["", "auto: all but the last stage"], ...layers.map((layer) => layer.name)];
  const choose = (base) => {
    change("base_model")(base);
    change("until")(""); // another network has other layers
  };
  const carries = values.mode === "full" || values.mode === "partial";
  return html`
    <${Field} id="base" label="Begins from" note=${origin}>
      <${Choice} id="base" value=${values.base_model} options=${[["auto", "auto"], ...sources]} onChange=${choose} />
    <//>
    ${speech && weights && html`
      <${Field} id="mode" label="Carried over from seeing to hearing">
        <${Choice} id="mode" value=${values.mode} options=${MODES} onChange=${change("mode")} />
      <//>
      ${values.mode === "partial" && html`<${Field} id="until" label="The last layer carried over">
        <${Choice} id="until" value=${values.until} options=${untils} onChange=${change("until")} />
      <//>`}
      ${carries && html`<${Field} id="freeze" label="While it learns">
        <${Choice} id="freeze" value=${values.freeze} options=${FREEZES} onChange=${change("freeze")} />
      <//>`}
      ${values.mode !== "none" && html`<${Field} id="controls" label="Measure whether the transfer pays">
        <${Choice} id="controls" value=${values.controls} options=${CONTROLS} onChange=${change("controls")} />
      <//>`}`}
    ${speech && html`
      <p class="check">
        <input id="unknown" type="checkbox" checked=${values.unknown} onChange=${(event) => change("unknown")(event.currentTarget.checked)} />
        <label for="unknown">Learn to say “none of these” to other sounds</label></p>`}`;
}

/** How it learns; what is left empty is auto. */
export function Learning({ values, change }) {
  const number = (field, label, limits, note) => html`<${Field} id=${field} label=${label} note=${note}>
    <${Input} id=${field} type="number" inputmode="decimal" placeholder="auto" ...${limits} value=${values[field]} onChange=${change(field)} />
  <//>`;
  return html`<${Section} title="Training" note="What stays empty is auto: found from the data when the job starts.">
    <div class="filters">
      ${number("epochs", "Epochs", { min: 1, max: 10000, step: 1 })}
      ${number("batch_size", "Batch size", { min: 1, max: 4096, step: 1 })}
      ${number("learning_rate", "Learning rate", { min: 0.000001, max: 100, step: "any" })}
      ${number("max_seconds", "Most seconds", { min: 1, max: 10000000, step: "any" })}
      <${Field} id="optimizer" label="Optimizer">
        <${Choice} id="optimizer" value=${values.optimizer} options=${OPTIMIZERS} onChange=${change("optimizer")} />
      <//>
    </div>
  <//>`;
}

/** What it is called. */
export function Names({ values, change }) {
  return html`<${Section} title="What it is called">
    <div class="filters">
      <${Field} id="name" label="Name">
        <${Input} id="name" dir="auto" maxlength="200" value=${values.name} onChange=${change("name")} />
      <//>
      <${Field} id="alias" label="Alias" note="Moves to the model when the job succeeds.">
        <${Input} id="alias" pattern=${ALIAS} title="small letters, digits, - and _" value=${values.alias} onChange=${change("alias")} />
      <//>
      <${Field} id="seed" label="Seed">
        <${Input} id="seed" type="number" min="0" max="2147483647" step="1" placeholder="0" value=${values.seed} onChange=${change("seed")} />
      <//>
    </div>
  <//>`;
}
