"""What happens to a database while a service works on it: it dies and comes back, and a newer version changes its schema.

Clients get 503 meanwhile at most, and no process of ours has to be started again.
"""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from tests.conftest import sound_archive
from tests.faults.chaos import FAKES, import_model, post_job, state_counts, upload_tones
from tests.faults.clients import Clients
from tests.faults.invariants import Answers, check_data, check_rows
from tests.rig import NEWER_SCHEMA
from tests.servers import Postgres, postgres
from tests.service import PARTS, Service, wait_until
from worker.database import get_engine, read
from worker.settings import Settings, get_settings
from worker.states import TERMINAL

AWAY_SECONDS = 5.0
SOON = 90.0  # after the last fault: the pause after a failure, a message that is sent again, a start


@contextlib.contextmanager
def running(data_dir: Path, **environment: str) -> Iterator[Service]:
    service = Service(data_dir, **environment, **FAKES).start()
    try:
        yield service
    finally:
        service.stop()


def prepared(service: Service, answers: Answers, tmp_path: Path) -> str:
    """Give a service a model to predict with and a dataset, whose id is returned."""
    import_model(service, answers, tmp_path / "artifact")
    dataset = upload_tones(service, answers, sound_archive(words=2, speakers=2, takes=1))
    answers.counts.clear()
    return dataset


def processes(service: Service) -> set[tuple[int, str]]:
    """Those that have to live through it: all but trainers, which end with what their supervisor can't write down."""
    found = {(member.pid, " ".join(member.cmdline())) for member in service.family()}
    return {(pid, line) for pid, line in found if "fake_child" not in line}


def wait_for_calm(service: Service, answers: Answers) -> None:
    """Return when every job has ended."""

    def calm() -> bool:
        counts = state_counts(service, answers)
        return sum(counts.values()) > 0 and not any(count for state, count in counts.items() if state not in TERMINAL)

    wait_until(calm, SOON, lambda: f"{state_counts(service, answers)} {service.log()}")


def check_taken(url: str, taken: list[str]) -> None:
    """Every job that was answered with 202 is there and has succeeded, after one terminal event."""
    engine = create_engine(url)
    with engine.connect() as connection:
        jobs = [dict(job) for job in connection.execute(text("SELECT * FROM jobs")).mappings()]
        told = connection.execute(text("SELECT job_id, data FROM events WHERE type = 'status' ORDER BY id")).all()
    engine.dispose()
    check_rows(jobs, [(job_id, json.loads(data) if isinstance(data, str) else data) for job_id, data in told], settled=True)
    states = {job["id"]: job["state"] for job in jobs}
    assert {job_id: states.get(job_id) for job_id in taken} == dict.fromkeys(taken, "succeeded")


@pytest.mark.slow
def test_a_postgres_that_dies_costs_a_moment_and_no_job(tmp_path: Path) -> None:
    answers = Answers()
    with postgres(tmp_path / "postgres") as server, running(tmp_path / "service", DATABASE_URL=server.url) as service:
        dataset = prepared(service, answers, tmp_path)
        before = processes(service)
        with Clients(service, answers, dataset) as clients:
            _restart_twice(server)
        assert clients.errors == []
        assert {status for _, status in answers.counts} == {200, 202, 503}
        last = post_job(service, answers, dataset, steps=2)
        wait_for_calm(service, answers)
        assert processes(service) >= before, "nothing was started again"
        assert len(clients.taken) >= 10
        check_taken(server.url, [*clients.taken, last])
    answers.check()


def _restart_twice(server: Postgres) -> None:
    time.sleep(2)
    server.restart()
    time.sleep(4)
    server.stop()
    time.sleep(AWAY_SECONDS)
    server.start()
    time.sleep(4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_newer_version_migrates_beside_a_service_at_work(tmp_path: Path, kind: str) -> None:
    """The parts of this version go on, and those that are started again find the schema newer than they know and leave it alone."""
    answers, data_dir = Answers(), tmp_path / "service"
    with contextlib.ExitStack() as stack:
        url = f"sqlite:///{data_dir / 'synesthesia.db'}"
        environment = {}
        if kind == "postgresql":
            url = environment["DATABASE_URL"] = stack.enter_context(postgres(tmp_path / "postgres")).url
        service = stack.enter_context(running(data_dir, **environment))
        dataset = prepared(service, answers, tmp_path)
        with Clients(service, answers, dataset) as clients:
            time.sleep(2)
            _migrate(url)
            time.sleep(2)
            for process in service.find(*PARTS["worker"]):
                process.kill()
            time.sleep(3)
        assert clients.errors == []
        assert {status for _, status in answers.counts} == {200, 202}
        wait_for_calm(service, answers)
        assert len(clients.taken) >= 5
        check_taken(url, clients.taken)
    if kind == "sqlite":
        check_data(data_dir, accepted=clients.taken, settled=True)
    answers.check()


def _migrate(url: str) -> None:
    """As Alembic does, in one transaction."""
    engine = create_engine(url, connect_args={"timeout": 30} if url.startswith("sqlite") else {})
    with engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # the driver would begin none for these statements
        for statement in NEWER_SCHEMA:
            connection.execute(text(statement))
    engine.dispose()


@pytest.mark.slow
def test_a_database_that_accepts_and_says_nothing_is_given_up(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("DATABASE_URL", f"postgresql+psycopg://127.0.0.1:{silent.getsockname()[1]}/postgres")
        get_settings.cache_clear()
        get_engine.cache_clear()
        began = time.monotonic()
        with pytest.raises(OperationalError), read() as session:
            session.execute(text("SELECT 1"))
        assert time.monotonic() - began < 30
