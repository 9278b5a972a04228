/** How well a model does on each split: the confusion matrix, each label, each speaker, worse recordings, wrong labels. */
import { condition, number, percent } from "../format.js";
import { html } from "../lib.js";
import { Choice, Facts, Field, Section, Table, To, Word } from "../parts.js";
import { go } from "../route.js";
import { CellClips } from "./cell.js";
import { Matrix } from "./matrix.js";
import { Shares } from "./plots.js";

const ORDER = ["test", "validation", "train"];

export function Measures({ evaluation, query, model }) {
  const splits = ORDER.filter((split) => evaluation.splits[split]);
  const asked = query.get("split");
  const split = splits.includes(asked) ? asked : splits[0];
  if (!split) return null;
  const found = evaluation.splits[split];
  const [low, high] = found.interval_95 ?? [];
  const choose = (value) => go(["models", model.id], { split: value }, { replace: true });
  const hears = model.modality === "audio" && model.dataset;
  const clips = (label, predicted) => html`<${CellClips} model=${model} split=${split} label=${label} predicted=${predicted} />`;
  return html`
    <${Section} title="How well it does">
      <div class="filters">
        <${Field} id="split" label="Judged on"><${Choice} id="split" value=${split} options=${splits} onChange=${choose} /><//>
      </div>
      <p class="big">${percent(found.accuracy)} <span class="note">right of ${found.n} items; with 95 % confidence ${percent(low)} to ${percent(high)}</span></p>
      <${Facts} rows=${[
        ["Mean F1 of the labels", percent(found.macro_f1)],
        ["Calibration error", found.ece == null ? null : number(found.ece)],
        ["Temperature", evaluation.calibration && split !== "train" ? number(evaluation.calibration.temperature) : null],
      ]} />
    <//>
    ${found.confusion_matrix && html`<${Matrix} key=${split} matrix=${found.confusion_matrix} clips=${hears ? clips : null} />`}
    <${Labels} perLabel=${found.per_label} />
    ${found.reliability && html`<${Believable} found=${found} />`}
    ${found.by_group && html`<${Groups} groups=${found.by_group} />`}
    ${evaluation.robustness.length > 0 && html`<${Robustness} rows=${evaluation.robustness} />`}
    ${evaluation.unknown && html`<${Unknown} unknown=${evaluation.unknown} />`}
    ${evaluation.suspects.length > 0 && html`<${Suspects} rows=${evaluation.suspects} dataset=${model.dataset} />`}`;
}

function Bar({ share }) {
  return html`<td class="bar-cell"><span class="bar" style=${{ "--share": share ?? 0 }}></span> ${percent(share)}</td>`;
}

function Labels({ perLabel }) {
  return html`<${Section} title="Each label">
    <${Table} caption="Precision, recall and F1 of each label" head=${["Label", "Precision", "Recall", "F1", "Items"]}>
      ${Object.entries(perLabel ?? {}).map(([label, row]) => html`<tr key=${label}>
        <th scope="row"><${Word}>${label}<//></th>
        <${Bar} share=${row.precision} /><${Bar} share=${row.recall} /><${Bar} share=${row.f1} />
        <td class="number">${row.support}</td>
      </tr>`)}
    <//>
  <//>`;
}

function Believable({ found }) {
  const bins = found.reliability.map((row) => ({ x: row.confidence, y: row.accuracy, n: row.n }));
  const curve = found.reject_curve.map((row) => ({ x: row.answered, y: row.accuracy, n: Math.round(row.answered * found.n) }));
  const lowest = Math.min(0.8, Math.floor(Math.min(...curve.map((row) => row.y)) * 5) / 5); // whole percents at each tick
  return html`<${Section} title="Can its probabilities be believed?">
    <div class="charts">
      <${Shares} title="Calibration" across="how sure it is" up="how often it is right" rows=${bins} even=${true}
        note="On the dashed line it is right as often as it says." />
      <${Shares} title="When it may say nothing" across="share answered, the surest first" up="right of those" rows=${curve} from=${lowest}
        note="The fewer it answers, the more of them should be right." />
    </div>
  <//>`;
}

function Groups({ groups }) {
  const rows = Object.entries(groups).map(([group, row]) => ({ ...row, key: group, name: html`<${Word}>${group}<//>` }));
  return html`<${Accuracies} title="Each speaker" caption="Accuracy by speaker or group" of="Speaker" rows=${rows} />`;
}

function Robustness({ rows }) {
  const named = rows.map((row) => ({ ...row, key: row.name, name: condition(row.name) }));
  return html`<${Accuracies} title="When the recording is worse" caption="Accuracy when the recording is worse" of="How" rows=${named} />`;
}

function Accuracies({ title, caption, of, rows }) {
  return html`<${Section} title=${title}>
    <${Table} caption=${caption} head=${[of, "Right", "Items"]}>
      ${rows.map((row) => html`<tr key=${row.key}>
        <th scope="row">${row.name}</th><${Bar} share=${row.accuracy} /><td class="number">${row.n}</td>
      </tr>`)}
    <//>
  <//>`;
}

function Unknown({ unknown }) {
  return html`<${Section} title="Sounds that are none of its words">
    <${Facts} rows=${[
      ["Asked for", `at most ${percent(unknown.asked)} taken for a word`],
      ["Noises taken for a word", percent(unknown.accepted_noise)],
      ["Other words taken for one", percent(unknown.accepted_words)],
    ]} />
  <//>`;
}

function Suspects({ rows, dataset }) {
  return html`<${Section} title="Probably labelled wrong" note="Items that the model contradicts with confidence: worth listening to.">
    ${dataset && html`<p><${To} parts=${["datasets", dataset]} query=${{ status: "suspect" }}>Listen to the suspect items<//></p>`}
    <${Table} caption="Items whose label is probably wrong" head=${["File", "Split", "Label", "Heard as", "Probability"]}>
      ${rows.map((row) => html`<tr key=${row.file_name}>
        <th scope="row"><${Word}>${row.file_name}<//></th>
        <td>${row.split}</td>
        <td><${Word}>${row.label}<//></td>
        <td><${Word}>${row.predicted}<//></td>
        <td class="number">${percent(row.probability)}</td>
      </tr>`)}
    <//>
  <//>`;
}
