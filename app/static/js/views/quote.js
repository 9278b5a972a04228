/** What a job would take, asked anew when the form has been still for a moment: the service trains a few steps to find it out. */
import { send } from "../api.js";
import { bytes, count, duration, number } from "../format.js";
import { html, useEffect, useState } from "../lib.js";
import { Facts, Notice, Progress, Trouble } from "../parts.js";

const STILL_MILLISECONDS = 1000;
const RETRY_SECONDS = 5;

export function Quote({ spec }) {
  const asked = JSON.stringify({ ...spec, name: undefined, alias: undefined });
  const [state, setState] = useState({ asked: "", quote: null, problem: null });
  useEffect(() => {
    const control = new AbortController();
    let timer;
    const look = async () => {
      try {
        const quote = await send("POST", "/jobs?dry_run=true", JSON.parse(asked), { signal: control.signal });
        setState({ asked, quote, problem: null });
      } catch (problem) {
        if (control.signal.aborted) return;
        const busy = problem.status === 503 && problem.code !== "quote_timeout"; // as many are being made as are made at once
        if (busy) timer = setTimeout(look, 1000 * (problem.retryAfter ?? RETRY_SECONDS));
        else setState({ asked, quote: null, problem });
      }
    };
    timer = setTimeout(look, STILL_MILLISECONDS);
    return () => {
      control.abort();
      clearTimeout(timer);
    };
  }, [asked]);
  const fresh = state.asked === asked;
  return html`<div aria-live="polite" aria-busy=${!fresh} class="quote">
    ${!fresh && html`<${Progress} label="Finding out; you need not wait for it" share=${null} />`}
    ${fresh && html`<${Trouble} problem=${state.problem} />`}
    ${state.quote && html`<div class=${fresh ? "" : "stale"}><${Told} quote=${state.quote} /></div>`}
  </div>`;
}

function Told({ quote }) {
  const { low, expected, high } = quote.estimated_seconds;
  const { hyperparameters, transfer, base_model: base } = quote.resolved;
  return html`
    <p class="big">${duration(expected)} <span class="note">${duration(low)} to ${duration(high)}</span></p>
    <${Facts} rows=${[
      ["Steps", count(quote.steps)],
      ["Parameters that learn", `${count(quote.trainable_parameters)} of ${count(quote.total_parameters)}`],
      ["Memory", `${bytes(quote.peak_memory_bytes)} on ${quote.device}`],
      ["Disk", bytes(quote.disk_bytes)],
      ["Begins from", base ?? "random weights"],
      ["Carried over", transfer?.mode],
      ["Epochs", hyperparameters?.epochs],
      ["Batch size", hyperparameters?.batch_size],
      ["Learning rate", hyperparameters && number(hyperparameters.learning_rate)],
    ]} />
    ${quote.warnings.map((warning) => html`<${Notice} key=${warning}><span dir="auto">${warning}</span><//>`)}`;
}
