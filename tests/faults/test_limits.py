"""How long a job may be worked on, and a cancelled one may take to finish."""

import threading
import time
from collections.abc import Callable

import pytest

from tests.faults.fake_worker import steps_made
from tests.rig import add_job, change_row, events, row, state, wait_for
from tests.service import wait_until
from worker import drain
from worker.jobs import cancel_job, pause_job, resume_job
from worker.settings import Settings
from worker.supervisor import supervise


@pytest.fixture(autouse=True)
def _fake(fake: Settings) -> None:
    """Every job here runs a fake child."""


def in_thread(job_id: str) -> threading.Thread:
    thread = threading.Thread(target=supervise, args=(job_id,))
    thread.start()
    return thread


def test_a_child_that_runs_too_long_fails_with_a_checkpoint(change_setting: Callable[..., Settings]) -> None:
    change_setting(job_seconds=1.5)
    job_id = add_job(steps=1000, save_every=100_000)
    supervise(job_id)
    job = row(job_id)
    assert job.state == "failed"
    assert job.error is not None
    assert job.error["code"] == "time_limit"
    assert [event.data["step"] for event in events(job_id) if event.type == "checkpoint"] == [steps_made(job_id)[-1][1]]


def test_all_starts_together_have_the_time_limit_and_a_pause_does_not_count(change_setting: Callable[..., Settings]) -> None:
    change_setting(job_seconds=3.0)
    job_id = add_job(steps=10_000)
    thread = in_thread(job_id)
    wait_until(lambda: row(job_id).ran_seconds > 1.0, 10)
    pause_job(job_id)
    wait_for(job_id, ("paused",), 5)
    thread.join()
    spent = row(job_id).ran_seconds
    assert 1.0 < spent < 2.5
    time.sleep(3.1)
    made = len(steps_made(job_id))
    resume_job(job_id)
    began = time.monotonic()
    supervise(job_id)
    assert time.monotonic() - began < 3.0 - spent + 1.5
    job = row(job_id)
    assert (job.state, job.token, (job.error or {})["code"]) == ("failed", 2, "time_limit")
    assert len(steps_made(job_id)) > made


def test_a_start_that_is_lost_with_its_supervisor_counts_too(change_setting: Callable[..., Settings]) -> None:
    change_setting(job_seconds=1.5)
    job_id = add_job(steps=10_000)
    change_row(job_id, ran_seconds=1.6)  # as the last heartbeat left it
    supervise(job_id)
    assert (row(job_id).error or {})["code"] == "time_limit"


def test_a_cancelled_child_has_its_own_time_to_evaluate_and_export(change_setting: Callable[..., Settings]) -> None:
    change_setting(stop_grace_seconds=0.5, finish_seconds=20)
    job_id = add_job(steps=1000, finish=2)
    thread = in_thread(job_id)
    wait_until(lambda: len(steps_made(job_id)) >= 2, 10)
    cancel_job(job_id)
    thread.join()
    assert state(job_id) == "cancelled"
    assert row(job_id).metrics["steps"] >= 2, "what it had learnt by then"


@pytest.mark.parametrize("why", ["it takes too long", "the worker is to end"])
def test_a_cancelled_child_that_does_not_finish_is_ended(
    change_setting: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    change_setting(stop_grace_seconds=0.5, finish_seconds=0.5 if why == "it takes too long" else 60)
    job_id = add_job(steps=1000, finish=60)
    thread = in_thread(job_id)
    wait_until(lambda: len(steps_made(job_id)) >= 2, 10)
    cancel_job(job_id)
    wait_until(lambda: row(job_id).progress.get("phase") == "evaluating", 10)
    if why == "the worker is to end":
        time.sleep(1.0)  # longer than the grace
        assert state(job_id) == "cancelling"
        monkeypatch.setattr(drain, "requested", lambda: True)
    began = time.monotonic()
    thread.join()
    assert time.monotonic() - began < 10
    assert (state(job_id), row(job_id).metrics) == ("cancelled", {})
