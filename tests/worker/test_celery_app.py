"""How messages travel, and how a worker is told to go."""

import subprocess
import sys

import pytest
from celery.app.defaults import NAMESPACES, flatten

from worker import drain
from worker.celery_app import QUEUES, _forget_connections, configuration
from worker.database import get_engine, now, read
from worker.queue import RUN_TASK
from worker.settings import Settings
from worker.tasks import run

CHILD = """
import os, time
from celery import signals
from worker import drain
drain.install()
read_end, write_end = os.pipe()
if os.fork() == 0:
    while not drain.requested():
        time.sleep(0.01)
    os.write(write_end, b"told")
    os._exit(0)
assert not drain.requested()
signals.worker_shutting_down.send(sender="test", sig="SIGTERM", how="Warm", exitcode=0)
os.write(1, os.read(read_end, 9))
"""


def test_messages_can_carry_an_id_and_nothing_that_runs(settings: Settings) -> None:
    found = configuration(settings)
    assert (found["task_serializer"], found["accept_content"]) == ("json", ["json"])
    assert (found["task_acks_late"], found["task_reject_on_worker_lost"], found["result_backend"]) == (False, False, None)
    assert (found["worker_disable_prefetch"], found["worker_prefetch_multiplier"], found["worker_concurrency"]) == (True, 0, 1)
    assert str(settings.data_dir) in str(found["broker_url"])


def test_every_setting_is_one_that_celery_knows(settings: Settings) -> None:
    assert configuration(settings).keys() <= {name for name, _ in flatten(NAMESPACES)}


def test_the_task_is_found_under_its_name() -> None:
    assert run.name == RUN_TASK
    assert QUEUES == ("train", "data")


def test_a_fork_gets_connections_of_its_own(settings: Settings) -> None:
    before = get_engine()
    with read() as session:
        moment = now(session)
    _forget_connections()
    assert get_engine() is not before
    with read() as session:
        assert now(session) >= moment
    get_engine.cache_clear()
    before.dispose()
    _forget_connections()  # where nothing was connected yet


def test_the_parents_word_reaches_the_forked_child() -> None:
    ended = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, check=True, timeout=30)
    assert ended.stdout == b"told"


def test_nobody_is_told_where_no_flag_was_made() -> None:
    assert not drain.requested()


@pytest.mark.parametrize("arguments", [["--help"], ["--queues"]])
def test_the_command_line_explains_itself(arguments: list[str]) -> None:
    ended = subprocess.run([sys.executable, "-m", "worker.celery_app", *arguments], capture_output=True, check=False, text=True)
    assert "--queues" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
