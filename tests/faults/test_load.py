"""What is promised under load: ten thousand jobs without a broker, and a flood of clients."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import numpy as np
import psutil
import pytest

from tests.conftest import tone, wav_bytes
from tests.faults import flood
from tests.faults.chaos import FAKES, import_model
from tests.faults.invariants import Answers, Footprint, check_data, database
from tests.rig import ROOT, add_dataset
from tests.service import Service, wait_until
from worker.embedded import server_binary
from worker.settings import Settings
from worker.storage import get_storage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
JOBS = int(os.environ.get("FAULTS_JOBS", "10000"))
JOBS_A_SECOND = 5.0  # at least, from post to end
LIST_MILLISECONDS = 100.0
HEALTH_MILLISECONDS = 100.0
CLIENTS = 200
FLOOD_SECONDS = 20.0
KEY = "k" * 43


@pytest.fixture
def port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def start_broker(port: int, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Start a broker at `port`, when it is called."""
    started: list[subprocess.Popen[bytes]] = []
    folder = tmp_path / "redis"
    folder.mkdir()

    def start() -> None:
        command = [str(server_binary()), "--port", str(port), "--save", "", "--dir", str(folder)]
        started.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    yield start
    for process in started:
        process.kill()
        process.wait()


def stored_dataset(settings: Settings) -> str:
    folder = settings.data_dir / "tones"
    folder.mkdir()
    (folder / "items").write_bytes(b"x")
    return add_dataset(blob=get_storage().publish_directory(folder, "datasets/tones"))


def percentile(milliseconds: list[float], share: float) -> float:
    return float(np.percentile(milliseconds, share))


def test_ten_thousand_jobs_without_a_broker(settings: Settings, port: int, start_broker: Callable[[], None]) -> None:
    dataset, answers, listed = stored_dataset(settings), Answers(), list[float]()
    environment = {**FAKES, "FAULTS_CHILD": "nothing", "REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    service = Service(settings.data_dir, **environment).start()
    try:
        began = time.monotonic()
        with httpx2.Client(base_url=service.url, timeout=60) as client, ThreadPoolExecutor(4) as threads:

            def post(number: int) -> str:
                made = client.post("/jobs", json={"dataset": dataset, "transfer": {"mode": "none"}})
                answers.take("POST /jobs", made.status_code, made.headers, made.content)
                if number % 20 == 0:
                    asked = time.perf_counter()
                    answer = client.get("/jobs", params={"limit": 100, "status": "queued"})
                    listed.append((time.perf_counter() - asked) * 1000)
                    assert answer.status_code == 200
                return str(made.json()["id"])

            jobs = list(threads.map(post, range(JOBS)))
            full = client.post("/jobs", json={"dataset": dataset, "transfer": {"mode": "none"}})
            answers.take("one more", full.status_code, full.headers, full.content)
        posted = time.monotonic() - began
        assert answers.counts["POST /jobs", 202] == JOBS == len(set(jobs))
        assert JOBS < 10_000 or full.status_code == 503
        began = time.monotonic()
        start_broker()
        wait_until(lambda: succeeded(settings.data_dir) >= JOBS, 60 + JOBS / JOBS_A_SECOND, service.log)
        ran = time.monotonic() - began
    finally:
        service.stop()
    print(  # noqa: T201 - the figures that the documentation gives
        f"{JOBS} jobs accepted in {posted:.0f} s without a broker, all run once in {ran:.0f} s after its start; "
        f"lists of 100 beside that: p95 {percentile(listed, 95):.0f} ms, most {max(listed):.0f} ms"
    )
    answers.check()
    check_data(settings.data_dir, accepted=jobs)
    with database(settings.data_dir) as connection:
        assert connection.execute("SELECT count(*) FROM jobs WHERE token != 1 AND state = 'succeeded'").fetchone()[0] == 0
    assert percentile(listed, 95) < LIST_MILLISECONDS


def succeeded(data_dir: Path) -> int:
    with database(data_dir) as connection:
        time.sleep(0.5)  # it has better things to do
        return int(connection.execute("SELECT count(*) FROM jobs WHERE state = 'succeeded'").fetchone()[0])


def test_a_flood_of_clients(tmp_path: Path) -> None:
    answers, sound, key = Answers(), wav_bytes(tone(440.0)), {"headers": {"Authorization": f"Bearer {KEY}"}}
    service = Service(tmp_path / "service", SYNESTHESIA_API_KEY=KEY, SYNESTHESIA_BODY_SECONDS="5").start()
    try:
        import_model(service, answers, tmp_path / "artifact", **key)
        asyncio.run(_flood(service.url, sound, answers, seconds=3.0, clients=20))  # warm
        before = Footprint.of(service.find("app.server"))
        prober = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.flood", service.url, str(FLOOD_SECONDS)], stdout=subprocess.PIPE, cwd=ROOT
        )
        taken = asyncio.run(_flood(service.url, sound, answers, seconds=FLOOD_SECONDS, clients=CLIENTS))
        health = json.loads(prober.communicate(timeout=60)[0])
        wait_until(lambda: _connections(service) < 20, 30)
        after = Footprint.of(service.find("app.server"))
    finally:
        service.stop()
    print(  # noqa: T201 - the figures that the documentation gives
        f"health p50 {percentile(health, 50):.1f} ms, p99 {percentile(health, 99):.1f} ms; {dict(answers.counts)}; "
        f"{taken >> 10} KiB of the stranger's; memory {before.rss >> 20} → {after.rss >> 20} MiB"
    )
    answers.check()
    assert answers.counts["predict", 200] > CLIENTS
    assert answers.counts["stranger", 401] >= 1
    after.check_back_at(before, rss=64 * 2**20)
    check_data(service.data_dir)
    assert percentile(health, 99) < HEALTH_MILLISECONDS


async def _flood(url: str, sound: bytes, answers: Answers, *, seconds: float, clients: int) -> int:
    end = time.monotonic() + seconds
    slow = [flood.trickle(url, KEY, answers, end) for _ in range(clients)]
    quick = [flood.predict(url, KEY, sound, answers, end) for _ in range(clients)]
    taken, *_ = await asyncio.gather(flood.stranger(url, answers), *slow, *quick)
    return taken


def _connections(service: Service) -> int:
    found: list[psutil.Process] = service.find("app.server")
    return sum(len([one for one in process.net_connections("tcp") if one.status == psutil.CONN_ESTABLISHED]) for process in found)
