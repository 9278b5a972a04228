/** The start: what to do first, and what there is. */
import { html } from "../lib.js";
import { Section, Status, To, Trouble, View, Word } from "../parts.js";
import { useResource } from "../resource.js";

const UNFINISHED = new Set(["queued", "running", "pausing", "paused", "cancelling"]);

export function HomeView() {
  const datasets = useResource("/datasets?limit=1");
  const jobs = useResource("/jobs?limit=5", (list) => (list.data.some((job) => UNFINISHED.has(job.status)) ? 2000 : null));
  const models = useResource("/models?limit=1&modality=audio");
  const has = (list) => list.data?.data.length > 0;
  const next = [datasets, jobs, models].findIndex((list) => list.data && !has(list)); // the step to take now
  const button = (step) => (step === next ? "button primary" : "button");
  return html`<${View} title="Teach a network that can see to listen">
    <p class="lead">Record a few words, or bring recordings. A network that has learnt to see pictures learns to tell the words apart, and
      the service measures whether the seeing helped.</p>
    <${Trouble} problem=${datasets.error ?? jobs.error ?? models.error} />
    <ol class="steps">
      <${Step} done=${has(datasets)} title="Collect words">
        <${To} parts=${["record"]} className=${button(0)}>Record them here<//>
        <${To} parts=${["datasets"]} className="button">Upload recordings<//>
      <//>
      <${Step} done=${has(jobs)} title="Train">
        <${To} parts=${["jobs", "new"]} className=${button(1)}>Start a job<//>
      <//>
      <${Step} done=${has(models)} title="Speak">
        <${To} parts=${["try"]} className=${button(2)}>Try it<//>
      <//>
    </ol>
    ${has(jobs) && html`<${Section} title="Latest jobs">
      <ul class="rows">
        ${jobs.data.data.map((job) => html`<li key=${job.id}>
          <${To} parts=${["jobs", job.id]}><${Word}>${job.name ?? job.id}<//><//>
          <${Status} value=${job.status} />
        </li>`)}
      </ul>
    <//>`}
  <//>`;
}

function Step({ done, title, children }) {
  return html`<li class=${done ? "done" : ""}>
    <h2>${title}${done && html` <span class="tick">done</span>`}</h2>
    <div class="actions">${children}</div>
  </li>`;
}
