"""A job's metrics as a run of an MLflow tracking server, over its REST interface: a few requests need no library of dozens."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2

from app.client import Json
from app.reporting.event_files import Scalar

_BATCH = 1000  # the most metrics that the interface takes at once
_PARAMS = 100  # likewise
_PARAM_CHARACTERS = 500
_SECONDS = 30.0


class MlflowError(OSError):
    """The tracking server said no, or nothing."""


def log_run(uri: str, job: Json, scalars: Sequence[Scalar], *, experiment: str) -> str:
    """Write a finished run and return its id. Raises ValueError for an address that is none, MlflowError."""
    if not uri.startswith(("http://", "https://")):
        raise ValueError(f"{uri!r} is not the address of a tracking server; for a local folder, start `mlflow server` and name its address")
    try:
        with httpx2.Client(base_url=uri.rstrip("/") + "/api/2.0/mlflow", timeout=_SECONDS) as http:
            return _written(http, job, scalars, experiment)
    except httpx2.HTTPError as error:
        raise MlflowError(f"no answer from {uri}: {error}") from error


def _written(http: httpx2.Client, job: Json, scalars: Sequence[Scalar], experiment: str) -> str:
    tags = {"mlflow.source.name": "synesthesia", "synesthesia.job": job["id"], "synesthesia.model": job.get("model") or ""}
    body = {
        "experiment_id": _experiment(http, experiment),
        "run_name": job.get("name") or job["id"],
        "start_time": _milliseconds(job.get("started_at") or job["created_at"]),
        "tags": _pairs(tags),
    }
    run_id = str(_post(http, "runs/create", body)["run"]["info"]["run_id"])
    params = _pairs(
        _flat({name: job.get(name) for name in ("type", "dataset", "base_model", "transfer", "hyperparameters", "features", "seed")})
    )
    for first in range(0, len(params), _PARAMS):
        _post(http, "runs/log-batch", {"run_id": run_id, "params": params[first : first + _PARAMS]})
    metrics = [_metric(scalar) for scalar in scalars]
    for first in range(0, len(metrics), _BATCH):
        _post(http, "runs/log-batch", {"run_id": run_id, "metrics": metrics[first : first + _BATCH]})
    ended = {"succeeded": "FINISHED", "failed": "FAILED", "cancelled": "KILLED"}.get(job["status"], "RUNNING")
    finished = {"end_time": _milliseconds(job["finished_at"])} if job.get("finished_at") else {}
    _post(http, "runs/update", {"run_id": run_id, "status": ended, **finished})
    return run_id


def _experiment(http: httpx2.Client, name: str) -> str:
    """Return the id of an experiment, which is made where there is none."""
    response = http.get("/experiments/get-by-name", params={"experiment_name": name})
    if response.is_success:
        return str(response.json()["experiment"]["experiment_id"])
    return str(_post(http, "experiments/create", {"name": name})["experiment_id"])


def _post(http: httpx2.Client, path: str, body: Json) -> Json:
    response = http.post(f"/{path}", json=body)
    if not response.is_success:
        raise MlflowError(f"{path}: {response.text[:300]}")
    found: Json = response.json() if response.content else {}
    return found


def _metric(scalar: Scalar) -> Json:
    return {"key": scalar.tag, "value": scalar.value, "timestamp": round(scalar.seconds * 1000), "step": scalar.step}


def _pairs(values: Mapping[str, Any]) -> list[Json]:
    return [{"key": name, "value": str(value)[:_PARAM_CHARACTERS]} for name, value in values.items()]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by their paths."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _milliseconds(moment: str) -> int:
    return round(dt.datetime.fromisoformat(moment).timestamp() * 1000)
