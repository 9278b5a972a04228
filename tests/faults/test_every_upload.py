"""Receiving and reading an archive while any step of it fails, or is the last of its process: taken whole, or told, and nothing is left."""

import hashlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from tests.conftest import sound_archive
from tests.faults.fault_points import Faults, How, on_commit, on_disk, until_it_passes
from tests.faults.invariants import check_data
from tests.rig import change_row
from worker import work
from worker.collector import Collector
from worker.database import Job, read
from worker.datasets import create_dataset, get_dataset
from worker.processes import HostLock
from worker.settings import Settings
from worker.supervisor import supervise
from worker.work import Start


def test_an_upload_is_taken_or_leaves_nothing(quick: Settings, change_setting: Callable[..., Settings]) -> None:
    from app.main import create_app

    archive = sound_archive(words=2, speakers=2, takes=1)
    taken: set[str] = set()

    def attempt(at: int) -> bool:
        faults = Faults(at)
        with on_disk(faults, quick.data_dir / "scratch"), on_commit(faults):
            faults_before = len(faults.steps)
            answer = client.post("/datasets?name=tones", content=archive, headers={"Content-Type": "application/zip"})
        assert len(faults.steps) > faults_before
        if answer.status_code == 202:
            taken.add(str(answer.json()["id"]))
        else:
            assert answer.status_code in (503, 507), answer.text
            assert answer.headers["content-type"] == "application/problem+json"
        assert [path.name for path in quick.scratch_dir.glob("upload-*")] == []
        check_data(quick.data_dir, accepted=taken)
        return faults.struck

    # Whoever holds this lock keeps: so nobody does here, and all commits are the upload's.
    with HostLock(quick.lock_dir, "keeper").held(1.0), TestClient(create_app(quick)) as client:
        assert not attempt(0)  # of what is older than the first row the collector does not know whose it is
        assert until_it_passes(attempt) >= 6
    collector = Collector(change_setting(stray_seconds=-1))
    for _ in range(4):  # two walks: a blob in its place whose folder could not be flushed has no row
        collector.sweep()
    assert {path.name for path in (quick.data_dir / "blobs/uploads").iterdir()} == taken


@pytest.mark.slow
@pytest.mark.parametrize("how", ["error", "death"])
def test_an_ingest_that_finds_no_room_goes_on_when_there_is_some(quick: Settings, monkeypatch: pytest.MonkeyPatch, how: How) -> None:
    real, archive = work.WORK["ingest"], sound_archive(words=2, speakers=2, takes=1)

    def attempt(at: int) -> bool:
        def start(job: Job, folder: Path) -> Start:
            made = real.start(job, folder)
            faulty = [sys.executable, "tests/faults/faulty.py", str(quick.data_dir), str(at), how, made.command[-1]]
            return replace(made, command=faulty) if job.token == 1 else made

        monkeypatch.setitem(work.WORK, "ingest", replace(real, start=start))
        dataset_id = ingested(quick, archive)
        found = get_dataset(dataset_id)
        assert (found["status"], found["items"]) == ("ready", 4), found
        check_data(quick.data_dir, accepted=[dataset_id], settled=True)
        return ingest_job(dataset_id).token == 2

    assert until_it_passes(attempt) >= 5


def ingested(settings: Settings, archive: bytes) -> str:
    """Upload an archive as the API does, and read it: again where the first start failed."""
    settings.scratch_dir.mkdir(parents=True, exist_ok=True)
    upload = settings.scratch_dir / "archive"
    upload.write_bytes(archive)
    digest = hashlib.sha256(archive).hexdigest()
    dataset_id = str(create_dataset(upload=upload, sha256=digest, size=len(archive), upload_format="zip", name="set")["id"])
    for _ in range(2):
        change_row(ingest_job(dataset_id).id, not_before=None)
        supervise(ingest_job(dataset_id).id)
    return dataset_id


def ingest_job(dataset_id: str) -> Job:
    with read() as session:
        return session.scalars(select(Job).where(Job.dataset_id == dataset_id, Job.type == "ingest")).one()
