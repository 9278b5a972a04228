"""The schema goes all the way down and up with rows in its tables; and a worker of this version works beside a newer one."""

from typing import Any

import pytest
from alembic import command
from sqlalchemy import inspect, text

from tests.rig import NEWER_SCHEMA, add_dataset, add_job, check_invariants, finished, forget_messages, outbox, row
from worker import lease
from worker.database import Alias, Event, Model, get_engine, new_id, now, write
from worker.jobs import cancel_job, list_jobs
from worker.migrate import alembic_config, current_revision, newest_revision, upgrade
from worker.settings import Settings

KEPT = ("datasets", "jobs", "events", "models", "aliases", "outbox")
REVISIONS = [f"{number:04d}" for number in range(1, int(newest_revision()) + 1)]


def migrate(revision: str, *, up: bool) -> None:
    with get_engine().connect() as connection:
        (command.upgrade if up else command.downgrade)(alembic_config(connection), revision)
        connection.commit()


def content() -> dict[str, list[dict[str, Any]]]:
    """Every row; a column of JSON may say of nothing that it is null, or be it."""
    with get_engine().connect() as connection:
        found = {table: connection.execute(text(f"SELECT * FROM {table}")).mappings().all() for table in KEPT}
    return {table: [{name: None if value == "null" else value for name, value in row.items()} for row in found[table]] for table in KEPT}


def fill() -> None:
    """A service that has been in use: jobs of several states with their events, a model with its name."""
    dataset = add_dataset(blob="datasets/a")
    jobs = [add_job(dataset) for _ in range(3)]
    lease.claim(jobs[0], "here:1")
    cancel_job(jobs[1])
    with write() as session:
        moment, model = now(session), new_id("mdl")
        session.add(Event(job_id=jobs[0], created_at=moment, level="info", type="metrics", message="", data={"loss": 1.0}))
        told: dict[str, Any] = {"manifest": {"labels": ["ä"]}, "blob": "b", "sha256": "0" * 64, "size_bytes": 2**40}
        session.add(Model(id=model, modality="audio", job_id=jobs[0], created_at=moment, **told))
        session.flush()
        session.add(Alias(name="default", model_id=model, updated_at=moment))


@pytest.mark.parametrize("lowest", REVISIONS)
def test_down_and_up_again_loses_no_row(settings: Settings, lowest: str) -> None:
    fill()
    before = content()
    migrate(lowest, up=False)
    assert current_revision() == lowest
    below = content()
    assert {table: len(rows) for table, rows in below.items()} == {table: len(rows) for table, rows in before.items()}
    migrate("head", up=True)
    assert content() == before
    with get_engine().connect() as connection:
        assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
        assert connection.execute(text("PRAGMA integrity_check")).scalar() == "ok"
    check_invariants()


@pytest.fixture
def newer(settings: Settings) -> None:
    """A database that a newer version has migrated."""
    with get_engine().begin() as connection:
        for statement in NEWER_SCHEMA:
            connection.execute(text(statement))


def test_a_worker_that_starts_beside_a_newer_version_leaves_the_schema_alone(newer: None) -> None:
    upgrade()
    assert current_revision() == "9999"
    with get_engine().connect() as connection:
        assert "invented" in {column["name"] for column in inspect(connection).get_columns("jobs")}


def test_columns_that_nobody_knows_here_are_no_matter(newer: None) -> None:
    job = add_job()
    assert outbox() == [job]
    forget_messages()
    taken = lease.claim(job, "here:1")
    assert taken is not None
    with write() as session:
        lease.close(session, job, 1, "failed")
    assert finished(job).state == "failed"
    assert [found["id"] for found in list_jobs(limit=5).data] == [job]
    assert row(job).token == 1
    with get_engine().connect() as connection:
        assert connection.execute(text("SELECT invented FROM jobs")).scalar() == "x", "the newer version's value stays"
