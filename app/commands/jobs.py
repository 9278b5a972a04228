"""`synesthesia jobs`: start training, follow it, end it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group

from app.client import Client, Json
from app.commands.datasets import described as described_dataset
from app.commands.datasets import upload, wait_for
from app.commands.options import IdFlag, JsonFlag, Limit, client_of
from app.commands.output import REFUSED_EXIT, details_of, emit, emit_line, emit_made, plain, table_of
from app.commands.output import show as show_table
from app.commands.progress import watch as follow_job
from app.commands.quotes import described_quote

cli = typer.Typer(no_args_is_help=True, help="Train: start jobs, follow them, end them.")

_Job = Annotated[str, typer.Argument(help="job_…")]
_CONTROL_COLUMNS = ("name", "job", "status")
_COLUMNS = ("id", "type", "status", "name", "dataset", "base_model", "model", "created_at")
_SUMMARY = (
    "id", "name", "type", "status", "dataset", "base_model", "transfer", "hyperparameters", "features", "augmentation", "search", "seed",
    "progress", "metrics", "model", "alias", "attempt", "created_at", "started_at", "finished_at", "metadata",
)  # fmt: skip


_Text = str | None
_Texts = list[str] | None
_Type = Annotated[_Text, typer.Option(help="pretrain or finetune; default: by the dataset's modality.")]
_Base = Annotated[_Text, typer.Option(help="Model id, alias, architecture or timm/<name>.")]
_Mode = Annotated[_Text, typer.Option(help="auto, full, partial or none: which layers are carried over.")]
_Until = Annotated[_Text, typer.Option(help="The last layer carried over (partial).")]
_Freeze = Annotated[_Text, typer.Option(help="none or shared: whether carried layers may move.")]
_Rate = Annotated[float | None, typer.Option(help="Peak of the schedule.")]
_Optimizer = Annotated[_Text, typer.Option(help="adamw, adam, sgd, gd, adagrad or rmsprop.")]
_Controls = Annotated[_Text, typer.Option(help="none, auto or full: jobs that follow and tell whether the transfer paid.")]
_Seeds = Annotated[int | None, typer.Option(help="With --controls full: so many seeds of each arm.")]
_Alias = Annotated[_Text, typer.Option(help="Points at the model once the job has succeeded.")]
_Metadata = Annotated[_Texts, typer.Option(help="key=value, to find it by; may be repeated.")]
_Set = Annotated[_Texts, typer.Option("--set", help="Any field by its path, e.g. augmentation.mixup=0.2; may be repeated.")]
_Follow = Annotated[bool, typer.Option("--follow", help="Watch it to its end; exits 1 unless it succeeds.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Start nothing; print what the job would take, as measured by a short probe.")]


@cli.command()
def create(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(help="ds_…")],
    type: _Type = None,  # noqa: A002 - the field's name
    base_model: _Base = None,
    mode: _Mode = None,
    until: _Until = None,
    freeze: _Freeze = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: _Rate = None,
    optimizer: _Optimizer = None,
    name: _Text = None,
    alias: _Alias = None,
    seed: int | None = None,
    controls: _Controls = None,
    seeds: _Seeds = None,
    metadata: _Metadata = None,
    assign: _Set = None,
    follow: _Follow = False,
    dry_run: _DryRun = False,
    only_id: IdFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Start a job on a dataset. What is not said here, the service decides; `jobs show` tells what it decided."""
    said = {
        "dataset": dataset, "type": type, "base_model": base_model, "name": name, "alias": alias, "seed": seed,
        "transfer.mode": mode, "transfer.until": until, "transfer.freeze": freeze,
        "hyperparameters.epochs": epochs, "hyperparameters.batch_size": batch_size,
        "hyperparameters.learning_rate": learning_rate, "hyperparameters.optimizer": optimizer,
        "evaluation.controls": controls, "evaluation.seeds": seeds,
        "metadata": dict(_pairs(metadata)) or None,
    }  # fmt: skip
    body = _body(said, _pairs(assign))
    with client_of(context) as client:
        found = client.quote(body) if dry_run else _started(client, body, follow=follow, quiet=as_json)
    emit_made(found, as_json=as_json, only_id=only_id and not dry_run, table=described_quote(found) if dry_run else _described(found))
    _exit_with(found)


def train(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="A folder with one folder a label, or an archive of it.", exists=True)],
    base_model: _Base = None,
    mode: _Mode = None,
    until: _Until = None,
    freeze: _Freeze = None,
    epochs: int | None = None,
    controls: _Controls = None,
    name: _Text = None,
    alias: _Alias = None,
    assign: _Set = None,
    as_json: JsonFlag = False,
) -> None:
    """Upload a folder, train on it and wait for the model: `datasets create` and `jobs create --follow` in one."""
    said = {
        "base_model": base_model, "name": name, "alias": alias, "evaluation.controls": controls, "hyperparameters.epochs": epochs,
        "transfer.mode": mode, "transfer.until": until, "transfer.freeze": freeze,
    }  # fmt: skip
    body = _body(said, _pairs(assign))
    with client_of(context) as client:
        dataset = wait_for(client, str(upload(client, path, quiet=as_json, name=name)["id"]), quiet=as_json)
        if dataset["status"] == "failed":
            emit(dataset, as_json=as_json, table=described_dataset(client, dataset))
            raise typer.Exit(REFUSED_EXIT)
        if not as_json:
            show_table(described_dataset(client, dataset))
        job = _started(client, {**body, "dataset": dataset["id"]}, follow=True, quiet=as_json)
    emit(job, as_json=as_json, table=_described(job))
    _exit_with(job)


@cli.command("list")
def list_jobs(
    context: typer.Context,
    limit: Limit = 20,
    status: Annotated[str | None, typer.Option(help="queued, running, paused, succeeded, failed or cancelled.")] = None,
    type: Annotated[str | None, typer.Option(help="pretrain, finetune or transferability.")] = None,  # noqa: A002 - the field's name
    as_json: JsonFlag = False,
) -> None:
    """List jobs, newest first."""
    with client_of(context) as client:
        rows = list(client.pages("/jobs", limit=limit, status=status, type=type))
    emit(rows, as_json=as_json, table=table_of(_COLUMNS, ([row.get(column) for column in _COLUMNS] for row in rows)))


@cli.command()
def show(context: typer.Context, job: _Job, as_json: JsonFlag = False) -> None:
    """Show one job with every value as resolved."""
    with client_of(context) as client:
        found = client.get(f"/jobs/{job}")
    emit(found, as_json=as_json, table=_described(found))


@cli.command()
def watch(context: typer.Context, job: _Job, as_json: JsonFlag = False) -> None:
    """Follow a job to its end. With --json: one event a line, the job last. Exits 1 unless it succeeds."""
    with client_of(context) as client:
        found = follow_job(client, job, on_event=emit_line if as_json else _nothing, quiet=as_json)
    emit(found, as_json=as_json, table=_described(found))
    _exit_with(found)


@cli.command()
def cancel(context: typer.Context, job: _Job, as_json: JsonFlag = False) -> None:
    """End a job; its best checkpoint stays as a model."""
    with client_of(context) as client:
        found = client.post(f"/jobs/{job}/cancel")
    emit(found, as_json=as_json, table=_described(found))


def _started(client: Client, body: Json, *, follow: bool, quiet: bool) -> Json:
    job = client.post("/jobs", body)
    return follow_job(client, str(job["id"]), quiet=quiet) if follow else job


def _described(job: Json) -> Group:
    parts: list[Any] = [details_of({name: job.get(name) for name in _SUMMARY})]
    if job.get("controls"):
        parts.append(
            table_of(_CONTROL_COLUMNS, ([row[column] for column in _CONTROL_COLUMNS] for row in job["controls"]), title="\ncontrols")
        )
    if job.get("error"):
        parts.append(plain(f"failed: {job['error'].get('message')} ({job['error'].get('code')})"))
    return Group(*parts)


def _exit_with(job: Json) -> None:
    if job.get("status") in ("failed", "cancelled"):
        raise typer.Exit(REFUSED_EXIT)


def _body(said: Json, assigned: list[tuple[str, str]]) -> Json:
    """Return the body of `POST /jobs` with what was said and nothing else: the service knows the defaults."""
    body: Json = {}
    for path, value in said.items():
        if value is not None:
            _assign(body, path, value)
    for path, text in assigned:
        _assign(body, path, _value(text))
    return body


def _assign(body: Json, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        body = body.setdefault(parent, {})
        if not isinstance(body, dict):
            raise typer.BadParameter(f"{parent} in {path} already has a value of its own")
    body[last] = value


def _pairs(texts: Iterable[str] | None) -> list[tuple[str, str]]:
    pairs = [text.partition("=") for text in texts or ()]
    wrong = [key for key, equals, _ in pairs if not (key and equals)]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is not of the form name=value")
    return [(key, value) for key, _, value in pairs]


def _value(text: str) -> Any:
    """Return JSON where the text is JSON (numbers, true, null), else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _nothing(_: Json) -> None:
    pass
