"""Children that die, hang, fail, are deaf or are told to stop: what becomes of their jobs."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from models.errors import SynesthesiaError
from tests.faults.fake_worker import FAKE, steps_made
from tests.rig import add_job, change_row, finished, forget_messages, outbox, row, state, statuses, wait_for
from tests.service import wait_until
from worker import work
from worker.database import now, read
from worker.errors import ConflictError, StorageFullError
from worker.jobs import cancel_job, get_job, pause_job, resume_job
from worker.keeper import sweep
from worker.settings import Settings
from worker.supervisor import supervise
from worker.work import Start, Work


@pytest.fixture(autouse=True)
def _fake(fake: Settings) -> None:
    """Every job here runs a fake child."""


def run_until_ended(job_id: str, starts: int) -> None:
    """Supervise again and again, without waiting for the pauses between."""
    for _ in range(starts):
        change_row(job_id, not_before=None)
        supervise(job_id)
        if state(job_id) != "queued":
            return


def in_thread(job_id: str) -> threading.Thread:
    thread = threading.Thread(target=supervise, args=(job_id,))
    thread.start()
    return thread


def test_a_job_that_does_its_steps() -> None:
    job_id = add_job(steps=4)
    supervise(job_id)
    assert steps_made(job_id) == [(1, 1), (1, 2), (1, 3), (1, 4)]
    assert statuses(job_id) == ["queued", "running", "succeeded"]
    assert row(job_id).metrics == {"steps": 4}
    supervise(job_id)  # a late message
    assert row(job_id).token == 1


@pytest.mark.parametrize("how", ["dies", "crashes"])
def test_a_child_that_always_dies_fails_after_three_starts_with_growing_pauses(how: str) -> None:
    job_id = add_job(child=how, save_every=100)
    pauses = []
    for _ in range(5):
        supervise(job_id)
        job = row(job_id)
        if job.state != "queued":
            break
        assert job.not_before is not None
        pauses.append(job.not_before - job.created_at)
        supervise(job_id)  # a message that comes before the pause is over
        assert row(job_id).token == job.token
        change_row(job_id, not_before=None)
    assert (job.state, job.token) == ("failed", 3)
    assert job.error is not None
    assert job.error["code"] == "worker_lost"
    assert ("SIGKILL" if how == "dies" else "SIGSEGV") in job.error["message"]
    assert pauses[1] > pauses[0] + 1


def test_a_pause_after_a_failure_ends_with_a_message(fake: Settings) -> None:
    job_id, other = add_job(child="dies", save_every=100), add_job(steps=1)
    supervise(job_id)
    supervise(other)  # others go on meanwhile
    assert (state(job_id), state(other)) == ("queued", "succeeded")
    forget_messages()
    sweep(fake)
    assert outbox() == []
    change_row(job_id, not_before=1.0)
    sweep(fake)
    sweep(fake)
    assert outbox() == [job_id]


def test_progress_between_deaths_forgives_them() -> None:
    job_id = add_job(steps=8, child="dies", at=3)  # dies at its third step, but has saved two; then goes on
    supervise(job_id)
    assert (state(job_id), row(job_id).failures, row(job_id).not_before) == ("queued", 0, None)
    change_row(job_id, meta={"steps": "8", "child": "dies", "at": "5"})
    supervise(job_id)
    assert (state(job_id), row(job_id).failures) == ("queued", 0)


def test_the_same_checkpoint_again_is_no_progress() -> None:
    job_id = add_job(steps=8, child="dies", at=3)
    run_until_ended(job_id, 10)
    job = row(job_id)
    assert (job.state, job.token) == ("failed", 4)  # the first start made two steps, the three others none
    assert [step for _, step in steps_made(job_id)] == [1, 2, 3, 3, 3, 3]


def test_a_child_that_hangs_is_ended_and_counted(change_setting: Callable[..., Settings]) -> None:
    change_setting(stall_seconds=0.5)
    job_id = add_job(child="hangs", save_every=100)
    run_until_ended(job_id, 5)
    job = row(job_id)
    assert (job.state, job.token) == ("failed", 3)
    assert job.error is not None
    assert job.error["code"] == "stalled"


def test_out_of_memory_is_not_tried_again() -> None:
    job_id = add_job(child="no_memory")
    supervise(job_id)
    job = row(job_id)
    assert (job.state, job.token) == ("failed", 1)
    assert job.error == {"code": "out_of_memory", "message": "out of memory; a smaller batch_size needs less", "param": None}


def test_prints_of_libraries_do_not_disturb() -> None:
    job_id = add_job(child="babbles")
    supervise(job_id)
    assert state(job_id) == "succeeded"


def test_cancel_while_running_keeps_what_was_learnt() -> None:
    job_id = add_job(steps=1000)
    thread = in_thread(job_id)
    wait_until(lambda: len(steps_made(job_id)) > 3, 10)
    assert cancel_job(job_id)["status"] == "cancelling"
    assert finished(job_id, 5).metrics["steps"] > 3
    thread.join()
    assert statuses(job_id) == ["queued", "running", "cancelling", "cancelled"]


def test_a_deaf_child_is_killed_after_the_grace(change_setting: Callable[..., Settings]) -> None:
    change_setting(stop_grace_seconds=0.5)
    job_id = add_job(child="deaf", steps=1000)
    thread = in_thread(job_id)
    wait_until(lambda: len(steps_made(job_id)) >= 2, 10)
    pause_job(job_id)
    wait_for(job_id, ("paused",), 5)
    thread.join()
    assert row(job_id).failures == 0


def test_pause_and_resume_go_on_from_the_checkpoint() -> None:
    job_id = add_job(steps=60, save_every=100_000)
    thread = in_thread(job_id)
    wait_until(lambda: len(steps_made(job_id)) > 3, 10)
    pause_job(job_id)
    wait_for(job_id, ("paused",), 5)
    thread.join()
    supervise(job_id)
    assert row(job_id).token == 1  # nothing starts a paused job
    resume_job(job_id)
    supervise(job_id)
    assert [step for _, step in steps_made(job_id)] == list(range(1, 61))
    assert statuses(job_id) == ["queued", "running", "pausing", "paused", "queued", "running", "succeeded"]


def test_cancelling_a_paused_or_queued_job_ends_it_at_once() -> None:
    queued, paused = add_job(), add_job()
    pause_job(paused)
    for job_id in (queued, paused):
        assert cancel_job(job_id)["status"] == "cancelled"
        supervise(job_id)
        assert row(job_id).token == 0


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5])
def test_cancel_in_a_race_with_the_end(delay: float) -> None:
    job_id = add_job(steps=3, pace=0.03)
    thread = in_thread(job_id)
    time.sleep(delay)
    try:
        cancel_job(job_id)
        accepted = True
    except ConflictError:
        accepted = False
    thread.join()
    # Whoever was told 202 sees the job end soon; it may have been done already when the word came.
    assert state(job_id) in (("cancelled", "succeeded") if accepted else ("succeeded",))
    with pytest.raises(ConflictError) as refused:
        cancel_job(job_id)
    assert refused.value.code == "job_not_cancellable"


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_jumps_moves_no_lease(hours: int, monkeypatch: pytest.MonkeyPatch, fake: Settings) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600 * hours)
    job_id = add_job(steps=200)
    thread = in_thread(job_id)
    wait_until(lambda: len(steps_made(job_id)) > 3, 10)
    time.sleep(2 * fake.heartbeat_seconds)
    with read() as session:
        moment = now(session)
    lease = row(job_id).lease_until
    assert lease is not None
    assert 0 < lease - moment <= fake.lease_seconds
    sweep(fake)
    assert state(job_id) == "running"
    cancel_job(job_id)
    thread.join()


class Broken:
    """A Work whose child is well, but whose start or publishing is not, a given number of times."""

    def __init__(self, where: str, error: Exception, times: int) -> None:
        self.where, self.error, self.times = where, error, times
        self.work = Work(self._start, self._succeed, FAKE.lose)

    def _start(self, *arguments: Any) -> Start:
        self._maybe("start")
        return FAKE.start(*arguments)

    def _succeed(self, *arguments: Any) -> bool:
        self._maybe("succeed")
        return FAKE.succeed(*arguments)

    def _maybe(self, where: str) -> None:
        if where == self.where and self.times:
            self.times -= 1
            raise self.error


@pytest.fixture
def break_work(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return lambda *arguments: monkeypatch.setitem(work.WORK, "finetune", Broken(*arguments).work)


@pytest.mark.parametrize("where", ["start", "succeed"])
def test_a_short_lack_of_disk_costs_no_training(where: str, break_work: Callable[..., None]) -> None:
    break_work(where, StorageFullError("the disk is full"), 2)
    job_id = add_job()
    run_until_ended(job_id, 5)
    assert (state(job_id), row(job_id).token) == ("succeeded", 3)
    assert [step for _, step in steps_made(job_id)] == [1, 2, 3, 4, 5]  # each once: what was learnt stayed


@pytest.mark.parametrize(
    ("error", "starts", "code"),
    [
        (StorageFullError("the disk is full"), 3, "insufficient_storage"),
        (SynesthesiaError("no such layer", code="config_invalid"), 1, "config_invalid"),
        (KeyError("a bug"), 3, "internal"),
    ],
)
@pytest.mark.parametrize("where", ["start", "succeed"])
def test_what_can_not_be_started_or_published_fails(
    where: str, error: Exception, starts: int, code: str, break_work: Callable[..., None]
) -> None:
    break_work(where, error, 100)
    job_id = add_job()
    run_until_ended(job_id, 5)
    job = get_job(job_id)
    assert (job["status"], job["attempt"], job["error"]["code"]) == ("failed", starts, code)
