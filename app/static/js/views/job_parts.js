/** Parts of a job's view: its log, its checkpoints, its values, and the ranking that a ranking job makes. */
import { hasEnded } from "../events.js";
import { clock, number, percent, words } from "../format.js";
import { html, useEffect } from "../lib.js";
import { Section, Table, To, Trouble, Word } from "../parts.js";
import { useResource } from "../resource.js";

const GROUPS = ["transfer", "hyperparameters", "features", "augmentation", "evaluation"];
const SHOWN = 500; // of a long log, the newest

/** What happened, newest last; the numbers of each epoch are in the plots. */
export function Log({ events }) {
  const told = events.filter((event) => event.type !== "metrics");
  return html`<${Section} title="Log">
    <div class="log" role="log" aria-label="Events of the job" tabindex="0"><ol>
      ${told.slice(-SHOWN).map((event) => html`<li key=${event.id} class=${event.level}>
        <time datetime=${event.created_at}>${clock(event.created_at)}</time>
        <span class="kind">${event.level === "info" ? event.type : event.level}</span>
        <span dir="auto" class="break">${event.message}</span>
      </li>`)}
    </ol></div>
  <//>`;
}

/** Models of stages of the training, each of which can be asked. */
export function Checkpoints({ job }) {
  const ended = hasEnded(job.status);
  const { data, error, reload } = useResource(`/jobs/${job.id}/checkpoints`, () => (ended ? null : 3000));
  useEffect(reload, [ended]); // the last ones are written at the end
  if (error) return html`<${Trouble} problem=${error} />`;
  if (!data?.data.length) return null;
  return html`<${Section} title="Checkpoints" note="Each is a model that can be asked.">
    <${Table} caption="Checkpoints" head=${["Model", "Epoch", "Step", "Validation accuracy", "Validation loss"]}>
      ${data.data.map((row) => html`<tr key=${row.id}>
        <th scope="row"><${To} parts=${["models", row.model]}>${row.model}<//></th>
        <td class="number">${row.epoch ?? "–"}</td>
        <td class="number">${row.step ?? "–"}</td>
        <td class="number">${percent(row.metrics?.validation_accuracy)}</td>
        <td class="number">${number(row.metrics?.validation_loss)}</td>
      </tr>`)}
    <//>
  <//>`;
}

/** The values of the job: as asked, and as resolved once it has started. */
export function Settings({ job }) {
  const groups = GROUPS.filter((name) => Object.keys(job[name] ?? {}).length);
  const note = job.started_at ? "As they were resolved when the job started." : "As asked; every auto is resolved when the job starts.";
  return html`<${Section} title="Values" note=${note}>
    ${groups.map((name) => html`<details key=${name}>
      <summary>${words(name)}</summary>
      <${Table} caption=${words(name)} head=${["Name", "Value"]}>
        ${Object.entries(job[name]).map(([field, value]) => html`<tr key=${field}>
          <th scope="row">${words(field)}</th><td class="break">${shownValue(value)}</td>
        </tr>`)}
      <//>
    </details>`)}
  <//>`;
}

function shownValue(value) {
  if (value === null) return "–";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** Which source a speech model would best begin from, before any training. */
export function Ranking({ result }) {
  const judges = `Judged by ${result.clips} clips of ${result.labels} labels, without training; guessing would be right in ${percent(result.chance)}.`;
  return html`<${Section} title="Which source fits best" note=${judges}>
    <${Table} caption="Sources, best first" head=${["Source", "Nearest neighbors right", "Interval", "Random weights", "Carry over up to"]}>
      ${result.candidates.map((row) => html`<tr key=${row.candidate}>
        <th scope="row"><${Word}>${row.candidate}<//></th>
        <td class="number">${percent(row.scores.knn)}</td>
        <td class="number">${percent(row.knn_interval_95[0])} to ${percent(row.knn_interval_95[1])}</td>
        <td class="number">${percent(row.random_knn)}</td>
        <td>${row.until ?? "–"}</td>
      </tr>`)}
    <//>
    ${result.skipped.map((row) => html`<p key=${row.candidate} class="note" dir="auto">${row.candidate}: ${row.message}</p>`)}
  <//>`;
}
