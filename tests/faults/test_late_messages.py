"""Messages that come again while their job runs, that wait in thousands, and tasks that this version does not know."""

import threading
import time

from models.config import JobSpec
from tests.faults.conftest import StartWorker
from tests.faults.fake_worker import steps_made
from tests.rig import add_dataset, add_job, finished, state, statuses
from tests.service import wait_until
from worker.database import write
from worker.embedded import Broker
from worker.jobs import enqueue
from worker.keeper import Keeper, sweep
from worker.queue import _celery, waiting_messages
from worker.settings import Settings
from worker.tasks import run


def test_a_message_that_comes_again_does_nothing(fake: Settings) -> None:
    job_id = add_job(steps=20, pace=0.02)
    first = threading.Thread(target=run, args=(job_id,))
    first.start()
    wait_until(lambda: len(steps_made(job_id)) > 2, 20)
    for _ in range(5):
        run(job_id)  # returns at once
    assert state(job_id) == "running"
    first.join()
    run(job_id)
    assert statuses(job_id) == ["queued", "running", "succeeded"]
    assert [step for _, step in steps_made(job_id)] == list(range(1, 21))


def test_a_task_that_nobody_knows_costs_nothing(broker: Broker, keeper: Keeper, start_worker: StartWorker) -> None:
    start_worker()
    for _ in range(3):
        _celery().send_task("synesthesia.of_a_newer_version", args=["job_x"], queue="train")
    job_id = add_job(steps=1)
    assert finished(job_id, 40).state == "succeeded"
    wait_until(lambda: waiting_messages("train") == 0, 10)
    assert finished(add_job(steps=1), 20).token == 1


def test_many_messages_that_wait_hold_up_no_writer(quick: Settings) -> None:
    """Thousands of jobs and of unsent messages, as after an hour without a broker: a sweep is no walk through all pairs of them."""
    dataset, spec = add_dataset(), JobSpec(dataset="ds_x").model_dump(mode="json")
    with write() as session:
        for _ in range(3000):
            enqueue(session, type="finetune", queue="train", dataset_id=dataset, spec=spec)
    began = time.process_time()
    sweep(quick)
    assert time.process_time() - began < 0.5
