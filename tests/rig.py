"""Jobs without the API: rows for them, processes that work on them, and what must hold whatever happened."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import delete, select, update

from models.config import JobSpec
from tests.faults.invariants import check_jobs
from worker.database import Dataset, Event, Job, Outbox, new_id, now, read, write
from worker.jobs import create_job
from worker.settings import get_settings
from worker.states import TERMINAL

ROOT = Path(__file__).parent.parent
NEWER_SCHEMA = (
    *(f"ALTER TABLE {table} ADD COLUMN invented VARCHAR DEFAULT 'x'" for table in ("jobs", "datasets", "models", "events")),
    "CREATE TABLE invented (id INTEGER PRIMARY KEY, job_id VARCHAR REFERENCES jobs (id))",
    "UPDATE alembic_version SET version_num = '9999'",
)
"""what the migration of a newer version may do: further columns, a further table"""
FAST = {
    "lease_seconds": 3.0,
    "heartbeat_seconds": 0.2,
    "janitor_seconds": 0.2,
    "republish_seconds": 1.0,
    "stop_grace_seconds": 5.0,
    "checkpoint_seconds": 0.0,
    "threads": 1,
}


def add_dataset(*, modality: str = "audio", status: str = "ready", blob: str | None = None) -> str:
    """Insert a dataset row; a fake child needs no more."""
    with write() as session:
        dataset = Dataset(
            id=new_id("ds"), name="tones", modality=modality, status=status, upload=None, upload_format="zip",
            sha256="0" * 64, size_bytes=1, blob=blob, summary={}, created_at=now(session),
        )  # fmt: skip
        session.add(dataset)
        return dataset.id


def add_job(dataset: str | None = None, **plan: Any) -> str:
    """Queue a job on a dataset; `plan` is what its fake child does (tests/faults/fake_child.py)."""
    spec = JobSpec(dataset=dataset or add_dataset(), metadata={name: str(value) for name, value in plan.items()})
    return str(create_job(spec)["id"])


def row(job_id: str) -> Job:
    """The job as it stands."""
    with read() as session:
        return session.get_one(Job, job_id)


def state(job_id: str) -> str:
    return row(job_id).state


def change_row(job_id: str, **values: Any) -> None:
    """Do to a job what time or another host would do."""
    with write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(**values))


def statuses(job_id: str) -> list[str]:
    """Every status the job went through, oldest first."""
    return [event.data["status"] for event in events(job_id) if event.type == "status"]


def events(job_id: str) -> list[Event]:
    with read() as session:
        return list(session.scalars(select(Event).where(Event.job_id == job_id).order_by(Event.id)))


def outbox() -> list[str]:
    """Jobs whose message is yet to be sent, oldest message first."""
    with read() as session:
        return list(session.scalars(select(Outbox.job_id).order_by(Outbox.id)))


def forget_messages() -> None:
    """Empty the outbox, as if all had been sent and lost."""
    with write() as session:
        session.execute(delete(Outbox))


def check_invariants() -> None:
    """Hold the jobs of this process's database against what is true of jobs whatever happened."""
    check_jobs(get_settings().data_dir)


def finished(job_id: str, seconds: float = 20.0) -> Job:
    """Return a job's row once it has ended."""
    return wait_for(job_id, TERMINAL, seconds)


def wait_for(job_id: str, states: tuple[str, ...], seconds: float = 20.0) -> Job:
    deadline = time.monotonic() + seconds
    while (job := row(job_id)).state not in states:
        assert time.monotonic() < deadline, f"{job_id} is {job.state} after {seconds} s: {statuses(job_id)}"
        time.sleep(0.02)
    return job


@contextlib.contextmanager
def process(*command: str, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process in its own session, which is killed at the end with everything that it started."""
    with log.open("ab") as sink:
        started = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, start_new_session=True,
        )  # fmt: skip
    try:
        yield started
    finally:
        for member in family(started.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def family(pid: int) -> list[psutil.Process]:
    """A process and everything below it, as far as they live."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def children_named(pid: int, word: str) -> list[psutil.Process]:
    """Processes below `pid` whose command line holds `word`."""
    found = []
    for member in family(pid)[1:]:
        with contextlib.suppress(psutil.NoSuchProcess):
            if member.status() != psutil.STATUS_ZOMBIE and word in " ".join(member.cmdline()):
                found.append(member)
    return found
