"""Progress on standard error: bars in a terminal, one line a step elsewhere (in a log, a bar is noise)."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, ProgressColumn, TaskID, TextColumn, TransferSpeedColumn
from rich.text import Text

from app.client import Client, ClientError, Json, UnreachableError
from app.commands.output import err, plain
from worker.states import TERMINAL

_POLL_SECONDS = 0.5
Update = tuple[Literal["event", "job"], Json]


@contextmanager
def bytes_bar(title: str, total: int | None, console: Console = err) -> Iterator[Callable[[int], None]]:
    """Show bytes sent or received; the caller reports the size of each piece."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with _progress(console, *columns) as progress:
        task = progress.add_task(title, total=total)
        yield lambda size: progress.advance(task, size)


@contextmanager
def count_bar(title: str, total: int | None, console: Console = err) -> Iterator[Callable[[int, int | None], None]]:
    """Show things done; the caller reports how many so far, and of how many where that is known."""
    with _progress(console, TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done, of: progress.update(task, completed=done, total=of)


def job_updates(client: Client, job_id: str) -> Iterator[Update]:
    """Yield a job's events as they happen, and its state twice a second, to the end; the last update is the final state."""
    job = client.get(f"/jobs/{job_id}")
    inbox: queue.SimpleQueue[Json | ClientError | None] = queue.SimpleQueue()
    reader = threading.Thread(target=_read_events, args=(client, job_id, inbox), name="events", daemon=True)
    reader.start()
    yield "job", job
    while True:
        try:
            item = inbox.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            if not reader.is_alive():
                break
            job = _newest(client, job)
            yield "job", job
            continue
        if isinstance(item, ClientError):
            raise item
        if item is None:
            break
        yield "event", item
    yield "job", client.get(f"/jobs/{job_id}")


class JobView:
    """One job's bar: phase, epoch, loss, accuracy, time left."""

    def __init__(self, console: Console = err) -> None:
        """Use inside `with`."""
        self._console = console
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[state]}"),
            _TimeLeft(),
        )
        self._progress = _progress(console, *columns)
        self._task = TaskID(0)
        self._metrics: dict[str, Any] = {}

    def __enter__(self) -> Self:
        """Start drawing."""
        self._progress.start()
        self._task = self._progress.add_task("queued", total=1.0, state="", left=None)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing; the bar stays."""
        self._progress.stop()

    def show(self, update: Update) -> None:
        """Draw one update of `job_updates`."""
        kind, payload = update
        if kind == "event":
            self._show_event(payload)
        else:
            self._show_job(payload)

    def _show_event(self, event: Json) -> None:
        if event["type"] == "metrics":
            self._metrics = event["data"]
            if not self._console.is_terminal:
                self._console.print(plain(f"{event['data'].get('epoch', '')!s:>4}  {measures(event['data'])}"), soft_wrap=True)
        elif event["type"] != "checkpoint":
            self._progress.console.print(Text.assemble((f"{event['type']} ", "dim"), plain(event["message"])), soft_wrap=True)

    def _show_job(self, job: Json) -> None:
        progress = job["progress"]
        phase = progress.get("phase") if job["status"] == "running" else job["status"]
        epochs = f" {progress['epoch']}/{progress['epochs']}" if progress.get("epochs") else ""
        fraction = 1.0 if job["status"] == "succeeded" else progress.get("fraction") or 0.0
        left = None if job["status"] in TERMINAL else progress.get("eta_seconds")
        self._progress.update(self._task, description=f"{phase}{epochs}", completed=fraction, state=measures(self._metrics), left=left)


def watch(client: Client, job_id: str, *, on_event: Callable[[Json], None] = lambda _: None, quiet: bool = False) -> Json:
    """Follow a job to its end and return its final state; `quiet` draws nothing."""
    job: Json = {}
    with JobView(Console(quiet=True) if quiet else err) as view:
        for update in job_updates(client, job_id):
            view.show(update)
            if update[0] == "event":
                on_event(update[1])
            else:
                job = update[1]
    return job


def measures(metrics: Json) -> str:
    """Return loss and accuracy in a few words, empty before there are any."""
    loss = metrics.get("validation_loss", metrics.get("train_loss"))
    accuracy = metrics.get("validation_accuracy")
    return "  ".join(
        part
        for part in (f"loss {loss:.3f}" if loss is not None else "", f"accuracy {accuracy:.1%}" if accuracy is not None else "")
        if part
    )


class _TimeLeft(ProgressColumn):
    """The service's own estimate; the bar's speed would not know of steps to come."""

    def render(self, task: Any) -> Text:
        """Return the time left."""
        left = task.fields.get("left")
        return Text("" if left is None else f"{int(left) // 60}:{int(left) % 60:02d} left", style="cyan")


def _progress(console: Console, *columns: ProgressColumn) -> Progress:
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _read_events(client: Client, job_id: str, inbox: "queue.SimpleQueue[Json | ClientError | None]") -> None:
    try:
        for event in client.events(job_id):
            inbox.put(event)
        inbox.put(None)
    except ClientError as error:  # raised by the thread that waits
        inbox.put(error)
    except RuntimeError:
        if not client.closed:  # it is when the thread that waited was interrupted: nobody wants events any more
            raise


def _newest(client: Client, job: Json) -> Json:
    """Return the job's state, the old one while the service is away: the event stream decides how long it is waited for."""
    try:
        return client.get(f"/jobs/{job['id']}")
    except UnreachableError:
        return job
