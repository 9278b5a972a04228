/** The verdict over time: how soon the model was as good as the same network from scratch. */
import { Chart } from "../chart.js";
import { useEvents } from "../curves.js";
import { html, useMemo } from "../lib.js";

/** Validation accuracy by seconds of each job's training; `transfer` is the verdict, `job` what made the model. */
export function OverTime({ transfer, job }) {
  const scratch = transfer.controls.find((control) => control.name === "scratch" && control.job)?.job ?? null;
  const own = useTimes(scratch ? job : null);
  const other = useTimes(scratch);
  if (!scratch || !job || own.length < 2) return null;
  return html`<${Chart} title="Validation accuracy over the time of training" unit="s" share=${true} series=${[
    { name: "with the carried layers", style: "own", points: own },
    { name: "from scratch", style: "scratch", points: other },
  ]} />`;
}

function useTimes(job) {
  const { events } = useEvents(job);
  return useMemo(() => {
    const metrics = events.filter((event) => event.type === "metrics" && event.data.validation_accuracy != null);
    if (metrics.length < 2) return [];
    const ends = metrics.map((event) => Date.parse(event.created_at));
    // Nobody tells when the first epoch began, as a job's start is also that of its process: it is taken to be as long as the second.
    const start = ends[0] - (ends[1] - ends[0]);
    return metrics.map((event, epoch) => [(ends[epoch] - start) / 1000, event.data.validation_accuracy]);
  }, [events]);
}
