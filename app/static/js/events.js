/** A job's events as they happen. EventSource can't send a key, so the stream is read by fetch. */
import { ask, fetchAnswer } from "./api.js";

const RETRY_MILLISECONDS = 2000;
const TERMINAL = new Set(["succeeded", "failed", "cancelled"]);

/** Whether a job in this state has ended. */
export function hasEnded(status) {
  return TERMINAL.has(status);
}

/**
 * Calls `onEvents(list)` with a job's events after the id `after`, first those that were, then each piece as it comes, until the job
 * has ended or `signal` says so. A connection that breaks is made anew from the last event on. Throws Problem for an answer that will
 * not get better.
 */
export async function followEvents(jobId, onEvents, signal, after = "") {
  let last = after;
  while (!signal.aborted) {
    try {
      const response = await fetchAnswer(`/jobs/${jobId}/events?limit=1000`, {
        accept: "text/event-stream", signal, headers: last ? { "Last-Event-ID": last } : {},
      });
      for await (const events of readEvents(response.body)) {
        last = events.at(-1).id;
        onEvents(events);
      }
      break; // the service ends the stream with the event that ends the job
    } catch (error) {
      if (signal.aborted) return;
      if (error.status >= 400 && error.status < 500) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MILLISECONDS));
    }
  }
  if (signal.aborted) return;
  // The verdict on a transfer comes after its job has ended.
  const rest = await ask(`/jobs/${jobId}/events?limit=1000${last ? `&after=${last}` : ""}`, { signal });
  if (rest.data.length) onEvents(rest.data);
}

/** Yields lists of events: all that came in one piece, as drawing once a piece is enough. */
async function* readEvents(stream) {
  let rest = "";
  for await (const text of pieces(stream)) {
    const blocks = (rest + text).split("\n\n");
    rest = blocks.pop();
    const events = blocks.map(dataOf).filter(Boolean).map((data) => JSON.parse(data));
    if (events.length) yield events;
  }
}

async function* pieces(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    yield value;
  }
}

function dataOf(block) {
  const lines = block.split("\n").filter((line) => line.startsWith("data:"));
  return lines.map((line) => line.slice(5).trimStart()).join("\n");
}
