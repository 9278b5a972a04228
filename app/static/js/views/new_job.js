/** A form whose defaults are auto, with what the job would take beside its button. */
import { send } from "../api.js";
import { html, useState } from "../lib.js";
import { Choice, Empty, Field, Section, To, Trouble, View, Waiting } from "../parts.js";
import { useResource } from "../resource.js";
import { go } from "../route.js";
import { hasWeights, specOf, START } from "../spec.js";
import { Begin, Learning, Names } from "./job_form.js";
import { Quote } from "./quote.js";

const PAGE = 100; // the newest datasets; older ones have a button of their own

export function NewJobView({ query }) {
  const datasets = useResource(`/datasets?status=ready&limit=${PAGE}`);
  const asked = query.get("dataset") ?? "";
  const older = useResource(asked ? `/datasets/${encodeURIComponent(asked)}` : null);
  const backbones = useResource("/backbones");
  const trouble = datasets.error ?? older.error ?? backbones.error;
  if (!datasets.data || !backbones.data || (asked && !older.data)) {
    return html`<${Waiting} title="Start a job" problem=${trouble} />`;
  }
  const listed = datasets.data.data;
  const known = older.data && !listed.some((row) => row.id === asked) ? [older.data, ...listed] : listed;
  if (!known.length) {
    return html`<${View} title="Start a job">
      <${Empty}>
        <p>A job learns from a dataset, and none is ready yet.</p>
        <div class="actions">
          <${To} parts=${["record"]} className="button primary">Record words<//>
          <${To} parts=${["datasets"]} className="button">Upload recordings<//>
        </div>
      <//>
    <//>`;
  }
  return html`<${View} title="Start a job"><${Form} datasets=${known} asked=${asked} backbones=${backbones.data.data} /><//>`;
}

function Form({ datasets, asked, backbones }) {
  const [values, setValues] = useState({ ...START, dataset: asked || datasets[0].id });
  const [state, setState] = useState({ busy: false, problem: null });
  const change = (field) => (value) => setValues((old) => ({ ...old, [field]: value }));
  const dataset = datasets.find((row) => row.id === values.dataset);
  const speech = dataset.modality === "audio";
  const weights = hasWeights(values, backbones);
  const spec = specOf(values, { speech, weights });
  const start = async (event) => {
    event.preventDefault();
    setState({ busy: true, problem: null });
    try {
      const job = await send("POST", "/jobs", spec, { once: true });
      go(["jobs", job.id]);
    } catch (problem) {
      setState({ busy: false, problem });
    }
  };
  const parts = { values, change, speech, weights };
  return html`<form class="split" onSubmit=${start}>
    <div class="stack">
      <${Section} title="What it learns from">
        <${Field} id="dataset" label="Dataset">
          <${Choice} id="dataset" value=${values.dataset} options=${datasets.map(described)} onChange=${change("dataset")} />
        <//>
        <${Begin} ...${parts} backbones=${backbones} />
      <//>
      <${Learning} ...${parts} />
      <${Names} ...${parts} />
    </div>
    <div class="beside">
      <${Section} title="What it would take">
        <${Quote} spec=${spec} />
        <div class="actions"><button class="primary" disabled=${state.busy} aria-busy=${state.busy}>Start the job</button></div>
        <${Trouble} problem=${state.problem} />
      <//>
    </div>
  </form>`;
}

function described(dataset) {
  return [dataset.id, `${dataset.name} · ${dataset.modality === "image" ? "pictures" : "sounds"} · ${dataset.items}`];
}
