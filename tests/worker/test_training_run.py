"""One start of a training, in this process: what it reports, where it stops, what it goes on from."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.config import JobSpec
from models.dataset import PackedWriter
from models.errors import DatasetError, Interrupted, UnavailableError
from models.manifest import read_manifest
from tests.conftest import RATE, tone
from worker.checkpoints import Checkpoints
from worker.orders import BaseOrder, TrainingOrder
from worker.training_run import TrainingRun, training_device

torch.set_num_threads(1)
SPEC = {
    "dataset": "ds_1",
    "hyperparameters": {"epochs": 2, "batch_size": 8, "early_stopping_patience": None},
    "features": {"n_mels": 16, "hop_ms": 20.0, "clip_seconds": 0.25},
}


class Wishes:
    """Wants something from a number of reports of training on."""

    def __init__(self) -> None:
        self.release = False
        self.finish = False

    @property
    def stop(self) -> bool:
        return self.release or self.finish


class Reports(list[tuple[str, dict[str, Any]]]):
    """Keeps what is reported, and does something at the first of a kind."""

    def __init__(self, kind: str = "", do: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._kind, self._do = kind, do

    def __call__(self, kind: str, **fields: Any) -> None:
        json.dumps(fields, allow_nan=False)
        self.append((kind, fields))
        if kind == self._kind:
            self._do()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [fields for found, fields in self if found == kind]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    with PackedWriter(folder, "audio", sample_rate=RATE) as writer:
        for index in range(32):
            writer.append((tone(400 * (1 + index % 2), 0.25, seed=index) * 32767).astype(np.int16))
        splits: list[Any] = ["train"] * 20 + ["validation"] * 6 + ["test"] * 6
        writer.finish(
            labels=("low", "high"), item_labels=[index % 2 for index in range(32)], item_splits=splits,
            item_groups=[-1] * 32, group_names=(), summary={},
        )  # fmt: skip
    return folder


@pytest.fixture
def order(packed: Path, tmp_path: Path) -> TrainingOrder:
    return TrainingOrder(
        job_id="job_1", token=1, parent_pid=1, spec=JobSpec.model_validate(SPEC, strict=False), dataset_directory=packed,
        dataset_sha256="0" * 64, model_id="mdl_1", folder=tmp_path, device="cpu", threads=1, checkpoint_seconds=0.0,
    )  # fmt: skip


def run(order: TrainingOrder, reports: Reports, wishes: Wishes | None = None) -> dict[str, Any]:
    return TrainingRun(order, reports, wishes or Wishes()).run()  # type: ignore[arg-type]  # Reports is called as a Reporter is


def test_a_whole_start(order: TrainingOrder) -> None:
    reports = Reports()
    result = run(order, reports)
    assert (result["model_id"], result["cancelled"]) == ("mdl_1", False)
    [resolved] = reports.of("resolved")
    assert "auto" not in json.dumps(resolved["spec"])
    assert [metrics["epoch"] for metrics in reports.of("metrics")] == [1, 2]
    phases = [line["phase"] for line in reports.of("progress")]
    assert phases[0] == "preparing"
    assert phases[-2:] == ["evaluating", "exporting"]
    manifest = read_manifest(order.staging)
    assert manifest.lineage[-1].job == "job_1"
    assert manifest.training is not None
    assert manifest.training.hyperparameters.epochs == 2
    assert set(result["evaluation"]["splits"]) == {"train", "validation", "test"}
    assert result["metrics"]["steps"] == reports.of("checkpoint")[-1]["step"]


def test_a_release_saves_and_the_next_start_goes_on_there(order: TrainingOrder) -> None:
    wishes = Wishes()
    lazy = order.model_copy(update={"checkpoint_seconds": 1e9})
    with pytest.raises(Interrupted):
        run(lazy, Reports("metrics", lambda: setattr(wishes, "release", True)), wishes)
    found = Checkpoints(order.folder / "checkpoints").load()
    assert found is not None
    again = Reports()
    run(order, again)
    assert [metrics["epoch"] for metrics in again.of("metrics")] == [2]
    assert again.of("message")[0]["message"].startswith("going on from step")


def test_the_model_tells_how_layers_were_carried_over(order: TrainingOrder, tmp_path: Path) -> None:
    run(order, Reports())
    base = BaseOrder(name="mdl_1", model_id="mdl_1", directory=order.staging)
    transfer = {"freeze": "gradual", "regularize": "l2_sp", "interpolate": 0.5, "statistics": "target"}
    spec = JobSpec.model_validate(SPEC | {"base_model": "mdl_1", "transfer": transfer}, strict=False)
    folder = tmp_path / "second"
    wishes = Wishes()
    second = order.model_copy(update={"spec": spec, "bases": (base,), "folder": folder})
    result = run(second, Reports("metrics", lambda: setattr(wishes, "finish", True)), wishes)
    record = read_manifest(second.staging).transfer
    assert record.mode == "full"
    assert list(record.thaw) == list(record.shared_layers)
    assert (record.penalty, record.interpolation, record.statistics) == (0.01, 0.5, "target"), "a job that is ended early is mixed too"
    assert result["cancelled"]


def test_a_wish_to_finish_makes_the_model_now(order: TrainingOrder) -> None:
    wishes = Wishes()
    result = run(order, Reports("metrics", lambda: setattr(wishes, "finish", True)), wishes)
    assert result["cancelled"]
    assert result["metrics"]["epochs"] == 1
    assert (order.staging / "model.onnx").exists()


def test_a_checkpoint_of_another_job_is_not_taken(order: TrainingOrder) -> None:
    run(order, Reports())
    other = order.model_copy(update={"spec": order.spec.model_copy(update={"seed": 9})})
    reports = Reports()
    run(other, reports)
    [warning] = [line for line in reports.of("message") if line.get("level") == "warning"]
    assert "begins anew" in warning["message"]
    assert [metrics["epoch"] for metrics in reports.of("metrics")] == [1, 2]


def test_a_full_disk_costs_checkpoints_and_not_the_job(order: TrainingOrder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Checkpoints, "save", full)
    reports = Reports()
    result = run(order, reports)
    assert result["metrics"]["epochs"] == 2
    assert reports.of("checkpoint") == []
    assert "No space left" in reports.of("message")[0]["message"]


def test_a_dataset_that_is_not_there(order: TrainingOrder, tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        run(order.model_copy(update={"dataset_directory": tmp_path / "gone"}), Reports())


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training_device("auto").type == training_device("cpu").type == "cpu"
    with pytest.raises(UnavailableError) as raised:
        training_device("cuda")
    assert raised.value.code == "device_unavailable"
