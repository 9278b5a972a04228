"""A service on Postgres, which dies and comes back while clients ask: they get 503 meanwhile, and no process of ours is started again."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest
from sqlalchemy import create_engine, text

from tests.conftest import sound_archive, tone, wav_bytes
from tests.faults.chaos import FAKES, import_model, post_job, state_counts, upload_tones
from tests.faults.invariants import Answers, check_rows
from tests.servers import Postgres, postgres
from tests.service import Service, wait_until
from worker.states import TERMINAL

ALLOWED = {200, 202, 503}
AWAY_SECONDS = 5.0
SOON = 90.0  # after the last fault: the pause after a failure, a message that is sent again, a start
SOUND = wav_bytes(tone(440, 0.5))


class Clients:
    """Three that go on asking, whatever is answered: for predictions, for the list of jobs, and for jobs, which are noted where taken."""

    def __init__(self, service: Service, answers: Answers, dataset: str) -> None:
        """They begin with the block and end with it."""
        self.taken: list[str] = []
        self._service, self._answers = service, answers
        self._job = {"dataset": dataset, "transfer": {"mode": "none"}, "metadata": {"steps": "20", "pace": "0.05"}}
        self._over = threading.Event()
        asked = (
            ("POST", "/predict", 0.05, {"content": SOUND, "headers": {"Content-Type": "audio/wav"}}),
            ("GET", "/jobs", 0.05, {}),
            ("POST", "/jobs", 0.5, {"json": self._job}),
        )
        self._threads = [threading.Thread(target=self._repeat, args=item) for item in asked]
        self.errors: list[str] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _repeat(self, method: str, path: str, pause: float, request: dict[str, Any]) -> None:
        with httpx2.Client(base_url=self._service.url, timeout=30) as client:
            while not self._over.wait(pause):
                try:
                    answer = client.request(method, path, **request)
                except httpx2.TransportError as error:  # the process that answers does not go away
                    self.errors.append(f"{method} {path}: {type(error).__name__} {error}")
                    continue
                self._answers.take(f"{method} {path}", answer.status_code, answer.headers, answer.content)
                if answer.status_code == 202:
                    self.taken.append(answer.json()["id"])


@contextlib.contextmanager
def running(server: Postgres, tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "service", DATABASE_URL=server.url, **FAKES).start()
    try:
        yield service
    finally:
        service.stop()


def processes(service: Service) -> set[tuple[int, str]]:
    """Those that have to live through it: all but trainers, which end with what their supervisor can't write down."""
    found = {(member.pid, " ".join(member.cmdline())) for member in service.family()}
    return {(pid, line) for pid, line in found if "fake_child" not in line}


@pytest.mark.slow
def test_a_database_that_dies_costs_a_moment_and_no_job(tmp_path: Path) -> None:
    answers = Answers()
    with postgres(tmp_path / "postgres") as server, running(server, tmp_path) as service:
        import_model(service, answers, tmp_path / "artifact")
        dataset = upload_tones(service, answers, sound_archive(words=2, speakers=2, takes=1))
        before, counts = processes(service), dict(answers.counts)
        with Clients(service, answers, dataset) as clients:
            time.sleep(2)
            server.restart()
            time.sleep(4)
            server.stop()
            time.sleep(AWAY_SECONDS)
            server.start()
            time.sleep(4)
        assert clients.errors == []
        assert {status for (_, status), count in answers.counts.items() if count > counts.get((_, status), 0)} == ALLOWED
        last = post_job(service, answers, dataset, steps=2)
        wait_until(lambda: _all_ended(service, answers), SOON, lambda: f"{state_counts(service, answers)} {service.log()}")
        assert processes(service) >= before
        answers.check()
        _check_jobs(server, [*clients.taken, last])
        print(f"{len(clients.taken)} jobs; {sorted(answers.counts.items())}")  # noqa: T201 - shown with a failure


def _all_ended(service: Service, answers: Answers) -> bool:
    counts = state_counts(service, answers)
    return sum(counts.values()) > 0 and not any(count for state, count in counts.items() if state not in TERMINAL)


def _check_jobs(server: Postgres, taken: list[str]) -> None:
    """Every job that was answered with 202 is there and has succeeded, after one terminal event."""
    engine = create_engine(server.url)
    with engine.connect() as connection:
        jobs = [dict(job) for job in connection.execute(text("SELECT * FROM jobs")).mappings()]
        told = connection.execute(text("SELECT job_id, data FROM events WHERE type = 'status' ORDER BY id")).all()
    engine.dispose()
    check_rows(jobs, [(job_id, data) for job_id, data in told], settled=True)
    states = {job["id"]: job["state"] for job in jobs}
    assert {job_id: states.get(job_id) for job_id in taken} == dict.fromkeys(taken, "succeeded")
    assert len(taken) >= 10
