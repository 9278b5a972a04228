"""A quote's probe in this process: held against the start of a job that it foretells."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.config import JobSpec
from models.dataset import PackedDataset, PackedWriter
from models.errors import ConfigError
from tests.conftest import RATE, tone
from worker.bench import Sample
from worker.orders import BaseOrder, TrainingOrder
from worker.probing import Probe
from worker.training_run import TrainingRun

torch.set_num_threads(1)
FEATURES = {"n_mels": 16, "clip_seconds": 0.25}


class Wishes:
    """Wants nothing."""

    release = False
    finish = False
    stop = False


class Reports(list[tuple[str, dict[str, Any]]]):
    def __call__(self, kind: str, **fields: Any) -> None:
        self.append((kind, fields))


def pack(folder: Path, *, seconds: float) -> Path:
    folder.mkdir()
    with PackedWriter(folder, "audio", sample_rate=RATE) as writer:
        for index in range(60):
            writer.append((tone(400 * (1 + index % 2), seconds, seed=index) * 32767).astype(np.int16))
        splits: list[Any] = ["train"] * 40 + ["validation"] * 12 + ["test"] * 8
        writer.finish(
            labels=("low", "high"), item_labels=[index % 2 for index in range(60)], item_splits=splits,
            item_groups=[-1] * 60, group_names=(), summary={},
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("sets") / "quarter", seconds=0.25)


@pytest.fixture(scope="module", autouse=True)
def short() -> Any:
    """A pace is measured in a moment: these tests ask what is measured, not how well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.bench._PROBE_SECONDS", 0.05)
        patch.setattr("worker.bench._ITEM_SECONDS", 0.01)
        yield


@pytest.fixture
def make_order(packed: Path, tmp_path: Path) -> Callable[..., TrainingOrder]:
    def make(*, bases: tuple[BaseOrder, ...] = (), dataset: Path = packed, **fields: Any) -> TrainingOrder:
        fields["hyperparameters"] = {"epochs": 8, "batch_size": 8} | fields.get("hyperparameters", {})
        body = {"dataset": "ds_1", "type": "finetune", "base_model": None, "features": FEATURES} | fields
        return TrainingOrder(
            job_id="job_1", token=1, parent_pid=1, spec=JobSpec.model_validate(body, strict=False), dataset_directory=dataset,
            dataset_sha256="0" * 64, bases=bases, model_id="mdl_1", folder=tmp_path / "job", device="cpu", threads=1,
            checkpoint_seconds=10.0,
        )  # fmt: skip

    return make


def probe(order: TrainingOrder) -> dict[str, Any]:
    found = Probe(order, 0.0).run()
    json.dumps(found, allow_nan=False)
    assert not order.folder.exists(), "a probe writes nothing"
    return found


def seconds_of(quote: dict[str, Any], name: str) -> dict[str, float]:
    [found] = [stage["seconds"] for stage in quote["stages"] if stage["name"] == name]
    return dict(found)


def test_a_quote_says_what_the_job_then_does(make_order: Callable[..., TrainingOrder], tmp_path: Path) -> None:
    order = make_order(dataset=pack(tmp_path / "longer", seconds=0.3), hyperparameters={"epochs": 3, "early_stopping_patience": None})
    quote = probe(order)
    reports = Reports()
    order.folder.mkdir()
    result = TrainingRun(order.model_copy(update={"checkpoint_seconds": 0.0}), reports, Wishes()).run()  # type: ignore[arg-type]  # a Reporter's call
    [resolved] = [fields["spec"] for kind, fields in reports if kind == "resolved"]
    assert quote["resolved"] == resolved
    assert quote["steps"] == result["metrics"]["steps"] == 15
    assert quote["total_parameters"] == quote["trainable_parameters"] == result["manifest"]["parameters"]
    files = sum(path.stat().st_size for path in order.folder.rglob("*") if path.is_file())
    assert files <= quote["disk_bytes"] <= 1.6 * files + 3e6, "two of three checkpoints are left"
    assert [stage["name"] for stage in quote["stages"]] == ["starting", "preparing", "training", "evaluating", "exporting"]
    assert quote["device"] == "cpu"
    assert 2**28 < quote["peak_memory_bytes"] < 2**33


def test_seconds_are_an_interval_that_adds_up(make_order: Callable[..., TrainingOrder]) -> None:
    quote = probe(make_order())
    for end in ("low", "expected", "high"):
        total = sum(stage["seconds"][end] for stage in quote["stages"])
        assert quote["estimated_seconds"][end] == pytest.approx(total, abs=0.05)
    spans = [quote["estimated_seconds"], *(stage["seconds"] for stage in quote["stages"])]
    assert all(0 <= span["low"] <= span["expected"] <= span["high"] for span in spans)


def test_more_epochs_take_more_and_a_limit_ends_them(make_order: Callable[..., TrainingOrder]) -> None:
    patient = {"early_stopping_patience": None}
    few, many = (probe(make_order(hyperparameters={"epochs": epochs, **patient})) for epochs in (10, 1000))
    assert many["steps"] == 100 * few["steps"]
    assert seconds_of(many, "training")["expected"] > 20 * seconds_of(few, "training")["expected"]
    ended = probe(make_order(hyperparameters={"epochs": 1000, "max_seconds": 0.5}))
    assert seconds_of(ended, "training")["high"] == 0.5
    assert any("max_seconds" in warning for warning in ended["warnings"])


def test_a_training_that_may_stop_early_has_a_low_end(make_order: Callable[..., TrainingOrder]) -> None:
    options = {"epochs": 1000, "schedule": "constant"}
    steady = seconds_of(probe(make_order(hyperparameters={**options, "early_stopping_patience": None})), "training")
    eager = seconds_of(probe(make_order(hyperparameters={**options, "early_stopping_patience": 2})), "training")
    assert steady["low"] > 0.3 * steady["expected"]
    assert eager["low"] < 0.1 * eager["expected"]


def test_frozen_layers_are_not_trainable(make_order: Callable[..., TrainingOrder], tmp_path: Path) -> None:
    source = make_order(hyperparameters={"epochs": 1})
    folder = tmp_path / "source"
    folder.mkdir()
    trained = source.model_copy(update={"folder": folder})
    TrainingRun(trained, Reports(), Wishes()).run()  # type: ignore[arg-type]  # a Reporter's call
    base = BaseOrder(name="mdl_1", model_id="mdl_1", directory=trained.staging)
    frozen = probe(make_order(bases=(base,), base_model="mdl_1", transfer={"mode": "full", "freeze": "shared"}))
    assert 0 < frozen["trainable_parameters"] < 0.1 * frozen["total_parameters"]
    gradual = probe(make_order(bases=(base,), base_model="mdl_1", transfer={"mode": "full", "freeze": "gradual"}))
    assert gradual["trainable_parameters"] == gradual["total_parameters"], "each moves at some time"
    raced = probe(make_order(bases=(base,), base_model="mdl_1"))
    stages = {stage["name"]: stage for stage in raced["stages"]}
    assert stages["choosing"]["steps"] > 0
    assert raced["steps"] == stages["choosing"]["steps"] + stages["training"]["steps"]
    assert any("race of scratch, mdl_1" in warning for warning in raced["warnings"])


def test_a_search_is_counted(make_order: Callable[..., TrainingOrder]) -> None:
    plain, searched = probe(make_order()), probe(make_order(search={"trials": 10}))
    [search] = [stage for stage in searched["stages"] if stage["name"] == "searching"]
    assert searched["steps"] - plain["steps"] == search["steps"] == 10 * 2 * 4, "ten trials of a quarter of 8 epochs, 28 items in 4 batches"
    bounded = probe(make_order(search={"trials": 100, "seconds": 0.01}))
    assert seconds_of(bounded, "searching")["high"] == 0.01


def test_what_the_job_would_fail_with_at_its_start_is_told(make_order: Callable[..., TrainingOrder]) -> None:
    with pytest.raises(ConfigError) as raised:
        probe(make_order(hyperparameters={"precision": "bf16"}))
    assert raised.value.param == "hyperparameters.precision"


def test_some_items_stand_for_all(packed: Path, monkeypatch: pytest.MonkeyPatch, make_order: Callable[..., TrainingOrder]) -> None:
    dataset = PackedDataset.open(packed)
    features = make_order().spec.features.model_copy(update={"clip_seconds": 0.5, "image_size": 28})
    monkeypatch.setattr("worker.bench._SAMPLE_BYTES", 10 * 16000)
    sample = Sample(dataset, features)
    assert len(sample) == 60
    assert sample.batch(np.arange(60)).shape == (60, 8000)
    assert sample.bytes_for_all == 60 * 16000
    assert sample.seconds_for_all > sample.seconds, "sixty take longer than ten"
    ready = Sample(dataset, features.model_copy(update={"clip_seconds": 0.25}))
    assert (ready.bytes_for_all, ready.seconds_for_all) == (0, 0.0)
