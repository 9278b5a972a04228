"""Every step that writes, flushes, renames, commits or publishes fails once, and once is the last of its process: all is whole."""

import contextlib
import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy.exc import OperationalError

from tests.faults.fake_worker import FAKE
from tests.faults.fault_points import DIED, Faults, How, in_fork, on_commit, on_disk, until_it_passes
from tests.faults.invariants import check_data
from tests.rig import add_dataset, add_job, change_row, outbox, row, state
from worker import queue, work
from worker.checkpoints import Checkpoints
from worker.database import Job
from worker.errors import CapacityError
from worker.keeper import sweep
from worker.queue import BrokerError, relay
from worker.settings import Settings
from worker.storage import ASIDE, LocalStorage, get_storage
from worker.supervisor import supervise

HOWS: tuple[How, ...] = ("error", "death")
CONTENT = {"a.bin": b"a" * 70_000, "b.json": b"{}"}


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is called `source` seems to lie on another file system, so that it has to be copied."""
    real = Path.stat

    def stat(self: Path, **options: bool) -> os.stat_result:
        found = real(self, **options)
        return os.stat_result((*found[:2], found.st_dev + 1, *found[3:10])) if self.name == "source" else found

    monkeypatch.setattr(Path, "stat", stat)


def make_source(folder: Path, kind: str) -> Path:
    source = folder / "source"
    if kind == "file":
        source.write_bytes(CONTENT["a.bin"])
    else:
        source.mkdir(exist_ok=True)
        for name, content in CONTENT.items():
            (source / name).write_bytes(content)
    return source


def blob_is_whole(path: Path) -> bool:
    if path.is_dir():
        return {inner.name: inner.read_bytes() for inner in path.iterdir()} == CONTENT
    return path.read_bytes() == CONTENT["a.bin"]


def publish(storage: LocalStorage, source: Path, kind: str) -> None:
    (storage.publish_file if kind == "file" else storage.publish_directory)(source, "datasets/x")


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", ["file", "directory"])
@pytest.mark.parametrize("copied", [False, True])
def test_a_blob_is_whole_or_not_there(tmp_path: Path, request: pytest.FixtureRequest, kind: str, how: How, copied: bool) -> None:
    if copied:
        request.getfixturevalue("elsewhere")

    def attempt(at: int) -> bool:
        folder = tmp_path / str(at)
        folder.mkdir()
        storage, target, source = LocalStorage(folder / "blobs"), folder / "blobs" / "datasets" / "x", make_source(folder, kind)
        faults = Faults(at, how)

        def work() -> None:
            with on_disk(faults, folder):
                publish(storage, source, kind)

        if how == "death":
            struck = in_fork(work) == DIED
        else:
            try:
                work()
            except CapacityError:
                assert list(folder.glob(f"blobs/{ASIDE}*")) == []
            struck = faults.struck
        assert not target.exists() or blob_is_whole(target)
        storage.sweep(interrupted=-1.0, unused=0.0)
        assert (
            [path.name for path in (folder / "blobs").iterdir() if path.name != "datasets"] == [] if (folder / "blobs").exists() else True
        )
        publish(storage, make_source(folder, kind), kind)
        assert blob_is_whole(target)
        return struck

    assert until_it_passes(attempt) >= 4


@pytest.mark.parametrize("how", HOWS)
def test_a_checkpoint_is_whole_or_not_there(tmp_path: Path, how: How) -> None:
    def tensors(step: int) -> dict[str, torch.Tensor]:
        return {"weight": torch.full((100,), float(step))}

    def attempt(at: int) -> bool:
        folder = tmp_path / str(at)
        Checkpoints(folder).save(1, tensors(1), {"step": 1})
        faults = Faults(at, how)

        def work() -> None:
            with on_disk(faults, folder):
                Checkpoints(folder).save(2, tensors(2), {"step": 2})

        if how == "death":
            struck = in_fork(work) == DIED
        else:
            try:
                work()
            except OSError:
                assert list(folder.glob("*.part")) == []
            struck = faults.struck
        again = Checkpoints(folder)
        assert list(folder.glob("*.part")) == []
        found = again.load()
        assert found is not None
        step = found[1]["step"]
        assert step in (1, 2)
        assert torch.equal(found[0]["weight"], tensors(step)["weight"])
        again.save(3, tensors(3), {"step": 3})
        assert (again.load() or ({}, {}))[1] == {"step": 3}
        return struck

    assert until_it_passes(attempt) >= 4


class Sink:
    """A broker that keeps what comes, one step a message."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.faults = Faults(0)

    def send_task(self, _name: str, *, args: list[str], queue: str) -> None:
        self.faults.point(f"send to {queue}", lambda: ConnectionError("down"))
        self.messages += args


@pytest.mark.parametrize("lasting", [False, True])
def test_the_outbox_forgets_nothing(quick: Settings, monkeypatch: pytest.MonkeyPatch, lasting: bool) -> None:
    sink = Sink()
    monkeypatch.setattr(queue, "_celery", lambda: sink)

    def attempt(at: int) -> bool:
        jobs = [add_job() for _ in range(3)]
        faults = sink.faults = Faults(at, lasting=lasting)
        try:
            with on_commit(faults):
                relay()
        except (BrokerError, OperationalError):
            assert faults.struck
        assert set(jobs) <= {*sink.messages, *outbox()}
        sink.faults = Faults(0)
        relay()
        assert outbox() == []
        assert set(jobs) <= set(sink.messages)
        assert all(row(job_id).published_at is not None for job_id in jobs)
        return faults.struck

    assert until_it_passes(attempt) >= 4
    monkeypatch.undo()


MODEL_FILES = {"model.safetensors": b"weights" * 1000, "model.json": b"{}"}


@pytest.fixture
def finishing(fake: Settings, monkeypatch: pytest.MonkeyPatch) -> list[Faults]:
    """A finetune whose child is a fake and whose end is the real one, with the faults of the list."""
    training, faults = work._TRAINING, [Faults(0)]

    def succeed(job: Job, folder: Path, found: dict[str, Any]) -> bool:
        source = folder / f"start-{job.token}"
        source.mkdir()
        for name, content in MODEL_FILES.items():
            (source / name).write_bytes(content)
        with on_disk(faults[0], fake.data_dir), on_commit(faults[0]):
            return training.succeed(job, folder, model_result(found))

    monkeypatch.setitem(work.WORK, "finetune", replace(FAKE, succeed=succeed))
    return faults


def model_result(found: dict[str, Any]) -> dict[str, Any]:
    """What a trainer reports, of a model that was never examined."""
    from models.config import FeatureConfig, ModelManifest, NetworkConfig, Normalization
    from worker.database import new_id

    network = NetworkConfig(
        modality="audio", architecture="resnet_tiny", labels=("no", "yes"), features=FeatureConfig(n_mels=16, clip_seconds=0.25),
        normalization=Normalization(mean=(0.0,) * 16, std=(1.0,) * 16),
    )  # fmt: skip
    digest = hashlib.sha256(MODEL_FILES["model.safetensors"]).hexdigest()
    manifest = ModelManifest(network=network, files={"model.safetensors": digest}, layers={"stem": 10}, parameters=10)
    return {
        "model_id": new_id("mdl"), "manifest": manifest.model_dump(mode="json"), "evaluation": {"splits": {}}, "predictions": None,
        "metrics": {}, "checkpoint": {"step": found["step"], "epoch": 1, "metrics": {}}, "progress": {}, "cancelled": False,
    }  # fmt: skip


def test_a_model_is_named_when_its_files_are_there(finishing: list[Faults], fake: Settings) -> None:
    dataset = add_dataset(blob=get_storage().publish_directory(make_source(fake.data_dir, "directory"), "datasets/tones"))

    def attempt(at: int) -> bool:
        job_id = add_job(dataset, steps=1, pace=0)
        faults = finishing[0] = Faults(at)
        with contextlib.suppress(OperationalError):  # the worker can't write down what happened: the keeper sees its free lock
            supervise(job_id)
        sweep(fake)
        check_data(fake.data_dir)
        assert state(job_id) in ("queued", "succeeded")
        finishing[0] = Faults(0)
        if state(job_id) == "queued":
            assert row(job_id).model_id is None
            change_row(job_id, not_before=None)
            supervise(job_id)
        assert state(job_id) == "succeeded"
        assert row(job_id).model_id is not None
        check_data(fake.data_dir)
        return faults.struck

    assert until_it_passes(attempt) >= 5
