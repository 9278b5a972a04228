/** One job: how far it is, how it learns beside its controls, what it made. */
import { send } from "../api.js";
import { useCurves, useEvents } from "../curves.js";
import { Chart } from "../chart.js";
import { hasEnded } from "../events.js";
import { duration, percent, when, words } from "../format.js";
import { html } from "../lib.js";
import { Action, Facts, Notice, Progress, Section, Status, To, Trouble, View, Waiting, Word } from "../parts.js";
import { useResource } from "../resource.js";
import { Checkpoints, Log, Ranking, Settings } from "./job_parts.js";

const ACTIONS = {
  pause: { from: new Set(["queued", "running"]), text: "Pause" },
  resume: { from: new Set(["paused"]), text: "Resume", className: "primary" },
  cancel: {
    from: new Set(["queued", "running", "pausing", "paused"]),
    text: "Cancel",
    className: "danger",
    sure: "End the job? Its best checkpoint stays as a model.",
  },
};

const CONTROLS = { scratch: "the same from scratch", frozen: "with carried layers frozen", repeat: "with another seed" };

export function JobView({ id }) {
  const { data: job, error, reload } = useResource(`/jobs/${encodeURIComponent(id)}`, (found) => (isSettled(found) ? null : 700));
  const { events, problem } = useEvents(job ? job.id : null, job && isSettled(job) ? "settled" : "");
  if (!job) return html`<${Waiting} title="Job" problem=${error} retry=${reload} />`;
  return html`<${View} kind="Job" title=${job.name ?? job.id} actions=${html`<${Actions} job=${job} reload=${reload} />`}>
    <${Trouble} problem=${error ?? problem} />
    <${State} job=${job} />
    ${job.type !== "transferability" && html`<${Curves} job=${job} events=${events} />`}
    ${job.result && html`<${Ranking} result=${job.result} />`}
    <${Verdict} events=${events} job=${job} />
    <${Checkpoints} job=${job} />
    <${Settings} job=${job} />
    <${Log} events=${events} />
  <//>`;
}

/** Whether nothing about the job will change by itself any more: it has ended, and so have the jobs that it is compared with. */
function isSettled(job) {
  return job.status === "paused" || (hasEnded(job.status) && job.controls.every((control) => hasEnded(control.status)));
}

function Actions({ job, reload }) {
  const act = (name) => async () => {
    await send("POST", `/jobs/${job.id}/${name}`);
    reload();
  };
  return html`
    ${job.model && html`<${To} parts=${["models", job.model]} className="button primary">Its model<//>`}
    ${Object.entries(ACTIONS).filter(([, action]) => action.from.has(job.status)).map(([name, action]) => html`
      <${Action} key=${name} run=${act(name)} sure=${action.sure} className=${action.className}>${action.text}<//>`)}`;
}

function State({ job }) {
  const { phase, epoch, epochs, fraction, eta_seconds: left } = job.progress;
  const label = job.status === "running" ? `${words(phase)}${epochs ? `, epoch ${epoch ?? 0} of ${epochs}` : ""}` : words(job.status);
  const detail = `${percent(fraction, 0)}${left == null ? "" : `, about ${duration(left)} left`}`;
  const reached = job.metrics.test_accuracy ?? job.metrics.validation_accuracy;
  const judges = job.metrics.test_accuracy == null ? "validation" : "test";
  const isModel = job.base_model?.startsWith("mdl_");
  return html`<${Section} title="How far it is">
    <p><${Status} value=${job.status} /> <span class="note">${job.id}</span></p>
    ${!hasEnded(job.status) && html`<${Progress} label=${label} share=${fraction} detail=${detail} />`}
    ${job.error && html`
      <${Trouble} problem=${{ message: job.error.message, hint: job.error.param && `It is about ${job.error.param}.` }} />`}
    <${Facts} rows=${[
      ["Kind", words(job.type)],
      ["Dataset", html`<${To} parts=${["datasets", job.dataset]}>${job.dataset}<//>`],
      ["Begins from", isModel ? html`<${To} parts=${["models", job.base_model]}>${job.base_model}<//>` : job.base_model ?? "random weights"],
      ["Compared with", job.control_of && html`<${To} parts=${["jobs", job.control_of]}>${job.control_of}<//>`],
      ["Accuracy", reached == null ? null : `${percent(reached)} of the ${judges} items`],
      ["Started", job.started_at && when(job.started_at)],
      ["Took", job.finished_at && job.started_at && duration((Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1000)],
      ["Starts so far", job.attempt > 1 ? String(job.attempt) : null],
      ["Alias", job.alias && html`<${Word}>${job.alias}<//>`],
    ]} />
  <//>`;
}

function Curves({ job, events }) {
  const own = useCurves(events);
  const scratchJob = controlOf(job, "scratch");
  const frozenJob = controlOf(job, "frozen");
  const scratch = useCurves(useEvents(scratchJob).events);
  const frozen = useCurves(useEvents(frozenJob).events);
  const name = job.control ? `this job (${job.control})` : "this job";
  const lines = (measure) => [
    { name, style: "own", points: own[measure] },
    { name: "from scratch", style: "scratch", points: scratch[measure] },
    { name: "carried layers frozen", style: "frozen", points: frozen[measure] },
  ];
  const training = { name: "this job, training", style: "training", points: own.train_loss };
  return html`<${Section} title="How it learns">
    <div class="charts">
      <${Chart} title="Validation accuracy" share=${true} series=${lines("validation_accuracy")} />
      <${Chart} title="Loss on validation items" series=${[...lines("validation_loss"), training]} />
    </div>
    ${job.controls.some((control) => !hasEnded(control.status)) && html`<${Notice}>
      The jobs that this one is compared with are not done yet; their curves come into the same plots.
    <//>`}
    ${job.controls.length > 0 && html`<ul class="rows">
      ${job.controls.map((control) => html`<li key=${control.job}>
        <${To} parts=${["jobs", control.job]}>${CONTROLS[control.name]}<//>
        <${Status} value=${control.status} />
      </li>`)}
    </ul>`}
  <//>`;
}

function controlOf(job, name) {
  return job.controls.find((control) => control.name === name)?.job ?? null;
}

function Verdict({ events, job }) {
  const told = events.findLast((event) => event.data.transfer?.sentence);
  if (!told) return null;
  return html`<${Section} title="Did the transfer pay?">
    <p dir="auto">${told.data.transfer.sentence}</p>
    ${job.model && html`<p><${To} parts=${["models", job.model]}>See it as a picture<//></p>`}
  <//>`;
}
