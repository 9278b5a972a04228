"""`POST /transferability`: queued like any job, refused at once where nothing can come of it."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.schemas.jobs import Job
from app.schemas.transferability import Transferability
from models.transferability import Trial, Verdict, ranked
from tests.app.conftest import check_problem


def result_of(dataset: str) -> dict[str, Any]:
    """A ranking as the ranker reports it."""
    trials = {
        "mdl_1": Trial("target", 0.9, 0.8, 0.1, 2.0, {"stem": 0.5}),
        "resnet_tiny": Trial("source", 0.5, 0.4, -0.1, 1.0, {"stem": 0.4}),
    }
    verdicts = [Verdict(name, "model" if name == "mdl_1" else "random", "resnet_tiny", trial) for name, trial in trials.items()]
    return {
        "dataset": dataset, "clips": 100, "labels": 3, "held_out": "group", "chance": 0.34, "features": {"n_mels": 40},
        "candidates": ranked(verdicts, 100), "skipped": [{"candidate": "mdl_2", "code": "model_deleted", "message": "gone"}],
    }  # fmt: skip


def test_a_ranking_is_queued_as_a_job(client: TestClient, make_dataset: Callable[..., str], make_model: Callable[..., str]) -> None:
    make_model(alias="speech")
    body = {"dataset": make_dataset(), "candidates": ["speech", "seed_cnn"], "name": "which", "metadata": {"team": "ivr"}}
    response = client.post("/transferability", json=body)
    assert response.status_code == 202
    job = Job.model_validate(response.json())
    assert response.headers["location"] == f"/jobs/{job.id}"
    assert (job.type, job.status, job.name, job.metadata, job.result) == ("transferability", "queued", "which", {"team": "ivr"}, None)
    assert client.get(f"/jobs/{job.id}").json() == response.json()
    listed = client.get("/jobs", params={"type": "transferability"}).json()["data"]
    assert [row["id"] for row in listed] == [job.id]
    assert client.get("/jobs", params={"type": "finetune"}).json()["data"] == []
    assert client.post(f"/jobs/{job.id}/cancel").json()["status"] == "cancelled"


def test_a_key_makes_one_ranking(client: TestClient, make_dataset: Callable[..., str]) -> None:
    body, headers = {"dataset": make_dataset()}, {"Idempotency-Key": "once"}
    first, again = (client.post("/transferability", json=body, headers=headers) for _ in range(2))
    assert first.json() == again.json()
    check_problem(client.post("/transferability", json=body | {"seed": 1}, headers=headers), 422, "idempotency_mismatch")


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        ({"dataset": "ds_0123"}, 404, "dataset_not_found", "/dataset"),
        ({"modality": "image"}, 422, "config_invalid", "/dataset"),
        ({"status": "processing"}, 409, "dataset_not_ready", None),
        ({"candidates": ["seed_cnn", "nothing"]}, 404, "base_model_not_found", "/candidates"),
        ({"candidates": ["../../etc"]}, 404, "base_model_not_found", "/candidates"),
        ({"candidates": ["auto"]}, 422, "config_invalid", "/candidates"),
        ({"candidates": []}, 422, "validation_error", "/candidates"),
        ({"candidates": "seed_cnn"}, 422, "validation_error", "/candidates"),
        ({"hyperparameters": {}}, 422, "validation_error", "/hyperparameters"),
    ],
)
def test_what_can_t_be_ranked_is_refused_at_once(
    client: TestClient, make_dataset: Callable[..., str], body: dict[str, Any], status: int, code: str, pointer: str | None
) -> None:
    dataset = make_dataset(modality=body.pop("modality", "audio"), status=body.pop("status", "ready"))
    problem = check_problem(client.post("/transferability", json={"dataset": dataset} | body), status, code)
    assert pointer is None or [error["pointer"] for error in problem["errors"]] == [pointer]
    assert client.get("/jobs").json()["data"] == []


def test_the_result_stands_in_the_job(client: TestClient, make_dataset: Callable[..., str]) -> None:
    from sqlalchemy import update

    from worker import database

    dataset = make_dataset()
    job = client.post("/transferability", json={"dataset": dataset}).json()["id"]
    with database.write() as session:
        session.execute(update(database.Job).where(database.Job.id == job).values(result=result_of(dataset)))
    found = client.get(f"/jobs/{job}").json()["result"]
    assert Transferability.model_validate(found).model_dump(mode="json") == found  # no field that the contract doesn't name
    assert [candidate["candidate"] for candidate in found["candidates"]] == ["mdl_1", "resnet_tiny"]
    finetune = client.post("/jobs", json={"dataset": dataset, "base_model": "resnet_tiny"}).json()
    assert finetune["result"] is None
