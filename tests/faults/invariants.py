"""What holds after every fault, read from the outside: the database file, the data directory, the answers, the processes."""

import contextlib
import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.app.conftest import check_problem_parts
from worker.states import ACTIVE, TERMINAL
from worker.storage import ASIDE

DECLARED = (503, 507)  # the only answers of the 500s: ours, for now
_STATES = ("queued", "paused", *ACTIVE, *TERMINAL)
_NO_FILES = "0" * 64  # the hash of a dataset that a test has made of a row alone
_TABLES = {"ds": "datasets", "job": "jobs", "mdl": "models"}


@contextlib.contextmanager
def database(data_dir: Path) -> Iterator[sqlite3.Connection]:
    """The database, as it stands, to be read only."""
    connection = sqlite3.connect(f"file:{data_dir / 'synesthesia.db'}?mode=ro", uri=True, timeout=30)
    connection.row_factory = sqlite3.Row
    try:
        yield connection
    finally:
        connection.close()


def check_jobs(data_dir: Path, *, settled: bool = False) -> None:
    """One state a job, at most one terminal event and nothing after it, tokens that only rise. `settled`: all have ended."""
    with database(data_dir) as connection:
        jobs = [dict(job) for job in connection.execute("SELECT * FROM jobs")]
        events = connection.execute("SELECT job_id, data FROM events WHERE type = 'status' ORDER BY id").fetchall()
    check_rows(jobs, [(job_id, json.loads(data)) for job_id, data in events], settled=settled)


def check_rows(jobs: Sequence[Mapping[str, Any]], events: Iterable[tuple[str, dict[str, Any]]], *, settled: bool = False) -> None:
    """As `check_jobs`, of rows that were read from any database: jobs, and the data of their status events with the job's id, by age."""
    told: dict[str, list[dict[str, Any]]] = {job["id"]: [] for job in jobs}
    for job_id, data in events:
        if job_id in told:  # not of a job that was made between the two questions
            told[job_id].append(data)
    for job in jobs:
        _check_job(job, told[job["id"]])
        assert not settled or job["state"] in TERMINAL, f"{job['id']} is {job['state']}: {told[job['id']]}"


def _check_job(job: Mapping[str, Any], events: list[dict[str, Any]]) -> None:
    state = job["state"]
    assert state in _STATES
    seen = [event["status"] for event in events]
    terminal = [status for status in seen if status in TERMINAL]
    assert len(terminal) <= 1, seen
    assert seen[-1] == state, seen
    assert (state in TERMINAL) == bool(terminal) == (job["finished_at"] is not None)
    assert (state in ACTIVE) == (job["owner"] is not None) == (job["lease_until"] is not None)
    starts = [event["attempt"] for event in events if event["status"] == "running" and "attempt" in event]
    assert starts == list(range(1, len(starts) + 1))
    assert job["token"] == len(starts)


def check_data(data_dir: Path, *, accepted: Iterable[str] = (), settled: bool = False) -> None:
    """All of it: the database is intact, what was accepted is there, references lead to whole files, nothing half-made lies about."""
    with database(data_dir) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        for name in accepted:
            table = _TABLES[name.partition("_")[0]]
            assert connection.execute(f"SELECT count(*) FROM {table} WHERE id = ?", (name,)).fetchone()[0] == 1, f"{name} is lost"
        datasets = connection.execute("SELECT * FROM datasets WHERE status != 'deleted' AND sha256 != ?", (_NO_FILES,)).fetchall()
        models = connection.execute("SELECT * FROM models WHERE deleted_at IS NULL").fetchall()
    check_jobs(data_dir, settled=settled)
    blobs = data_dir / "blobs"
    for dataset in datasets:
        _check_dataset(blobs, dataset)
    for model in models:
        assert sha256_of(blobs / model["blob"] / "model.safetensors") == model["sha256"], model["id"]
    assert half_made(data_dir) == []


def _check_dataset(blobs: Path, dataset: sqlite3.Row) -> None:
    if dataset["upload"] is not None:
        assert sha256_of(blobs / dataset["upload"]) == dataset["sha256"], dataset["id"]
    if dataset["blob"] is not None:
        assert list((blobs / dataset["blob"]).iterdir()), dataset["id"]
    assert dataset["status"] != "ready" or dataset["blob"] is not None, dataset["id"]


def half_made(data_dir: Path) -> list[str]:
    """Return what interrupted writes have left among blobs and uploads; a job's own folder is its trainer's business until it ends."""
    found = [*(data_dir / "blobs").glob(f"{ASIDE}*"), *(data_dir / "scratch").glob("upload-*"), *data_dir.glob("*.tmp")]
    return sorted(path.relative_to(data_dir).as_posix() for path in found)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_of(folder: Path, *, without: Path | None = None) -> set[str]:
    """Return every path below `folder` but those below `without`: taken before and after, it shows what was written outside."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if without is None or not path.is_relative_to(without)}


@dataclass
class Answers:
    """Every answer of a run. Each is judged as it comes, and counted."""

    counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    """(what was asked, status) → how often"""
    wrong: list[str] = field(default_factory=list)

    def take(self, what: str, status: int, headers: Mapping[str, str], content: bytes) -> None:
        """Note one answer: no 5xx but the declared ones, and each error is a problem with a published code that gives nothing away."""
        self.counts[what, status] += 1
        try:
            assert status < 500 or status in DECLARED, content[:300]
            if status >= 400:
                lower = {name.lower(): value for name, value in headers.items()}
                check_problem_parts(status, lower, content, str(json.loads(content)["code"]))
        except (AssertionError, ValueError, KeyError) as error:
            self.wrong.append(f"{what} {status}: {str(error)[:300]}")

    def check(self) -> None:
        """Assert that none was wrong."""
        assert self.wrong == [], self.wrong[:5]


@dataclass(frozen=True)
class Footprint:
    """What a process tree takes of the machine."""

    rss: int
    """bytes"""
    descriptors: int
    threads: int
    processes: int

    @classmethod
    def of(cls, processes: Iterable[psutil.Process]) -> "Footprint":
        """Measure processes together; one that ends meanwhile counts as nothing."""
        rss = descriptors = threads = count = 0
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied), process.oneshot():
                rss += process.memory_info().rss
                descriptors += process.num_fds()
                threads += process.num_threads()
                count += 1
        return cls(rss, descriptors, threads, count)

    def check_back_at(self, before: "Footprint", *, rss: int) -> None:
        """Assert that this is what it was `before`, but for `rss` bytes and a few descriptors and threads of pools."""
        assert self.rss <= before.rss + rss, f"{self} after {before}"
        assert self.descriptors <= before.descriptors + 30, f"{self} after {before}"
        assert self.threads <= before.threads + 30, f"{self} after {before}"
        assert self.processes <= before.processes, f"{self} after {before}"
