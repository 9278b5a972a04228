"""`synesthesia watch`: jobs as they learn, several at once, each with its curve and those of its controls."""

import time
from dataclasses import dataclass, field
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from app.client import Client, Json
from app.commands.curves import curve_of, drawn, measure_of
from app.commands.options import JsonFlag, client_of
from app.commands.output import REFUSED_EXIT, emit_line, out, plain
from worker.states import ACTIVE, TERMINAL

_POLL_SECONDS = 1.0
_EVENTS = 1000  # rows of one page, the most that the service gives
_SHOWN = 8  # jobs at once, when none was named: a terminal has no room for more
_CURVE_COLUMNS = 60
_UNFINISHED = ("queued", "paused", *ACTIVE)


@dataclass
class Watched:
    """One job and what it has told so far."""

    job: Json
    metrics: list[Json] = field(default_factory=list)
    controls: dict[str, "Watched"] = field(default_factory=dict)
    last: str | None = None

    @property
    def ended(self) -> bool:
        """Whether neither it nor a control of it will tell more."""
        return self.job["status"] in TERMINAL and all(control.ended for control in self.controls.values())

    def refresh(self, client: Client) -> list[Json]:
        """Ask for what is new; return the new events of the job itself."""
        job_id = str(self.job["id"])
        fresh = [] if self.job["status"] in TERMINAL and self.last else _events(client, job_id, self.last)
        self.last = str(fresh[-1]["id"]) if fresh else self.last
        self.metrics += [event for event in fresh if event["type"] == "metrics"]
        self.job = client.get(f"/jobs/{job_id}")
        for control in self.job.get("controls") or []:
            watched = self.controls.setdefault(control["name"], Watched({"id": control["job"], "status": control["status"]}))
            if not (watched.ended and watched.last):
                watched.refresh(client)
        return fresh


def watch(
    context: typer.Context,
    jobs: Annotated[list[str] | None, typer.Argument(help="job_…; without one: all that have not ended.", show_default=False)] = None,
    as_json: JsonFlag = False,
) -> None:
    """Watch jobs learn: curves, a bar and the time left of each, live.

    Ends with the last of them, its controls too; Ctrl-C ends the watching and not the jobs. Exits 1 unless every one succeeds. With
    --json, and without a terminal, an event is a line.
    """
    with client_of(context) as client:
        watched = [Watched(client.get(f"/jobs/{job_id}")) for job_id in jobs or _unfinished(client)]
        if out.is_terminal and not as_json:
            _follow_live(client, watched)
        else:
            _follow_lines(client, watched, as_json=as_json)
    if any(one.job["status"] != "succeeded" for one in watched):
        raise typer.Exit(REFUSED_EXIT)


def picture(watched: Watched) -> RenderableType:
    """Return one job as it is drawn: who it is, how far, and its curves on one scale."""
    job = watched.job
    progress = job.get("progress") or {}
    fraction = 1.0 if job["status"] == "succeeded" else progress.get("fraction") or 0.0
    epochs = f"  epoch {progress['epoch']} of {progress['epochs']}" if progress.get("epochs") else ""
    left = progress.get("eta_seconds") if job["status"] == "running" else None
    head = Text.assemble(
        (str(job["id"]), "bold"),
        "  ",
        plain(job.get("name") or ""),
        "  ",
        _status(job),
        f"{epochs}",
        f"  {_clock(left)} left" if left else "",
    )
    error = [plain(f"  {job['error'].get('message')}")] if job.get("error") else []
    return Group(head, ProgressBar(total=1.0, completed=fraction, width=_CURVE_COLUMNS), *error, *_curves(watched), Text(""))


def _curves(watched: Watched) -> list[Text]:
    name = measure_of(watched.metrics)
    curves = {"": curve_of(watched.metrics, name)}
    curves |= {control: curve_of(inner.metrics, name) for control, inner in watched.controls.items()}
    values = [value for curve in curves.values() for value in curve.values]
    if not values:
        return []
    low, high = (0.0, 1.0) if name.endswith("accuracy") else (min(values), max(values))
    lines: list[Text] = []
    for control, curve in curves.items():
        if curve.values:
            style = "yellow" if control else "green"
            shown = f"{curve.values[-1]:.1%}" if name.endswith("accuracy") else f"{curve.values[-1]:.4g}"
            lines.append(Text.assemble((control or name.replace("_", " "), style), f"  {shown}"))
            lines += [Text(line, style=style) for line in drawn(curve.values, low, high, width=_CURVE_COLUMNS, height=2 if control else 4)]
    return lines


def _follow_live(client: Client, watched: list[Watched]) -> None:
    with Live(console=out, refresh_per_second=4, transient=False) as live:
        while True:
            for one in watched:
                one.refresh(client)
            live.update(Group(*(picture(one) for one in watched)) if watched else plain("nothing is queued and nothing runs"))
            if all(one.ended for one in watched):
                return
            time.sleep(_POLL_SECONDS)


def _follow_lines(client: Client, watched: list[Watched], *, as_json: bool) -> None:
    while True:
        for one in watched:
            for event in one.refresh(client):
                _tell(str(one.job["id"]), event, as_json=as_json)
        if all(one.ended for one in watched):
            return
        time.sleep(_POLL_SECONDS)


def _tell(job_id: str, event: Json, *, as_json: bool) -> None:
    if as_json:
        emit_line({"job": job_id, **event})
    elif event["type"] != "checkpoint":
        out.print(plain(f"{job_id}  {event['message']}"), soft_wrap=True)


def _events(client: Client, job_id: str, last: str | None) -> list[Json]:
    """Return a job's events after `last`, however many pages they fill."""
    found: list[Json] = []
    while True:
        page = client.get(f"/jobs/{job_id}/events", after=last, limit=_EVENTS)
        found += page["data"]
        last = page.get("last_id") or last
        if not page.get("has_more"):
            return found


def _unfinished(client: Client) -> list[str]:
    """Return ids of jobs that have not ended, oldest first: at most as many as there is room for."""
    rows = [row for status in _UNFINISHED for row in client.pages("/jobs", limit=_SHOWN, status=status)]
    return sorted(str(row["id"]) for row in rows)[:_SHOWN]


def _status(job: Json) -> Text:
    style = {"succeeded": "green", "failed": "red", "running": "cyan"}.get(job["status"], "dim")
    phase = (job.get("progress") or {}).get("phase") if job["status"] == "running" else None
    return Text(str(phase or job["status"]), style=style)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
