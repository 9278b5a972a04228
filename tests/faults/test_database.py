"""A database that another process holds: waited for, then 503, and nothing has to be restarted when it is free again."""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event
from starlette.testclient import TestClient

from tests.faults.invariants import Answers, check_data
from tests.rig import add_dataset, add_job, outbox
from worker.database import get_engine
from worker.processes import HostLock
from worker.settings import Settings

PATIENCE = 0.5  # seconds, in place of ten


@contextlib.contextmanager
def held(settings: Settings) -> Iterator[None]:
    connection = sqlite3.connect(settings.data_dir / "synesthesia.db", isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


@pytest.fixture
def impatient(quick: Settings) -> Settings:
    engine = get_engine()
    engine.dispose()
    event.listen(engine, "connect", lambda connection, _: connection.execute(f"PRAGMA busy_timeout={PATIENCE * 1000:.0f}"))
    return quick


def stored_dataset(settings: Settings) -> str:
    """A dataset with files."""
    folder = settings.data_dir / "blobs" / "datasets" / "tones"
    folder.mkdir(parents=True)
    (folder / "items").write_bytes(b"x")
    return add_dataset(blob="datasets/tones")


def post_job(client: TestClient, dataset: str) -> Any:
    return client.post("/jobs", json={"dataset": dataset, "transfer": {"mode": "none"}})


def test_a_lock_is_waited_for_and_then_told(impatient: Settings) -> None:
    from app.main import create_app

    answers, dataset = Answers(), stored_dataset(impatient)
    with HostLock(impatient.lock_dir, "keeper").held(1.0), TestClient(create_app(impatient)) as client:
        with held(impatient):
            began = time.monotonic()
            refused = post_job(client, dataset)
            assert time.monotonic() - began >= PATIENCE
            assert client.get("/healthz").status_code == 200
            assert client.get("/jobs").status_code == 200  # readers don't wait for writers
        answers.take("POST /jobs", refused.status_code, refused.headers, refused.content)
        assert (refused.status_code, int(refused.headers["retry-after"]) >= 1) == (503, True)
        taken = post_job(client, dataset)
        assert taken.status_code == 202
        assert outbox() == [taken.json()["id"]]
    answers.check()
    check_data(impatient.data_dir, accepted=[taken.json()["id"]])


def test_a_short_lock_costs_a_moment(impatient: Settings) -> None:
    dataset, began = stored_dataset(impatient), time.monotonic()
    with contextlib.ExitStack() as lock:
        lock.enter_context(held(impatient))
        release = threading.Timer(PATIENCE / 3, lock.close)
        release.start()
        job_id = add_job(dataset)
        release.join()
    assert time.monotonic() - began > PATIENCE / 4
    check_data(impatient.data_dir, accepted=[job_id])
