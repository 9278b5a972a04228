"""What is past its time goes where a setting says so, and only what nothing needs any more."""

from collections.abc import Callable

import pytest
from sqlalchemy import func, select, update

from tests.rig import add_dataset, add_job, change_row, check_invariants, events
from worker import retention
from worker.audit import Origin, done_by
from worker.database import Audit, Base, Event, Job, Model, Webhook, new_id, now, read, write
from worker.datasets import delete_dataset
from worker.jobs import cancel_job
from worker.settings import Settings

DAY = 24 * 3600.0


def ended(days: float, **values: object) -> str:
    """A job that was cancelled so many days ago."""
    job = add_job()
    cancel_job(job)
    with write() as session:
        moment = now(session) - days * DAY
        session.add(Event(job_id=job, created_at=moment, level="info", type="message", message="hello", data={}))
    change_row(job, finished_at=moment, **values)
    return job


def count(table: type[Base]) -> int:
    with read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def jobs() -> set[str]:
    with read() as session:
        return set(session.scalars(select(Job.id)))


def test_nothing_is_forgotten_unless_somebody_says_so(settings: Settings) -> None:
    ended(10_000)
    with done_by(Origin("cli", "", "test")):
        delete_dataset(add_dataset())
    with write() as session:
        session.execute(update(Audit).values(created_at=0.0))
    before = [count(table) for table in (Job, Event, Audit)]
    retention.forget_old(settings)
    assert [count(table) for table in (Job, Event, Audit)] == before


def test_old_events_go_and_the_states_stay(change_setting: Callable[..., Settings]) -> None:
    settings = change_setting(keep_events_days=30)
    old, young, running = ended(31), ended(29), add_job()
    retention.forget_old(settings)
    assert {event.type for event in events(old)} == {"status"}
    assert {event.type for event in events(young)} == {"status", "message"}
    assert len(events(running)) == 1
    check_invariants()


def test_old_jobs_go_with_all_that_is_theirs(change_setting: Callable[..., Settings]) -> None:
    settings = change_setting(keep_jobs_days=30)
    old, young, waiting = ended(31), ended(29), add_job()
    with write() as session:
        told = {"url": "https://a.example", "status": "delivered", "attempts": 1, "due_at": 0.0, "created_at": 0.0}
        session.add(Webhook(id=new_id("wh"), job_id=old, **told))
    retention.forget_old(settings)
    assert jobs() == {young, waiting}
    assert count(Webhook) == 0
    assert events(old) == []
    check_invariants()


def test_what_something_needs_stays(change_setting: Callable[..., Settings]) -> None:
    settings = change_setting(keep_jobs_days=30)
    made, compared, due = ended(31), ended(31), ended(31)
    control = ended(31, control_of=made)
    unfinished = add_job()
    change_row(unfinished, control_of=compared)
    with write() as session:
        session.add(
            Model(id=new_id("mdl"), modality="audio", job_id=made, manifest={}, blob="b", sha256="0" * 64, size_bytes=1, created_at=0.0)
        )
        pending = {"url": "https://a.example", "status": "pending", "attempts": 0, "due_at": 0.0, "created_at": 0.0}
        session.add(Webhook(id=new_id("wh"), job_id=due, **pending))
    retention.forget_old(settings)
    assert jobs() == {made, control, compared, unfinished, due}
    with write() as session:
        session.execute(update(Model).values(deleted_at=1.0))
    retention.forget_old(settings)
    assert jobs() == {control, compared, unfinished, due}
    retention.forget_old(settings)
    assert jobs() == {compared, unfinished, due}, "a control goes after what it was compared with"


def test_old_entries_of_the_audit_log_go(change_setting: Callable[..., Settings]) -> None:
    settings = change_setting(keep_audit_days=30)
    with done_by(Origin("cli", "", "test")):
        for _ in range(2):
            delete_dataset(add_dataset())
    with write() as session:
        session.execute(update(Audit).where(Audit.id == 1).values(created_at=now(session) - 31 * DAY))
    retention.forget_old(settings)
    with read() as session:
        assert list(session.scalars(select(Audit.id))) == [2]


def test_one_sweep_removes_a_bounded_number(change_setting: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = change_setting(keep_jobs_days=1)
    for _ in range(5):
        ended(2)
    monkeypatch.setattr(retention, "_ROWS", 2)
    left = []
    for _ in range(3):
        retention.forget_old(settings)
        left.append(len(jobs()))
    assert left == [3, 1, 0]
