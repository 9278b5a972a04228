"""A broker, a keeper, workers with fake children: real processes on a data directory of the test's own."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import worker.work
from tests.faults import fake_worker
from tests.faults.invariants import check_data
from tests.rig import FAST, process
from worker.embedded import Broker
from worker.keeper import Keeper
from worker.queue import _celery
from worker.settings import Settings

StartWorker = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def quick(settings: Settings, change_setting: Callable[..., Settings]) -> Iterator[Settings]:
    """Short times; what must hold after every fault is checked at the end."""
    _celery.cache_clear()
    changed = change_setting(**FAST)
    yield changed
    check_data(changed.data_dir)
    _celery().close()
    _celery.cache_clear()


@pytest.fixture
def fake(quick: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Jobs that are supervised in this process run fake children."""
    for name in ("finetune", "pretrain"):
        monkeypatch.setitem(worker.work.WORK, name, fake_worker.FAKE)
    return quick


@pytest.fixture
def broker(quick: Settings) -> Iterator[Broker]:
    started = Broker(quick.data_dir)
    started.start()
    yield started
    started.kill()


@pytest.fixture
def keeper(quick: Settings) -> Iterator[Keeper]:
    started = Keeper(quick)
    started.start()
    yield started
    started.stop()


@pytest.fixture
def start_worker(quick: Settings, tmp_path: Path) -> Iterator[StartWorker]:
    """Start workers; each ends with the test. Their log is shown where the test fails."""
    log = tmp_path / "worker.log"
    with contextlib.ExitStack() as stack:

        def start(name: str = "first", **environment: str) -> subprocess.Popen[bytes]:
            command = ("tests/faults/fake_worker.py", "--queues", "train,data", "--name", name)
            return stack.enter_context(process(*command, log=log, PYTHONPATH=".", **environment))

        yield start
    print(log.read_text(errors="replace")[-6000:] if log.exists() else "")  # noqa: T201 - pytest shows it with a failure
