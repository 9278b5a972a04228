"""Messages that come twice, never, late or as garbage; brokers that are down, hung or empty: each job runs once."""

import base64
import contextlib
import json
import os
import pickle
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from models.config import JobSpec
from tests.faults.conftest import StartWorker
from tests.faults.fake_worker import steps_made
from tests.rig import add_dataset, add_job, change_row, finished, outbox, row, state, statuses
from tests.service import wait_until
from worker import queue
from worker.database import write
from worker.embedded import Broker
from worker.errors import QueueFullError
from worker.jobs import cancel_job, count_by_state, create_job, enqueue, list_jobs
from worker.keeper import Keeper, sweep
from worker.lease import claim
from worker.queue import RUN_TASK, BrokerError, _celery, ping, relay, waiting_messages
from worker.settings import Settings
from worker.supervisor import supervise


def raw(broker: Broker) -> "redis.Redis[Any]":
    return redis.Redis(unix_socket_path=str(broker._socket))


def test_twenty_messages_to_two_workers_start_a_job_once(broker: Broker, start_worker: StartWorker) -> None:
    job_id = add_job(steps=30)
    for name in ("first", "second"):
        start_worker(name)
    wait_until(lambda: raw(broker).client_list(_type="normal") and _consumers(broker) == 2, 40)
    for _ in range(20):
        _celery().send_task(RUN_TASK, args=[job_id], queue="train")
    finished(job_id)
    wait_until(lambda: waiting_messages("train") == 0, 10)
    assert statuses(job_id) == ["queued", "running", "succeeded"]
    assert [step for _, step in steps_made(job_id)] == list(range(1, 31))


@pytest.mark.slow
def test_a_busy_worker_leaves_messages_to_others(broker: Broker, keeper: Keeper, start_worker: StartWorker) -> None:
    start_worker()
    finished(add_job(steps=1), 40)
    busy = add_job(steps=10_000)
    wait_until(lambda: state(busy) == "running", 10)
    waiting = [add_job(steps=1) for _ in range(3)]
    wait_until(lambda: not outbox(), 10)
    time.sleep(2.5)  # more than the second that a worker's question lasts
    assert waiting_messages("train") == 3
    start_worker("second")
    for job_id in waiting:
        assert finished(job_id, 40).token == 1
    assert state(busy) == "running"
    cancel_job(busy)
    finished(busy)


def _consumers(broker: Broker) -> int:
    return sum(client["cmd"] == "brpop" for client in raw(broker).client_list())


def test_a_crash_before_the_message_is_sent_loses_nothing(broker: Broker, fake: Settings) -> None:
    job_id = add_job()  # and the process ends here: the row and its message are one transaction
    assert outbox() == [job_id]
    assert relay() == 1
    assert waiting_messages("train") == 1
    assert outbox() == []
    assert row(job_id).published_at is not None


def test_a_crash_after_the_message_is_sent_sends_it_twice(broker: Broker, fake: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = add_job()
    with monkeypatch.context() as crash:
        crash.setattr(queue, "_mark_sent", _die)
        with pytest.raises(SystemExit):
            relay()
    assert relay() == 1
    assert waiting_messages("train") == 2
    supervise(job_id)
    supervise(job_id)
    assert statuses(job_id).count("running") == 1


def _die(_: object) -> None:
    raise SystemExit


def test_jobs_are_accepted_while_the_broker_is_down(quick: Settings) -> None:
    began = time.monotonic()
    job_id = add_job()
    assert time.monotonic() - began < 0.5
    began = time.monotonic()
    with pytest.raises(BrokerError):
        relay()
    assert not ping()
    assert time.monotonic() - began < 5
    assert outbox() == [job_id]
    broker = Broker(quick.data_dir)
    broker.start()
    try:
        assert ping()
        assert relay() == 1
    finally:
        broker.kill()


def test_a_hung_broker_holds_up_nobody_else(broker: Broker, keeper: Keeper, fake: Settings) -> None:
    assert ping()
    with stopped(broker):
        began = time.monotonic()
        job_id = add_job()
        assert list_jobs().data[0]["id"] == job_id
        assert time.monotonic() - began < 1.0
        assert not ping()
        assert time.monotonic() - began < 3.0
    wait_until(lambda: waiting_messages("train") == 1, 20)
    assert state(job_id) == "queued"


@contextlib.contextmanager
def stopped(broker: Broker) -> Iterator[None]:
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker.pid, signal.SIGCONT)


def test_a_broker_that_restarts_or_comes_back_empty_costs_no_job(broker: Broker, keeper: Keeper, start_worker: StartWorker) -> None:
    start_worker()
    finished(add_job(steps=1), 40)
    broker.kill()  # while the worker is idle
    time.sleep(1.5)
    broker.start()
    began = time.monotonic()
    finished(add_job(steps=1), 20)
    assert time.monotonic() - began < 10
    jobs = [add_job(steps=100, pace=0.01), *(add_job(steps=1) for _ in range(19))]
    wait_until(lambda: state(jobs[0]) == "running" and not outbox(), 10)
    broker.kill()  # while it works and others wait
    shutil.rmtree(broker._socket.parent / "appendonlydir")
    broker.start()
    assert raw(broker).llen("train") == 0
    for job_id in jobs:
        assert finished(job_id, 30).token == 1


def test_messages_that_are_none_stop_nothing_and_run_nothing(
    broker: Broker, keeper: Keeper, start_worker: StartWorker, tmp_path: Path
) -> None:
    """A worker may die of one, as it was taken from the queue before it was read: started again, as `serve` does, it goes on."""
    canary = tmp_path / "canary"
    body = base64.b64encode(pickle.dumps(((Canary(canary),), {}, {}))).decode()
    pickled = {
        "body": body, "content-type": "application/x-python-serialize", "content-encoding": "binary",
        "headers": {"task": RUN_TASK, "id": "1", "lang": "py", "root_id": "1"},
        "properties": {"body_encoding": "base64", "delivery_tag": "1", "delivery_info": {"exchange": "", "routing_key": "train"}},
    }  # fmt: skip
    raw(broker).lpush("train", json.dumps(pickled), "garbage")
    job_id = add_job(steps=1)
    for number in range(3):
        worker = start_worker(f"start{number}")
        wait_until(lambda worker=worker: state(job_id) == "succeeded" or worker.poll() is not None, 40)
        if worker.poll() is None:
            break
    assert state(job_id) == "succeeded"
    assert waiting_messages("train") == 0
    assert not canary.exists()


class Canary:
    """What a forged message would have unpickled: it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_keepers_at_once_have_one_effect(broker: Broker, fake: Settings) -> None:
    jobs = [add_job() for _ in range(10)]
    for job_id in jobs[:5]:
        claim(job_id, "elsewhere:1-1")
        change_row(job_id, lease_until=1.0)
    keepers = [threading.Thread(target=_keep, args=(fake,)) for _ in range(4)]
    for thread in keepers:
        thread.start()
    for thread in keepers:
        thread.join()
    assert [state(job_id) for job_id in jobs] == ["queued"] * 10
    assert all(statuses(job_id) == ["queued", "running", "queued"] for job_id in jobs[:5])
    assert outbox() == []
    assert waiting_messages("train") >= 10  # a message may have gone out twice, none may be missing
    for job_id in jobs:
        supervise(job_id)
        assert state(job_id) == "succeeded"


def _keep(settings: Settings) -> None:
    for _ in range(5):
        sweep(settings)
        relay()


def test_jobs_that_wait_long_are_not_announced_again_and_again(broker: Broker, fake: Settings) -> None:
    jobs = [add_job() for _ in range(3)]
    relay()
    for _ in range(3):
        for job_id in jobs:
            change_row(job_id, published_at=1.0)
        sweep(fake)
        assert relay() == 0
    raw(broker).rpop("train")  # one is lost: which, nobody knows
    sweep(fake)
    assert relay() == 3
    for job_id in jobs:
        change_row(job_id, published_at=1.0)
    sweep(fake)
    assert relay() == 0


def test_thousands_of_queued_jobs(broker: Broker, fake: Settings, change_setting: Any) -> None:
    dataset = add_dataset()
    count = 2000
    with write() as session:
        spec = JobSpec(dataset=dataset).model_dump(mode="json")
        for _ in range(count):
            enqueue(session, type="finetune", queue="train", dataset_id=dataset, spec=spec)
    while relay():
        pass
    assert waiting_messages("train") == count
    began = time.monotonic()
    page = list_jobs(limit=100, status="queued")
    assert count_by_state()[0] == {"queued": count}
    assert time.monotonic() - began < 1.0
    assert (len(page.data), page.has_more) == (100, True)
    raw(broker).flushall()
    assert raw(broker).llen("train") == 0
    settings = change_setting(republish_seconds=0, max_queued_jobs=count)
    with pytest.raises(QueueFullError):
        create_job(JobSpec(dataset=dataset))
    for _ in range(3):  # what is lost comes back in handfuls, oldest first
        sweep(settings)
        relay()
        relay()
    assert waiting_messages("train") == 600


def test_the_folder_of_a_log_is_removed_a_while_after_the_end(fake: Settings, tmp_path: Path) -> None:
    ended, running = add_job(child="no_memory"), add_job(child="dies")
    supervise(ended)
    supervise(running)
    folder = fake.scratch_dir / "jobs"
    sweep(fake)
    assert {path.name for path in folder.iterdir()} == {ended, running}
    for job_id in (ended, running):
        change_row(job_id, finished_at=row(job_id).finished_at and 1.0)
    sweep(fake)
    assert {path.name for path in folder.iterdir()} == {running}
