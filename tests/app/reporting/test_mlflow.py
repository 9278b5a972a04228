"""A run as a tracking server gets it: a server that keeps what it is sent, answering as MLflow's interface does."""

import http.server
import json
from collections.abc import Iterator
from typing import Any

import pytest

from app.reporting.event_files import Scalar
from app.reporting.mlflow import MlflowError, log_run
from tests.conftest import answering

JOB = {
    "id": "job_1", "name": "digits", "status": "succeeded", "type": "finetune", "dataset": "ds_1", "base_model": "bundled", "seed": 0,
    "transfer": {"mode": "full"}, "hyperparameters": {"epochs": 3, "optimizer": "adamw"}, "features": {}, "model": "mdl_1",
    "created_at": "2026-01-01T00:00:00.000Z", "started_at": "2026-01-01T00:00:01.000Z", "finished_at": "2026-01-01T00:00:09.500Z",
}  # fmt: skip


class Tracking(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.refuse = ""
        super().__init__(("127.0.0.1", 0), _Tracking)


class _Tracking(http.server.BaseHTTPRequestHandler):
    server: Tracking

    def do_GET(self) -> None:
        name = self.path.partition("experiment_name=")[2]
        found = self.server.experiments.get(name)
        self._answer(
            {"experiment": {"experiment_id": found}} if found else {"error_code": "RESOURCE_DOES_NOT_EXIST"}, 200 if found else 404
        )

    def do_POST(self) -> None:
        path = self.path.removeprefix("/api/2.0/mlflow/")
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.append((path, body))
        if path == self.server.refuse:
            self._answer({"message": "no such thing"}, 400)
        elif path == "experiments/create":
            self.server.experiments[body["name"]] = "7"
            self._answer({"experiment_id": "7"})
        else:
            self._answer({"run": {"info": {"run_id": "run-1"}}} if path == "runs/create" else {})

    def _answer(self, body: dict[str, Any], status: int = 200) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def tracking() -> Iterator[Tracking]:
    server = Tracking()
    with answering(server):
        yield server


def test_a_run_has_settings_metrics_and_an_end(tracking: Tracking) -> None:
    uri = f"http://127.0.0.1:{tracking.server_port}/"
    scalars = [Scalar("validation_accuracy", 0.5, step, 1_700_000_000.0 + step) for step in range(1500)]
    assert log_run(uri, JOB, scalars, experiment="words") == "run-1"
    assert log_run(uri, JOB, [], experiment="words") == "run-1"
    paths = [path for path, _ in tracking.got]
    assert paths[:3] == ["experiments/create", "runs/create", "runs/log-batch"]
    assert paths.count("experiments/create") == 1
    sent = [row for path, body in tracking.got if path == "runs/log-batch" for row in body.get("metrics", [])]
    assert (len(sent), sent[1]) == (1500, {"key": "validation_accuracy", "value": 0.5, "timestamp": 1_700_000_001_000, "step": 1})
    assert all(len(body.get("metrics", [])) <= 1000 for _, body in tracking.got)
    params = {row["key"]: row["value"] for row in tracking.got[2][1]["params"]}
    assert (params["hyperparameters.optimizer"], params["transfer.mode"]) == ("adamw", "full")
    created, ended = tracking.got[1][1], tracking.got[-1][1]
    assert (created["experiment_id"], created["run_name"], created["start_time"]) == ("7", "digits", 1_767_225_601_000)
    assert (ended["status"], ended["end_time"]) == ("FINISHED", 1_767_225_609_500)


def test_a_refusal_is_told(tracking: Tracking) -> None:
    tracking.refuse = "runs/create"
    with pytest.raises(MlflowError, match="no such thing"):
        log_run(f"http://127.0.0.1:{tracking.server_port}", JOB, [], experiment="words")


def test_an_address_that_is_none() -> None:
    with pytest.raises(ValueError, match="mlflow server"):
        log_run("./mlruns", JOB, [], experiment="words")
