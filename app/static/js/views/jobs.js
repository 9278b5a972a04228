/** All jobs, by state. */
import { duration, percent, when, words } from "../format.js";
import { html, memo } from "../lib.js";
import { Choice, Empty, Field, More, Section, Status, Table, To, Trouble, View, Word } from "../parts.js";
import { usePages } from "../resource.js";
import { go } from "../route.js";

const STATES = [["", "all"], "queued", "running", "paused", "succeeded", "failed", "cancelled"];
const ENDED = new Set(["succeeded", "failed", "cancelled", "paused"]);
const HEAD = ["Name", "State", "Kind", "Done", "Accuracy", "Made"];

export function JobsView({ query }) {
  const status = query.get("status") ?? "";
  const pause = (rows) => (rows.some((row) => !ENDED.has(row.status)) ? 1500 : null);
  const { rows, more, error, loading, reload } = usePages(`/jobs${status ? `?status=${encodeURIComponent(status)}` : ""}`, { pause });
  const choose = (value) => go(["jobs"], { status: value }, { replace: true });
  const start = html`<${To} parts=${["jobs", "new"]} className="button primary">Start a job<//>`;
  return html`<${View} title="Jobs" actions=${start}>
    <${Section} title="All jobs">
      <div class="filters">
        <${Field} id="job-status" label="State">
          <${Choice} id="job-status" value=${status} options=${STATES} onChange=${choose} />
        <//>
      </div>
      <${Trouble} problem=${error} retry=${reload} />
      ${loading && html`<p role="status">Loading …</p>`}
      ${!loading && !rows.length && !error && html`<${Empty}>There is none${status ? " like that" : " yet"}.<//>`}
      ${rows.length > 0 && html`<${Table} caption="Jobs" head=${HEAD}>${rows.map((row) => html`<${Row} key=${row.id} row=${row} />`)}<//>`}
      <${More} more=${more} />
    <//>
  <//>`;
}

const Row = memo(({ row }) => {
  const left = row.progress.eta_seconds;
  return html`<tr>
    <th scope="row"><${To} parts=${["jobs", row.id]}><${Word}>${row.name ?? row.id}<//><//></th>
    <td><${Status} value=${row.status} /></td>
    <td>${words(row.type)}</td>
    <td>${ENDED.has(row.status) ? "–" : `${percent(row.progress.fraction, 0)}${left == null ? "" : `, ${duration(left)} left`}`}</td>
    <td class="number">${percent(row.metrics.test_accuracy ?? row.metrics.validation_accuracy)}</td>
    <td>${when(row.created_at)}</td>
  </tr>`;
});
