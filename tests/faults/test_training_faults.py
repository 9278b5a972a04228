"""The real trainer, killed and stopped: what it learns is what it would have learnt undisturbed, to the bit."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file
from sqlalchemy import select

from models.config import JobSpec
from models.dataset import PackedWriter
from models.engine import Engine
from tests.conftest import RATE, tone
from tests.rig import add_dataset, events, finished, process, row, statuses
from tests.service import wait_until
from worker.database import Model, read
from worker.jobs import cancel_job, create_job
from worker.keeper import sweep
from worker.settings import Settings, get_settings
from worker.storage import get_storage, new_scratch
from worker.supervisor import supervise
from worker.work import job_folder

SPEC = {
    "hyperparameters": {"epochs": 3, "batch_size": 8, "early_stopping_patience": None},
    "features": {"n_mels": 16, "hop_ms": 20.0, "clip_seconds": 0.25},
    "base_model": "resnet_tiny",
}


@pytest.fixture
def dataset(quick: Settings, monkeypatch: pytest.MonkeyPatch) -> str:
    """Tones of three pitches, packed as the ingester packs them."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = new_scratch("tones")
    splits = ["train"] * 8 + ["validation"] * 2 + ["test"] * 2
    with PackedWriter(folder, "audio", sample_rate=RATE) as writer:
        for index in range(36):
            wave = tone(300 * (1 + index % 3), 0.25 + 0.01 * (index % 2), seed=index)
            writer.append((wave * 32767).astype(np.int16))
        writer.finish(
            labels=("low", "middle", "high"), item_labels=[index % 3 for index in range(36)],
            item_splits=[splits[index // 3] for index in range(36)], item_groups=[-1] * 36, group_names=(), summary={},
        )  # fmt: skip
    return add_dataset(blob=get_storage().publish_directory(folder, "datasets/tones"))


def make_job(dataset: str, **hyperparameters: object) -> str:
    spec = {**SPEC, "dataset": dataset, "hyperparameters": {**SPEC["hyperparameters"], **hyperparameters}}
    return str(create_job(JobSpec.model_validate_json(json.dumps(spec)))["id"])


def weights_of(job_id: str) -> dict[str, np.ndarray]:
    model_id = row(job_id).model_id
    with read() as session:
        model = session.scalar(select(Model).where(Model.id == model_id))
    assert model is not None
    return load_file(get_storage().fetch_directory(model.blob) / "model.safetensors")


def in_thread(job_id: str) -> threading.Thread:
    thread = threading.Thread(target=supervise, args=(job_id,))
    thread.start()
    return thread


def trainer_of(pid: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(pid).children(recursive=True) if "worker.trainer" in " ".join(child.cmdline())]


def wait_for_checkpoint(job_id: str, step: int) -> None:
    wait_until(lambda: any(event.type == "checkpoint" and event.data["step"] >= step for event in events(job_id)), 60)


def test_a_killed_trainer_learns_what_an_undisturbed_one_does(dataset: str, tmp_path: Path) -> None:
    undisturbed, disturbed = make_job(dataset), make_job(dataset)
    supervise(undisturbed)
    assert row(undisturbed).state == "succeeded", row(undisturbed).error
    with process("-c", f"from worker.supervisor import supervise; supervise({disturbed!r})", log=tmp_path / "log") as supervisor:
        wait_for_checkpoint(disturbed, 4)
        trainers = trainer_of(supervisor.pid)
        assert len(trainers) == 1
        supervisor.kill()
        assert not psutil.wait_procs(trainers, timeout=5)[1]  # it does not outlive who watches over it
    assert row(disturbed).state == "running"  # until a keeper sees that nobody holds the lock
    sweep(get_settings())
    assert row(disturbed).state == "queued"
    _tear_newest(disturbed)  # as a power cut may; the checkpoint before it serves
    supervise(disturbed)
    job = row(disturbed)
    assert (job.state, job.token, job.failures) == ("succeeded", 2, 0), job.error
    [went_on] = [event.data["step"] for event in events(disturbed) if event.message.startswith("going on from step")]
    assert went_on >= 3
    expected, found = weights_of(undisturbed), weights_of(disturbed)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    keep = ("validation_accuracy", "test_accuracy", "epochs", "steps")
    assert {name: job.metrics[name] for name in keep} == {name: row(undisturbed).metrics[name] for name in keep}


def _tear_newest(job_id: str) -> None:
    newest = max((job_folder(job_id) / "checkpoints").glob("*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-100])


def test_a_job_that_runs_may_use_the_room_that_is_kept_for_it(dataset: str, change_setting: Callable[..., Settings]) -> None:
    """Below the share of the disk from which on nothing new is taken in: checkpoints and a model are written all the same."""
    job_id = make_job(dataset)
    change_setting(min_free_fraction=1.0)
    supervise(job_id)
    assert row(job_id).state == "succeeded", row(job_id).error
    assert [event for event in events(job_id) if event.type == "checkpoint" and "step" in event.data]
    assert weights_of(job_id)


def test_cancel_leaves_a_model_that_can_be_served(dataset: str) -> None:
    job_id = make_job(dataset, epochs=500)
    thread = in_thread(job_id)
    wait_for_checkpoint(job_id, 4)
    cancel_job(job_id)
    job = finished(job_id, 30)
    thread.join()
    assert (job.state, job.error) == ("cancelled", None)
    assert statuses(job_id)[-2:] == ["cancelling", "cancelled"]
    with read() as session:
        model = session.get_one(Model, job.model_id)
    engine = Engine.load(get_storage().fetch_directory(model.blob))
    assert engine is not None
    assert 0 < job.metrics["epochs"] < 500
    assert not (get_settings().scratch_dir / "jobs" / job_id).exists()
