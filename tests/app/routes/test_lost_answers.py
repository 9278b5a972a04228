"""A POST whose answer was lost, as when its process dies: sent again with its key, it finds what it made."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.app.conftest import check_problem
from tests.conftest import zip_bytes
from worker import idempotency
from worker.errors import DependencyError

ARCHIVE = zip_bytes({"a/1.wav": b"x", "b/1.wav": b"y"})
FORMULA = {"generator": "fractals", "labels": 2, "items_per_label": 2, "seed": 0}
REQUESTS: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "job": ("/jobs", lambda dataset: {"json": {"dataset": dataset}}),
    "ranking": ("/transferability", lambda dataset: {"json": {"dataset": dataset, "candidates": ["bundled"]}}),
    "archive": ("/datasets", lambda _: {"files": {"file": ("a.zip", ARCHIVE, "application/zip")}, "data": {"name": "x"}}),
    "pictures": ("/datasets", lambda _: {"json": FORMULA}),
}


def lost(*_: object, **__: object) -> None:
    raise DependencyError("the database does not answer")


@pytest.mark.parametrize("kind", REQUESTS)
def test_what_was_made_is_found_and_not_made_twice(
    client: TestClient, make_dataset: Callable[..., str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    address, described = REQUESTS[kind]
    asked = described(make_dataset()) | {"headers": {"Idempotency-Key": "k"}}
    listed = "/datasets" if address == "/datasets" else "/jobs"
    before = {row["id"] for row in client.get(listed).json()["data"]}
    with monkeypatch.context() as patched:
        patched.setattr(idempotency, "finish", lost)
        check_problem(client.post(address, **asked), 503, "dependency_unavailable")
    [made] = {row["id"] for row in client.get(listed).json()["data"]} - before
    check_problem(client.post(address, **asked), 409, "idempotency_in_progress")
    monkeypatch.setattr(idempotency, "TAKEOVER_SECONDS", 0.0)
    for _ in range(2):
        answer = client.post(address, **asked)
        assert (answer.status_code, answer.json()["id"], answer.headers["location"]) == (202, made, f"{listed}/{made}")
    assert {row["id"] for row in client.get(listed).json()["data"]} - before == {made}


def test_an_artifact_too(client: TestClient, make_model: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = client.get(f"/models/{make_model()}/artifact").content
    asked: dict[str, Any] = {"files": {"file": ("m.tar", artifact, "application/x-tar")}, "headers": {"Idempotency-Key": "k"}}
    with monkeypatch.context() as patched:
        patched.setattr(idempotency, "finish", lost)
        check_problem(client.post("/models", **asked), 503, "dependency_unavailable")
    monkeypatch.setattr(idempotency, "TAKEOVER_SECONDS", 0.0)
    assert client.post("/models", **asked).status_code == 201
    assert len(client.get("/models").json()["data"]) == 2
