"""`POST /jobs?dry_run=true`: answers of the same address, without a job."""

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.schemas.quotes import Quote
from tests.app.conftest import check_problem
from worker import quotes

SPAN = {"low": 1.0, "expected": 2.0, "high": 3.0}
RESULT = {
    "kind": "result", "resolved": {"dataset": "ds_1"}, "device": "cpu", "trainable_parameters": 1, "total_parameters": 2, "steps": 3,
    "estimated_seconds": SPAN, "stages": [{"name": "training", "steps": 3, "seconds": SPAN}], "peak_memory_bytes": 4, "disk_bytes": 5,
    "warnings": [],
}  # fmt: skip


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], None]:
    """Let the probe report something at once, and give it an order that needs no stored dataset."""

    class Order:
        def model_dump_json(self) -> str:
            return "{}"

    def put(report: dict[str, Any]) -> None:
        monkeypatch.setattr(quotes, "training_order", lambda *_: Order())
        monkeypatch.setattr(quotes, "_COMMAND", (sys.executable, "-c", f"import sys; sys.stdin.read(); print({json.dumps(report)!r})"))

    return put


def test_a_quote_queues_nothing(client: TestClient, make_dataset: Callable[..., str], answer: Callable[[dict[str, Any]], None]) -> None:
    answer(RESULT)
    response = client.post("/jobs?dry_run=true", json={"dataset": make_dataset()})
    assert response.status_code == 200
    assert Quote.model_validate(response.json()).steps == 3
    assert set(response.json()) == set(Quote.model_fields)
    assert "location" not in response.headers
    assert client.get("/jobs").json()["data"] == []


def test_the_key_is_left_for_the_job(
    client: TestClient, make_dataset: Callable[..., str], answer: Callable[[dict[str, Any]], None]
) -> None:
    answer(RESULT)
    body, headers = {"dataset": make_dataset()}, {"Idempotency-Key": "k"}
    quotes_of = [client.post("/jobs?dry_run=true", json=body, headers=headers) for _ in range(2)]
    assert [response.status_code for response in quotes_of] == [200, 200]
    assert "idempotent-replayed" not in quotes_of[1].headers
    assert client.post("/jobs?dry_run=false", json=body, headers=headers).status_code == 202


@pytest.mark.parametrize(
    "body",
    [
        {"dataset": "ds_0123"},
        {"base_model": "nothing"},
        {"transfer": {"mode": "full"}, "base_model": None},
        {"transfer": {"mode": "none", "until": "stem"}},
        {"hyperparameters": {"epochs": True}},
        {"search": {"trials": 0}},
        {"search": {"trials": 1, "seconds": 0}},
        {"unknown": 1},
    ],
)
def test_what_a_job_is_refused_for_a_quote_is(client: TestClient, make_dataset: Callable[..., str], body: dict[str, Any]) -> None:
    body = {"dataset": make_dataset()} | body
    posted, quoted = (client.post(f"/jobs?dry_run={dry}", json=body) for dry in ("false", "true"))
    assert posted.status_code >= 400
    told = [{name: value for name, value in response.json().items() if name != "request_id"} for response in (posted, quoted)]
    assert told[0] == told[1]
    assert posted.status_code == quoted.status_code


def test_a_dataset_that_is_not_ready(client: TestClient, make_dataset: Callable[..., str]) -> None:
    check_problem(client.post("/jobs?dry_run=true", json={"dataset": make_dataset(status="processing")}), 409, "dataset_not_ready")


def test_what_the_probe_finds_wrong_is_the_caller_s(
    client: TestClient, make_dataset: Callable[..., str], answer: Callable[[dict[str, Any]], None]
) -> None:
    wrong = {"family": "InputError", "code": "config_invalid", "message": "no", "param": "transfer.statistics", "hint": "leave it out"}
    answer({"kind": "failed", **wrong})
    problem = check_problem(client.post("/jobs?dry_run=true", json={"dataset": make_dataset()}), 422, "config_invalid")
    assert (problem["errors"][0]["pointer"], problem["hint"]) == ("/transfer/statistics", "leave it out")


def test_a_probe_that_takes_too_long_or_dies(
    client: TestClient, make_dataset: Callable[..., str], answer: Callable[[dict[str, Any]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"dataset": make_dataset()}
    answer({"kind": "nothing"})
    check_problem(client.post("/jobs?dry_run=true", json=body), 503, "quote_failed")
    monkeypatch.setattr(quotes, "_COMMAND", (sys.executable, "-c", "import time; time.sleep(60)"))
    monkeypatch.setattr(quotes, "QUOTE_SECONDS", 0.2)
    check_problem(client.post("/jobs?dry_run=true", json=body), 503, "quote_timeout")


def test_no_place_is_free(client: TestClient, make_dataset: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotes, "MAX_QUOTES", 0)
    check_problem(client.post("/jobs?dry_run=true", json={"dataset": make_dataset()}), 503, "overloaded")


def test_a_search_needs_its_library(client: TestClient, make_dataset: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"dataset": make_dataset(), "search": {"trials": 3}}
    assert client.post("/jobs", json=body).json()["search"] == {"trials": 3, "seconds": None}
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for address in ("/jobs", "/jobs?dry_run=true"):
        problem = check_problem(client.post(address, json=body), 422, "search_unavailable")
        assert problem["errors"][0]["pointer"] == "/search"
        assert "extra `search`" in problem["hint"]
