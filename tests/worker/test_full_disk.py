"""A disk that is full in the middle of reading an archive: nothing half-made is to be had, and the archive is there for the next try."""

import sqlite3
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.conftest import picture_archive, sound_archive
from tests.rig import change_row
from worker import datasets
from worker.database import Dataset, Job, read
from worker.errors import StorageFullError
from worker.items import Item, write_items
from worker.settings import Settings
from worker.storage import storage_errors
from worker.supervisor import supervise
from worker.work import WORK, Start, job_folder


@pytest.fixture
def create(settings: Settings) -> Callable[[bytes], dict[str, Any]]:
    """Upload bytes as the API does."""

    def creator(data: bytes) -> dict[str, Any]:
        settings.scratch_dir.mkdir(parents=True, exist_ok=True)
        upload = settings.scratch_dir / "upload"
        upload.write_bytes(data)
        return datasets.create_dataset(upload=upload, sha256="0" * 64, size=len(data), upload_format="zip", name="set")

    return creator


@pytest.fixture
def limit_files(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the first starts of an ingest write no file beyond a size: a disk that is full at that byte, and has room again later."""
    real = WORK["ingest"]
    code = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0})); os.execv(sys.argv[1], sys.argv[1:])"

    def limit(size: int, starts: int = 100) -> None:
        def start(job: Job, folder: Path) -> Start:
            made = real.start(job, folder)
            command = [sys.executable, "-c", code.format(size), *made.command] if job.token <= starts else made.command
            return replace(made, command=command)

        monkeypatch.setitem(WORK, "ingest", replace(real, start=start))

    return limit


# Sounds are longer than the limit together, and each alone; of pictures, the list of files is longer than all of them.
@pytest.mark.parametrize(
    ("archive", "size", "code"),
    [
        (sound_archive(words=2, speakers=2, takes=2), 100_000, "insufficient_storage"),
        (sound_archive(words=2, speakers=2, takes=2), 8192, "insufficient_storage"),
        (picture_archive(labels=2, items=10, side=8), 4096, "dependency_unavailable"),  # SQLite says "disk I/O error" to a limit
    ],
)
def test_a_disk_that_is_full_in_the_middle_publishes_nothing_and_keeps_the_archive(
    create: Callable[[bytes], dict[str, Any]], settings: Settings, limit_files: Callable[..., None], archive: bytes, size: int, code: str
) -> None:
    limit_files(size)
    made = create(archive)
    for _ in range(settings.max_failures):
        assert datasets.get_dataset(made["id"])["status"] == "processing"
        start_now(made["id"])
        assert blobs(settings.data_dir) == [f"uploads/{made['id']}"]
        assert not list(job_folder(ingest_job(made["id"]).id).glob("start-*"))
    found = datasets.get_dataset(made["id"])
    assert (found["status"], found["error"]["code"]) == ("failed", code)
    assert dataset_row(made["id"]).upload == f"uploads/{made['id']}"


def test_a_disk_that_has_room_again_is_enough(
    create: Callable[[bytes], dict[str, Any]], settings: Settings, limit_files: Callable[..., None]
) -> None:
    limit_files(8192, starts=1)
    made = create(sound_archive(words=2, speakers=2, takes=2))
    start_now(made["id"])
    start_now(made["id"])
    assert datasets.get_dataset(made["id"])["status"] == "ready"
    assert sorted({name.split("/")[1] for name in blobs(settings.data_dir)}) == [f"{made['id']}-2"]


def start_now(dataset_id: str) -> None:
    """Start the ingest without waiting for the pause after a failure."""
    job_id = ingest_job(dataset_id).id
    change_row(job_id, not_before=None)
    supervise(job_id)


def test_a_list_of_files_that_finds_no_room_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sqlite3.connect

    def connect(path: Path) -> sqlite3.Connection:
        connection = real(path)
        connection.execute("PRAGMA max_page_count = 2")
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect)
    with pytest.raises(StorageFullError), storage_errors("the list"):
        write_items(tmp_path, [Item(f"{number}.wav", "yes", "train", None, "accepted") for number in range(1000)])


def ingest_job(dataset_id: str) -> Job:
    with read() as session:
        return session.scalars(select(Job).where(Job.dataset_id == dataset_id, Job.type == "ingest")).one()


def dataset_row(dataset_id: str) -> Dataset:
    with read() as session:
        return session.get_one(Dataset, dataset_id)


def blobs(data_dir: Path) -> list[str]:
    root = data_dir / "blobs"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
