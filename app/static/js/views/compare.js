/** Two models side by side, split by split and label by label. */
import { condition, count, duration, number, percent, points } from "../format.js";
import { html } from "../lib.js";
import { Choice, Empty, Field, Section, Table, To, Trouble, View, Waiting, Word } from "../parts.js";
import { useResource } from "../resource.js";
import { go } from "../route.js";

const ORDER = ["test", "validation", "train"];

export function CompareView({ ids, query }) {
  const list = useResource("/models?limit=100");
  const [one, other] = [useJudged(ids[0]), useJudged(ids[1])];
  const title = "Two models side by side";
  if (!list.data || !one.ready || !other.ready) return html`<${Waiting} title=${title} problem=${list.error ?? one.error ?? other.error} />`;
  const pair = [one, other];
  const shared = ORDER.filter((split) => pair.every(({ evaluation }) => evaluation.splits[split]));
  const split = shared.includes(query.get("split")) ? query.get("split") : shared[0];
  const found = pair.map(({ evaluation }) => evaluation.splits[split]);
  const choose = (value) => go(["compare", ...ids], { split: value }, { replace: true });
  return html`<${View} title=${title}>
    <${Section} title="Which">
      <div class="filters">
        ${[0, 1].map((place) => html`<${Chosen} key=${place} place=${place} ids=${ids} models=${list.data.data} split=${split} />`)}
        ${split && html`<${Field} id="compared-split" label="Judged on">
          <${Choice} id="compared-split" value=${split} options=${shared} onChange=${choose} />
        <//>`}
      </div>
      ${one.model.dataset !== other.model.dataset && html`<p class="note">They were trained on different datasets, and judged on different items.</p>`}
    <//>
    <${Facts} pair=${pair} found=${found} />
    ${split
      ? html`<${Labels} pair=${pair} found=${found} /><${Robustness} pair=${pair} />`
      : html`<${Empty}>They were judged on no split in common.<//>`}
    <${Layers} pair=${pair} />
  <//>`;
}

function useJudged(id) {
  const path = `/models/${encodeURIComponent(id)}`;
  const model = useResource(path);
  const evaluation = useResource(`${path}/evaluation`);
  const ready = Boolean(model.data && evaluation.data);
  return { ready, model: model.data, evaluation: evaluation.data, error: model.error ?? evaluation.error };
}

function Chosen({ place, ids, models, split }) {
  const options = models.map((model) => [model.id, model.name ? `${model.name} (${model.id})` : model.id]);
  const known = options.some(([id]) => id === ids[place]) ? options : [[ids[place], ids[place]], ...options];
  const choose = (value) => go(["compare", ...ids.map((id, at) => (at === place ? value : id))], { split }, { replace: true });
  const id = `compared-${place}`;
  return html`<${Field} id=${id} label=${place ? "Beside" : "Model"}><${Choice} id=${id} value=${ids[place]} options=${known} onChange=${choose} /><//>`;
}

function Heads({ pair }) {
  return pair.map(({ model }) => html`<${To} key=${model.id} parts=${["models", model.id]}><${Word}>${model.name ?? model.id}<//><//>`);
}

/** A table of two columns of values; `rows` are [name, one, other, difference]. */
function Pairs({ title, pair, of, rows, note }) {
  return html`<${Section} title=${title} note=${note}>
    <${Table} caption=${title} className="pairs" head=${[of, ...Heads({ pair }), "Difference"]}>
      ${rows.map(([name, one, other, gap], place) => html`<tr key=${place}>
        <th scope="row">${name}</th><td>${one}</td><td>${other}</td><td class="number">${gap}</td>
      </tr>`)}
    <//>
  <//>`;
}

/** Points by which the second is better. */
function gap(one, other) {
  return one == null || other == null ? "–" : `${points(other - one)} points`;
}

function Facts({ pair, found }) {
  const [one, other] = found;
  const both = (read) => pair.map(({ model }) => read(model));
  const interval = (row) => (row ? `${percent(row.accuracy)} (${percent(row.interval_95[0])} to ${percent(row.interval_95[1])})` : "–");
  const rows = [
    ["Right, with 95 % confidence", interval(one), interval(other), gap(one?.accuracy, other?.accuracy)],
    ["Mean F1", percent(one?.macro_f1), percent(other?.macro_f1), gap(one?.macro_f1, other?.macro_f1)],
    ["Calibration error", number(one?.ece), number(other?.ece), ""],
    ["Items judged on", count(one?.n), count(other?.n), ""],
    ["Begins from", ...both((model) => html`<${Word}>${model.transfer.mode === "none" ? "random weights" : model.transfer.base_model}<//>`), ""],
    ["Carried over", ...both((model) => model.transfer.mode), ""],
    ["Network", ...both((model) => model.architecture), ""],
    ["Parameters", ...both((model) => count(model.parameters)), ""],
    ["Training took", ...both((model) => duration(model.metrics.training_seconds)), ""],
  ];
  return html`<${Pairs} title="In short" of="What" pair=${pair} rows=${rows} note="The difference is the second model's gain over the first." />`;
}

function Labels({ pair, found }) {
  const names = [...new Set(found.flatMap((split) => Object.keys(split.per_label)))];
  const f1 = (split, label) => split.per_label[label]?.f1;
  const rows = names.map((label) => {
    const [one, other] = found.map((split) => f1(split, label));
    return { gap: one == null || other == null ? 0 : other - one, cells: [html`<${Word}>${label}<//>`, percent(one), percent(other), gap(one, other)] };
  });
  rows.sort((one, other) => Math.abs(other.gap) - Math.abs(one.gap));
  return html`<${Pairs} title="F1 of each label" of="Label" pair=${pair} rows=${rows.map((row) => row.cells)} note="Those that differ most come first." />`;
}

function Robustness({ pair }) {
  const [one, other] = pair.map(({ evaluation }) => new Map(evaluation.robustness.map((row) => [row.name, row.accuracy])));
  const names = [...new Set([...one.keys(), ...other.keys()])];
  if (!names.length) return null;
  const rows = names.map((name) => [condition(name), percent(one.get(name)), percent(other.get(name)), gap(one.get(name), other.get(name))]);
  return html`<${Pairs} title="When the recording is worse" of="How" pair=${pair} rows=${rows} />`;
}

function Layers({ pair }) {
  const names = [...new Set(pair.flatMap(({ model }) => model.layers.map((layer) => layer.name)))];
  if (!names.length) return null;
  const from = (model, name) => {
    if (!model.layers.some((layer) => layer.name === name)) return "–";
    const began = model.transfer.shared_layers.includes(name) ? "carried over" : "random weights";
    return model.transfer.frozen_layers.includes(name) ? `${began}, held still` : began;
  };
  const rows = names.map((name) => [name, ...pair.map(({ model }) => from(model, name)), ""]);
  return html`<${Pairs} title="Which layers came from where" of="Layer" pair=${pair} rows=${rows} />`;
}
