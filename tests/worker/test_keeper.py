"""Whose jobs are taken back, and when; who keeps."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rig import FAST, add_dataset, add_job, change_row, forget_messages, outbox, row, state
from tests.service import wait_until
from worker import keeper
from worker.database import new_id
from worker.errors import DependencyError
from worker.keeper import Keeper, start_beside, sweep
from worker.lease import claim
from worker.processes import HostLock, owner_lock, owner_name
from worker.queue import _celery
from worker.settings import Settings, get_settings, host_name
from worker.storage import get_storage


@pytest.fixture(autouse=True)
def _no_broker(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Messages stay in the outbox; a broker that answers is in tests/faults."""
    monkeypatch.setattr(keeper, "waiting_messages", lambda _: 0)
    _celery.cache_clear()
    yield
    _celery.cache_clear()


def test_a_job_whose_owner_lives_is_left_alone_even_long(settings: Settings) -> None:
    job_id, owner = add_job(), owner_name()
    lock = owner_lock(settings.lock_dir, owner)
    assert lock.acquire()
    claim(job_id, owner)
    sweep(settings)
    assert state(job_id) == "running"
    lock.release()  # as the kernel does when the owner dies
    sweep(settings)
    assert (state(job_id), row(job_id).failures) == ("queued", 0)
    assert list(settings.lock_dir.glob("*-*.lock")) == []


@pytest.mark.parametrize("owner", ["another-host:77-1", f"{host_name()}:77-1"])
def test_an_owner_whose_lock_was_never_here_is_judged_by_its_lease(settings: Settings, owner: str) -> None:
    """Another machine, or another container that shares this one's name."""
    job_id = add_job()
    claim(job_id, owner)
    sweep(settings)
    assert state(job_id) == "running"
    change_row(job_id, lease_until=1.0)
    sweep(settings)
    assert state(job_id) == "queued"


@pytest.mark.parametrize(("before", "after"), [("running", "queued"), ("pausing", "paused"), ("cancelling", "cancelled")])
def test_a_lost_job_goes_where_its_user_wanted_it(settings: Settings, before: str, after: str) -> None:
    job_id = add_job()
    claim(job_id, "another-host:1-1")
    change_row(job_id, state=before, lease_until=1.0)
    sweep(settings)
    assert state(job_id) == after
    assert (row(job_id).finished_at is not None) == (after == "cancelled")


def test_messages_are_sent_again_only_when_they_are_late(settings: Settings) -> None:
    job_id = add_job()
    forget_messages()
    change_row(job_id, published_at=row(job_id).created_at)
    sweep(settings)
    assert outbox() == []
    change_row(job_id, published_at=row(job_id).created_at - settings.republish_seconds - 1)
    sweep(settings)
    sweep(settings)
    assert outbox() == [job_id]


def test_only_one_keeper_of_a_host_keeps(change_setting: Callable[..., Settings]) -> None:
    settings = change_setting(**FAST)
    job_id = add_job()
    claim(job_id, "another-host:1-1")
    lock = HostLock(settings.lock_dir, "keeper")
    assert lock.acquire()
    kept = Keeper(settings)
    kept.start()
    change_row(job_id, lease_until=1.0)
    time.sleep(0.7)
    assert state(job_id) == "running"
    lock.release()
    wait_until(lambda: state(job_id) == "queued", 5)
    kept.stop()


def test_a_keeper_outlives_what_goes_wrong(change_setting: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = change_setting(**FAST)
    rounds: list[float] = []
    again = threading.Event()

    def broken() -> int:
        rounds.append(time.monotonic())
        if len(rounds) > 1:
            again.set()
        raise KeyError("a bug")

    monkeypatch.setattr(keeper, "relay", broken)
    kept = Keeper(settings)
    kept.start()
    assert again.wait(10)
    kept.stop()
    assert rounds[1] - rounds[0] >= 0.9  # not at full speed


@pytest.fixture
def stray(change_setting: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A blob that nothing names, and a keeper that looks for such things often."""
    monkeypatch.setattr(keeper, "_COLLECT_SECONDS", 0.05)
    settings = change_setting(stray_seconds=0.01)
    add_dataset()
    folder = settings.data_dir / "blobs" / "artifacts" / new_id("mdl")
    folder.mkdir(parents=True)
    return folder


def test_the_leading_keeper_collects(stray: Path) -> None:
    lock = HostLock(get_settings().lock_dir, "keeper")
    assert lock.acquire()
    kept = Keeper(get_settings())
    kept.start()
    try:
        time.sleep(0.5)
        assert stray.exists()
        lock.release()
        wait_until(lambda: not stray.exists(), 10)
    finally:
        kept.stop()


def test_a_storage_that_fails_stops_no_keeper(stray: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [KeyError("a bug"), DependencyError("the storage does not answer")]
    storage = get_storage()
    real = storage.keys

    def broken(folder: str) -> list[str]:
        if answers:
            raise answers.pop()
        return real(folder)

    monkeypatch.setattr(storage, "keys", broken)
    kept = Keeper(get_settings())
    kept.start()
    try:
        wait_until(lambda: not stray.exists(), 10)
    finally:
        kept.stop()
    assert answers == []


def test_a_keeper_beside_ends_when_told_to(settings: Settings) -> None:
    process = start_beside()
    try:
        assert os.getpgid(process.pid) == process.pid
        wait_until((settings.lock_dir / "keeper.lock").exists, 20)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()
