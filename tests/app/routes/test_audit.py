"""Every address that changes something leaves a row in the audit log: of the change, and of the one that was not allowed."""

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.main import create_api, create_app
from app.scopes import changes
from worker.keys import create_key, list_keys
from worker.settings import Settings

PATHS = create_api(Settings()).openapi()["paths"]
CHANGES = sorted(
    (method.upper(), path) for path, operations in PATHS.items() for method in operations if changes(method.upper(), path)
)  # fmt: skip
FORMULA = {"generator": "textures", "labels": 2, "items_per_label": 2, "image_size": 16}


@pytest.fixture
def keyed(settings: Settings) -> Iterator[tuple[TestClient, dict[str, str]]]:
    keys = {scope: create_key(scope)[0] for scope in ("read", "write", "admin")}
    with TestClient(create_app(settings)) as client:
        yield client, keys


@pytest.fixture
def steps(make_dataset: Callable[..., str], speech_artifact: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """Each change once, in an order in which all can be done; JOB and MODEL are what the step before them has made."""
    with io.BytesIO() as sink:
        with tarfile.open(fileobj=sink, mode="w") as tar:
            for path in sorted(speech_artifact.iterdir()):
                tar.add(path, path.name)
        artifact = {"content": sink.getvalue(), "headers": {"Content-Type": "application/x-tar"}}
    used, unused = make_dataset(), make_dataset()
    return [
        ("POST", "/datasets", {"json": FORMULA}),
        ("DELETE", f"/datasets/{unused}", {}),
        ("POST", "/transferability", {"json": {"dataset": used}}),
        ("POST", "/jobs", {"json": {"dataset": used}}),
        *(("POST", f"/jobs/MADE/{wish}", {}) for wish in ("pause", "resume", "cancel")),
        ("POST", "/models", artifact),
        ("PUT", "/aliases/spoken", {"json": {"model": "MADE"}}),
        ("DELETE", "/aliases/spoken", {}),
        ("DELETE", "/models/MADE", {}),
    ]


def template_of(method: str, path: str) -> tuple[str, str]:
    """Return the operation of the contract that an address belongs to."""
    parts = path.split("/")
    fits = [
        known
        for way, known in CHANGES
        if way == method
        and len(known.split("/")) == len(parts)
        and all(one == other or one.startswith("{") for one, other in zip(known.split("/"), parts, strict=True))
    ]
    assert len(fits) == 1, (method, path, fits)
    return method, fits[0]


def test_every_change_has_a_row_of_its_own(keyed: tuple[TestClient, dict[str, str]], steps: list[tuple[str, str, dict[str, Any]]]) -> None:
    client, keys = keyed
    ids = {row["scope"]: row["id"] for row in list_keys()}
    assert sorted({template_of(method, path) for method, path, _ in steps}) == CHANGES
    made = ""
    for number, (method, path, request) in enumerate(steps):
        address = path.replace("MADE", made)
        if request.get("json", {}).get("model") == "MADE":
            request["json"]["model"] = made
        headers = {"Authorization": f"Bearer {keys['write']}", "X-Request-ID": f"step-{number}"} | request.pop("headers", {})
        answer = client.request(method, address, headers=headers, **request)
        assert answer.is_success, (method, address, answer.text)
        if address in ("/jobs", "/models"):
            made = answer.json()["id"]
        thing = answer.json()["id"] if path in ("/datasets", "/transferability", "/jobs", "/models") else address.split("/")[2]
        rows = audit(client, keys)
        assert len(rows) == number + 1, (method, address)
        assert rows[0] == (ids["write"], f"step-{number}", f"{method} {address}", thing, "done")


def test_every_change_that_is_not_allowed_has_one_too(
    keyed: tuple[TestClient, dict[str, str]], steps: list[tuple[str, str, dict[str, Any]]]
) -> None:
    client, keys = keyed
    for number, (method, path, request) in enumerate(steps):
        headers = {"Authorization": f"Bearer {keys['read']}", "X-Request-ID": f"step-{number}"} | request.pop("headers", {})
        assert client.request(method, path, headers=headers, **request).status_code == 403
        rows = audit(client, keys)
        assert (len(rows), rows[0][1:]) == (number + 1, (f"step-{number}", f"{method} {path}", None, "refused"))


def audit(client: TestClient, keys: dict[str, str]) -> list[tuple[Any, ...]]:
    """The whole log, newest first."""
    listed = client.get("/audit", params={"limit": 100}, headers={"Authorization": f"Bearer {keys['admin']}"}).json()["data"]
    return [tuple(row[name] for name in ("key", "request_id", "action", "object_id", "outcome")) for row in listed]
