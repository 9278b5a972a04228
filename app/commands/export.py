"""`synesthesia export JOB --to tensorboard DIR | --to mlflow URI`: a job's metrics where others are looked at already."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer

from app.client import Client, Json
from app.commands.options import JsonFlag, client_of
from app.commands.output import details_of, emit
from app.reporting.event_files import Scalar, write_scalars

_PLACES = ("epoch", "step")  # that say when, not how well


def export(
    context: typer.Context,
    job: Annotated[str, typer.Argument(help="job_…")],
    target: Annotated[str, typer.Argument(help="A folder for TensorBoard, the address of a tracking server for MLflow.")],
    to: Annotated[Literal["tensorboard", "mlflow"], typer.Option("--to", help="What reads it.")],
    experiment: Annotated[
        str, typer.Option(help="MLflow: the experiment that the run belongs to; made where there is none.")
    ] = "synesthesia",
    as_json: JsonFlag = False,
) -> None:
    """Hand a job's metrics to TensorBoard or MLflow.

    TensorBoard gets a folder a job below TARGET, with those of its controls beside it; MLflow a run with settings and metrics.
    """
    with client_of(context) as client:
        found = client.get(f"/jobs/{job}")
        written = _to_mlflow(client, found, target, experiment) if to == "mlflow" else _to_tensorboard(client, found, Path(target))
    emit({"job": job, "to": to, **written}, as_json=as_json, table=details_of(written))


def scalars_of(client: Client, job: Json) -> list[Scalar]:
    """Return what a job's metrics events and, once it has ended, its metrics tell, oldest first."""
    found = [scalar for event in client.pages(f"/jobs/{job['id']}/events") if event["type"] == "metrics" for scalar in _scalars(event)]
    if job.get("finished_at"):
        step = max((scalar.step for scalar in found), default=0)
        seconds = _seconds(job["finished_at"])
        found += [Scalar(f"final/{name}", float(value), step, seconds) for name, value in job["metrics"].items() if value is not None]
    return found


def _scalars(event: Json) -> Iterator[Scalar]:
    data = event["data"]
    step = int(data.get("step") or data.get("epoch") or 0)
    for name, value in data.items():
        if name not in _PLACES and isinstance(value, int | float) and not isinstance(value, bool):
            yield Scalar(name, float(value), step, _seconds(event["created_at"]))


def _to_tensorboard(client: Client, job: Json, folder: Path) -> Json:
    jobs = [job, *(client.get(f"/jobs/{control['job']}") for control in job.get("controls") or [])]
    files = [write_scalars(folder / _run_of(one), scalars_of(client, one), str(one["id"])) for one in jobs]
    return {"files": [str(path) for path in files]}


def _run_of(job: Json) -> str:
    """Return the folder of a job: what it is a control of, and as what, can be read from it."""
    return f"{job['control_of']}-{job['control']}-{job['id'][-4:]}" if job.get("control_of") else str(job["id"])


def _to_mlflow(client: Client, job: Json, uri: str, experiment: str) -> Json:
    from app.reporting.mlflow import log_run  # noqa: PLC0415 - TensorBoard's files need no connection

    return {"run": log_run(uri, job, scalars_of(client, job), experiment=experiment)}


def _seconds(moment: str) -> float:
    return dt.datetime.fromisoformat(moment).timestamp()
