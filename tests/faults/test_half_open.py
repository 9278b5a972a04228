"""A worker whose connection to the broker is dead without a word: no reset, no end, just silence, as behind a firewall that forgot it."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.faults.conftest import StartWorker
from tests.faults.proxy import Proxy
from tests.rig import add_job, finished, wait_for
from tests.service import wait_until
from worker.embedded import server_binary
from worker.keeper import Keeper
from worker.queue import RUN_TASK, _celery, waiting_messages
from worker.settings import Settings

NOTICED_SECONDS = 60.0
pytestmark = pytest.mark.slow


@pytest.fixture
def proxy(quick: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change_setting: Callable[..., Settings]) -> Iterator[Proxy]:
    """A broker on TCP that this process reaches directly, and the way to it that a worker goes."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen([str(server_binary()), "--port", str(port), "--save", "", "--dir", str(tmp_path)], stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port) as client:
            wait_until(lambda: _answers(client), 10)
        monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{port}/0")
        change_setting(republish_seconds=5.0)
        with Proxy(port) as made:
            yield made
        _celery().close()
    finally:
        server.kill()
        server.wait()


def _answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.fixture
def worker(proxy: Proxy, keeper: Keeper, start_worker: StartWorker) -> subprocess.Popen[bytes]:
    """A worker behind the proxy that has done a job and waits for the next one."""
    started = start_worker(REDIS_URL=f"redis://127.0.0.1:{proxy.port}/0")
    finished(add_job(steps=1), 60)
    wait_until(lambda: waiting_messages("train") == 0, 20)
    time.sleep(1)
    return started


@pytest.mark.parametrize("heals", [True, False])
def test_an_idle_worker_notices_that_its_connection_is_dead(proxy: Proxy, worker: subprocess.Popen[bytes], heals: bool) -> None:
    """Where it heals, what was lost meanwhile stays lost; where it does not, only new connections work."""
    assert proxy.deafen() > 0
    job_id = add_job(steps=1)
    if heals:
        time.sleep(15)
        proxy.heal()
    wait_for(job_id, ("running", "succeeded"), NOTICED_SECONDS)
    assert finished(job_id).token == 1
    assert worker.poll() is None


# What is lost: the message itself, the worker's note that it has taken it, its acknowledgement.
@pytest.mark.parametrize("word", [RUN_TASK.encode(), b"HSET", b"HDEL"])
def test_a_connection_that_dies_with_a_message_on_it(proxy: Proxy, worker: subprocess.Popen[bytes], word: bytes) -> None:
    proxy.deafen_at(word)
    jobs = [add_job(steps=1)]
    wait_until(lambda: not proxy.waits, 20)
    jobs.append(add_job(steps=1))
    began = time.monotonic()
    for job_id in jobs:
        wait_for(job_id, ("running", "succeeded"), began + NOTICED_SECONDS - time.monotonic())
        assert finished(job_id).token == 1
    assert worker.poll() is None
