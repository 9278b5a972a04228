"""Random kills of children, supervisors and the broker, by a seed: all jobs end, once each."""

import contextlib
import random
import shutil
import time

import psutil
import pytest

from tests.faults.conftest import StartWorker
from tests.faults.fake_worker import steps_made
from tests.rig import add_job, children_named, family, finished, row, state, statuses
from worker.embedded import Broker
from worker.keeper import Keeper

STEPS = 40


@pytest.mark.parametrize("seed", [1])
def test_kills_at_random_moments(broker: Broker, keeper: Keeper, start_worker: StartWorker, seed: int) -> None:
    chance = random.Random(seed)
    worker = start_worker()
    jobs = [add_job(steps=STEPS, pace=0.02) for _ in range(4)]
    for _ in range(12):
        time.sleep(chance.uniform(0.05, 0.6))
        victim = chance.choice(["trainer", "supervisor", "broker"])
        if victim == "broker":
            broker.kill()
            shutil.rmtree(broker._socket.parent / "appendonlydir", ignore_errors=True)
            broker.start()
        elif victim == "trainer":
            _kill(children_named(worker.pid, "fake_child"))
        else:
            _kill([member for member in family(worker.pid)[1:] if member.ppid() == worker.pid])
        if all(state(job_id) == "succeeded" for job_id in jobs):
            break
    for job_id in jobs:
        assert finished(job_id, 30).state == "succeeded", statuses(job_id)
        made = steps_made(job_id)
        assert [step for _, step in made][-1] == STEPS
        # A step is made again only where its checkpoint was lost: at most one a start.
        assert len(made) <= STEPS + row(job_id).token


def _kill(victims: list[psutil.Process]) -> None:
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
