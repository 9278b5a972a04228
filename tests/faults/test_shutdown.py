"""A worker that is told to go, stopped, or killed: its job goes on elsewhere, its processes do not."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.faults.conftest import StartWorker
from tests.faults.fake_worker import steps_made
from tests.rig import add_job, change_row, children_named, events, family, process, row, statuses, wait_for
from tests.service import wait_until
from worker.embedded import Broker
from worker.keeper import Keeper
from worker.settings import Settings
from worker.supervisor import supervise

LONG = {"steps": 2000, "pace": 0.02}


def wait_for_steps(job_id: str, count: int) -> None:
    wait_until(lambda: len(steps_made(job_id)) >= count, 40)


def test_a_worker_told_to_end_gives_its_job_back(broker: Broker, keeper: Keeper, start_worker: StartWorker, fake: Settings) -> None:
    job_id = add_job(**LONG, save_every=100_000)
    worker = start_worker()
    wait_for_steps(job_id, 5)
    members = family(worker.pid)
    assert len(members) == 3  # Celery's parent, the child that supervises, the trainer
    asked = time.monotonic()
    worker.terminate()
    assert worker.wait(30) == 0
    assert time.monotonic() - asked < fake.stop_grace_seconds
    assert not psutil.wait_procs(members, timeout=2)[1]
    job = row(job_id)
    assert (job.state, job.failures, job.token) == ("queued", 0, 1)
    # The checkpoint that SIGTERM asked for is where the next start goes on: no step is made twice.
    made = len(steps_made(job_id))
    change_row(job_id, meta={**job.meta, "steps": str(made + 3)})
    supervise(job_id)
    assert steps_made(job_id)[made:] == [(2, made + 1), (2, made + 2), (2, made + 3)]
    assert statuses(job_id) == ["queued", "running", "queued", "running", "succeeded"]


@pytest.mark.parametrize("victims", ["parent", "group"])
def test_a_killed_worker_leaves_no_process_and_loses_no_job(
    broker: Broker, keeper: Keeper, start_worker: StartWorker, victims: str
) -> None:
    job_id = add_job(**LONG)
    worker = start_worker()
    wait_for_steps(job_id, 5)
    members = family(worker.pid)
    if victims == "parent":
        worker.kill()
    else:
        os.killpg(worker.pid, signal.SIGKILL)  # not the trainer: it has a session of its own
    worker.wait(5)
    assert not psutil.wait_procs(members, timeout=5)[1]
    job = wait_for(job_id, ("queued",), 5)  # by the free lock, long before the lease is over
    assert (job.failures, job.token) == (0, 1)


def test_a_paused_owner_is_fenced_off_when_it_wakes(keeper: Keeper, fake: Settings, tmp_path: Path) -> None:
    job_id = add_job(steps=400, pace=0.02, save_every=40)
    with process("tests/faults/fake_worker.py", "--job", job_id, log=tmp_path / "log", PYTHONPATH=".") as stale:
        wait_for_steps(job_id, 3)
        trainer = children_named(stale.pid, "fake_child")[0]
        stale.send_signal(signal.SIGSTOP)
        trainer.suspend()  # else the stale trainer would make the steps for the new one
        wait_for(job_id, ("queued",), 10)  # its lock is held, its lease runs out
        change_row(job_id, meta={**row(job_id).meta, "pace": "0.001"})
        supervise(job_id)
        assert row(job_id).state == "succeeded"
        before = [event.id for event in events(job_id)]
        trainer.resume()
        stale.send_signal(signal.SIGCONT)
        assert stale.wait(6) == 0  # left alone, its trainer would take longer
        assert not psutil.pid_exists(trainer.pid)
        assert "lost" in (tmp_path / "log").read_text()
    job = row(job_id)
    assert (job.state, job.token, job.metrics) == ("succeeded", 2, {"steps": 400})
    assert [event.id for event in events(job_id)] == before


def test_the_trainer_dies_with_its_supervisor(keeper: Keeper, quick: Settings, tmp_path: Path) -> None:
    job_id = add_job(**LONG)
    with process("tests/faults/fake_worker.py", "--job", job_id, log=tmp_path / "log", PYTHONPATH=".") as supervisor:
        wait_for_steps(job_id, 3)
        members = family(supervisor.pid)
        supervisor.kill()
        assert not psutil.wait_procs(members[1:], timeout=5)[1]
        assert wait_for(job_id, ("queued",), 5).failures == 0
