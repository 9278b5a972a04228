/** What a plot needs of a job's events, and of its controls'. */
import { followEvents } from "./events.js";
import { useEffect, useMemo, useRef, useState } from "./lib.js";

/** All events of a job, oldest first, as they happen: `{events, problem}`. A change of `again` looks for what came after the end. */
export function useEvents(jobId, again = "") {
  const [state, setState] = useState({ jobId, events: [], problem: null });
  const known = useRef({ jobId: null, events: [] });
  useEffect(() => {
    if (!jobId) return undefined;
    if (known.current.jobId !== jobId) known.current = { jobId, events: [] };
    const control = new AbortController();
    const add = (events) => {
      if (control.signal.aborted) return;
      known.current.events = [...known.current.events, ...events];
      setState({ jobId, events: known.current.events, problem: null });
    };
    followEvents(jobId, add, control.signal, known.current.events.at(-1)?.id).catch((problem) => {
      if (!control.signal.aborted) setState({ jobId, events: known.current.events, problem });
    });
    return () => control.abort();
  }, [jobId, again]);
  return state.jobId === jobId ? state : { events: [], problem: null };
}

/** Curves of a job's metrics events: measure → list of [epoch, value]. A job that went on after a break tells its newest value. */
export function useCurves(events) {
  return useMemo(() => curvesOf(events), [events]);
}

function curvesOf(events) {
  const curves = { train_loss: new Map(), validation_loss: new Map(), validation_accuracy: new Map() };
  for (const event of events) {
    if (event.type !== "metrics" || event.data.epoch == null) continue;
    for (const [measure, values] of Object.entries(curves)) {
      if (event.data[measure] != null) values.set(event.data.epoch, event.data[measure]);
    }
  }
  return Object.fromEntries(Object.entries(curves).map(([measure, values]) => [measure, [...values]]));
}
