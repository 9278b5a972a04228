/** One model: whether its transfer paid, where it errs, what it comes from, its names, its files. */
import { send } from "../api.js";
import { count, number, percent, when } from "../format.js";
import { html, useState } from "../lib.js";
import { Action, Download, Facts, Field, Input, Section, To, Trouble, View, Waiting, Word } from "../parts.js";
import { useResource } from "../resource.js";
import { go } from "../route.js";
import { Layers, Lineage } from "./lineage.js";
import { Measures } from "./measures.js";
import { Verdict } from "./verdict.js";

const MOST_LABELS = 60; // shown at once; all of them stand in the table of labels

export function ModelView({ id, query }) {
  const path = `/models/${encodeURIComponent(id)}`;
  const { data: model, error, reload } = useResource(path);
  const evaluation = useResource(`${path}/evaluation`);
  if (!model) return html`<${Waiting} title="Model" problem=${error} retry=${reload} />`;
  const refused = evaluation.data?.promotion_refused;
  return html`<${View} kind="Model" title=${model.name ?? model.id} actions=${html`<${Actions} model=${model} />`}>
    <${Trouble} problem=${error ?? evaluation.error} />
    ${refused && html`<${Trouble} problem=${{ message: "No alias moves to this model by itself.", hint: refused }} />`}
    ${evaluation.data?.transfer && html`<${Verdict} transfer=${evaluation.data.transfer} job=${model.job} dataset=${model.dataset} />`}
    ${evaluation.data && html`<${Measures} evaluation=${evaluation.data} query=${query} model=${model} />`}
    <${Overview} model=${model} />
    <${Lineage} model=${model} />
    <${Layers} model=${model} />
    <${Aliases} model=${model} reload=${reload} />
    <${Files} model=${model} />
  <//>`;
}

function Actions({ model }) {
  const remove = async () => {
    await send("DELETE", `/models/${model.id}`);
    go(["models"]);
  };
  return html`
    ${model.modality === "audio"
      ? html`<${To} parts=${["try"]} query=${{ model: model.id }} className="button primary">Try it<//>`
      : html`<${To} parts=${["jobs", "new"]} className="button primary">Teach it to listen<//>`}
    <${To} parts=${["compare", model.id, model.base_model?.startsWith("mdl_") ? model.base_model : model.id]} className="button">Compare<//>
    <${Action} run=${remove} sure="Delete this model?" className="danger">Delete<//>`;
}

function Overview({ model }) {
  return html`<${Section} title="What it is">
    <${Facts} rows=${[
      ["Kind", model.modality === "image" ? "seeing: a source for speech models" : "hearing"],
      ["Network", model.architecture],
      ["Parameters", count(model.parameters)],
      ["Labels", html`<${Labels} labels=${model.labels} />`],
      ["Training took", model.metrics.training_seconds == null ? null : `${number(model.metrics.training_seconds)} s`],
      ["Test accuracy", model.metrics.test_accuracy == null ? null : percent(model.metrics.test_accuracy)],
      ["Sample rate", model.modality === "audio" ? `${count(model.features.sample_rate)} Hz` : null],
      ["Clip", model.modality === "audio" ? `${model.features.clip_seconds} s` : null],
      ["Made", when(model.created_at)],
      ["Id", html`<code class="break">${model.id}</code>`],
      ["SHA-256", html`<code class="break">${model.sha256}</code>`],
    ]} />
  <//>`;
}

function Labels({ labels }) {
  const rest = labels.length - MOST_LABELS;
  return html`<span>
    ${labels.slice(0, MOST_LABELS).map((label) => html`<span key=${label} class="tag"><${Word}>${label}<//></span>`)}
    ${rest > 0 && ` and ${count(rest)} more`}
  </span>`;
}

function Aliases({ model, reload }) {
  const [name, setName] = useState("");
  const { data: aliases, reload: again } = useResource("/aliases");
  const both = () => {
    reload();
    again();
  };
  const set = async () => {
    await send("PUT", `/aliases/${encodeURIComponent(name.trim())}`, { model: model.id });
    setName("");
    both();
  };
  const take = async (alias) => {
    await send("DELETE", `/aliases/${encodeURIComponent(alias)}`);
    both();
  };
  const elsewhere = aliases?.data.find((alias) => alias.name === name.trim() && alias.model !== model.id);
  return html`<${Section} title="Aliases" note="A name that programs ask for; it can be moved to another model, and back.">
    <ul class="rows">
      ${model.aliases.map((alias) => html`<li key=${alias}>
        <strong><${Word}>${alias}<//></strong>
        <${Action} run=${() => take(alias)} sure=${`Take the name ${alias} away?`}>Take away<//>
      </li>`)}
      ${!model.aliases.length && html`<li class="note">None points here.</li>`}
    </ul>
    <div class="filters">
      <${Field} id="alias" label="Let a name point here">
        <${Input} id="alias" value=${name} onChange=${setName} list="aliases" autocomplete="off" />
        <datalist id="aliases">${(aliases?.data ?? []).map((alias) => html`<option value=${alias.name}></option>`)}</datalist>
      <//>
      <${Action} run=${set} disabled=${!name.trim()}>${elsewhere ? "Move it here" : "Set"}<//>
    </div>
    ${elsewhere && html`<p class="note">It points at <${To} parts=${["models", elsewhere.model]}>${elsewhere.model}<//> now.</p>`}
  <//>`;
}

function Files({ model }) {
  const path = `/models/${model.id}`;
  return html`<${Section} title="Files" note="Weights as safetensors, the description, the ONNX graph from waveform to probabilities, and a model card.">
    <div class="actions">
      <${Download} path=${`${path}/artifact`} name=${`${model.id}.tar`} size=${model.size_bytes}>Everything, as a tar<//>
      ${model.modality === "audio" && html`<${Download} path=${`${path}/onnx`} name=${`${model.id}.onnx`}>The ONNX graph alone<//>`}
    </div>
  <//>`;
}
