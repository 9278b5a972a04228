"""Messages that come again while their job runs, that wait in thousands, and tasks that this version does not know."""

import threading
from typing import Any

from sqlalchemy import event

from tests.faults.conftest import StartWorker
from tests.faults.fake_worker import steps_made
from tests.rig import add_job, finished, state, statuses
from tests.service import wait_until
from worker.database import get_engine
from worker.embedded import Broker
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


def test_a_sweep_walks_no_outbox_for_each_job(quick: Settings) -> None:
    """With 10,000 jobs and as many unsent messages, as after an hour without a broker, that took half a minute and all writers waited."""
    add_job()
    asked: list[tuple[str, Any]] = []
    event.listen(get_engine(), "before_cursor_execute", lambda _c, _cursor, text, values, *_: asked.append((text, values)))
    sweep(quick)
    chosen = [(text, values) for text, values in asked if text.startswith("SELECT") and "outbox" in text]
    assert chosen
    with get_engine().connect() as connection:
        plans = [str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values).all()) for text, values in chosen]
    assert [plan for plan in plans if "CORRELATED" in plan] == []
