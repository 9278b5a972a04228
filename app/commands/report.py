"""`synesthesia report JOB|MODEL`: one HTML file to keep, to send and to print."""

from pathlib import Path
from typing import Annotated

import typer

from app.client import Client, Json, RefusedError
from app.commands.options import JsonFlag, client_of
from app.commands.output import details_of, emit
from app.reporting.page import Subject, report_page


def report(
    context: typer.Context,
    subject: Annotated[str, typer.Argument(help="job_…, mdl_… or an alias.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; default: <name>.html here.", dir_okay=False)] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write all that is known of a job or a model into one HTML file, plots and all.

    Nothing in it is fetched from elsewhere and nothing runs: a browser prints it to PDF as it is.
    """
    target = output or Path(f"{subject}.html")
    with client_of(context) as client:
        page = report_page(gathered(client, subject))
    target.write_text(page, encoding="utf-8")
    emit({"file": str(target), "size_bytes": target.stat().st_size}, as_json=as_json, table=details_of({"file": str(target)}))


def gathered(client: Client, name: str) -> Subject:
    """Return all that a report tells of a job or a model. Raises RefusedError."""
    if name.startswith("job_"):
        job: Json | None = client.get(f"/jobs/{name}")
        model = client.get(f"/models/{job['model']}") if job and job.get("model") else None
    else:
        model = client.get(f"/models/{name}")
        job = _job_of(client, model)
    evaluation = client.get(f"/models/{model['id']}/evaluation") if model else {}
    return Subject(job, model, evaluation, _curves(client, job) if job else {})


def _job_of(client: Client, model: Json) -> Json | None:
    """Return the job that made a model; an imported one has none here."""
    if not model.get("job"):
        return None
    try:
        return client.get(f"/jobs/{model['job']}")
    except RefusedError as error:
        if error.status != 404:
            raise
        return None


def _curves(client: Client, job: Json) -> dict[str, list[Json]]:
    names = {str(job["id"]): "this job"} | {str(control["job"]): str(control["name"]) for control in job.get("controls") or []}
    return {_unique(name, job_id): _metrics(client, job_id) for job_id, name in names.items()}


def _unique(name: str, job_id: str) -> str:
    """Controls of several seeds bear one name: the end of the job's id tells them apart."""
    return name if name == "this job" else f"{name} …{job_id[-4:]}"


def _metrics(client: Client, job_id: str) -> list[Json]:
    return [event["data"] for event in client.pages(f"/jobs/{job_id}/events") if event["type"] == "metrics"]
