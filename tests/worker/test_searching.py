"""The search as a stage of a training: what it tries, keeps, reports and hands on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.config import JobSpec
from models.dataset import PackedDataset, PackedWriter
from models.errors import Interrupted
from models.prepared import PreparedItems
from models.training import Progress
from models.training_state import TrainingData
from tests.conftest import RATE, tone
from worker.foundations import Foundation, Founder, Hooks, shortened
from worker.orders import TrainingOrder
from worker.searching import RECORD, Record, Search, split_for_search

torch.set_num_threads(1)
CPU = torch.device("cpu")


class Talk:
    """What a search says, and a wish to stop after a number of trials or of steps."""

    def __init__(self, *, stop_after_trials: int | None = None) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.progress: list[Progress] = []
        self._stop_after = stop_after_trials

    @property
    def trials(self) -> list[dict[str, Any]]:
        return [fields["data"] for kind, fields in self.said if kind == "message" and "state" in fields.get("data", {})]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [fields for found, fields in self.said if found == kind]

    def hooks(self) -> Hooks:
        def report(kind: str, **fields: Any) -> None:
            json.dumps(fields, allow_nan=False)
            self.said.append((kind, fields))

        def stops() -> bool:
            return self._stop_after is not None and len(self.trials) >= self._stop_after

        return Hooks(report, lambda _: None, self.progress.append, stops)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    with PackedWriter(folder, "audio", sample_rate=RATE) as writer:
        for index in range(60):
            writer.append((tone(400 * (1 + index % 2), 0.25, seed=index) * 32767).astype(np.int16))
        splits: list[Any] = ["train"] * 40 + ["validation"] * 20
        writer.finish(
            labels=("low", "high"), item_labels=[index % 2 for index in range(60)], item_splits=splits,
            item_groups=[-1] * 60, group_names=(), summary={},
        )  # fmt: skip
    return folder


@pytest.fixture
def make_order(packed: Path, tmp_path: Path) -> Callable[..., TrainingOrder]:
    def make(search: dict[str, Any], folder: str = "job", **fields: Any) -> TrainingOrder:
        hyperparameters = {"epochs": 8} | fields.pop("hyperparameters", {})
        features = {"n_mels": 16, "clip_seconds": 0.25}
        body = {"dataset": "ds_1", "base_model": None, "search": search, "hyperparameters": hyperparameters, "features": features, **fields}
        (tmp_path / folder).mkdir(exist_ok=True)
        return TrainingOrder(
            job_id="job_1", token=1, parent_pid=1, spec=JobSpec.model_validate({"type": "finetune", **body}, strict=False),
            dataset_directory=packed, dataset_sha256="0" * 64, model_id="mdl_1", folder=tmp_path / folder, device="cpu", threads=1,
            checkpoint_seconds=0.0,
        )  # fmt: skip

    return make


def search(order: TrainingOrder, talk: Talk) -> Foundation:
    dataset = PackedDataset.open(order.dataset_directory)
    foundation = Founder(order, dataset, CPU, talk.hooks()).settle()
    data = TrainingData.from_dataset(dataset, PreparedItems(dataset, foundation.spec.features, order.folder))
    return Search(order, foundation, dataset, data, CPU, talk.hooks()).run()


def without_seconds(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in trial.items() if name != "seconds"} for trial in trials]


def test_the_best_trial_s_values_become_the_job_s(make_order: Callable[..., TrainingOrder]) -> None:
    order, talk = make_order({"trials": 4}), Talk()
    spec = search(order, talk).spec
    assert [trial["trial"] for trial in talk.trials] == [0, 1, 2, 3]
    assert {trial["state"] for trial in talk.trials} <= {"complete", "pruned", "failed"}
    assert talk.trials[0]["state"] == "complete"
    assert talk.trials[0]["parameters"]["hyperparameters.learning_rate"] == pytest.approx(3e-3), "the first one has the usual values"
    best = talk.of("message")[-1]["data"]
    assert spec.hyperparameters.learning_rate == best["parameters"]["hyperparameters.learning_rate"]
    assert spec.augmentation.mixup == best["parameters"]["augmentation.mixup"]
    assert spec.hyperparameters.epochs == 8, "what was asked for stays"
    assert "transfer.freeze" not in best["parameters"], "no layer is carried over"
    assert talk.of("resolved")[-1]["spec"] == spec.model_dump(mode="json")


def test_values_that_were_asked_for_are_not_tried(make_order: Callable[..., TrainingOrder]) -> None:
    order = make_order({"trials": 1}, hyperparameters={"learning_rate": 0.01, "batch_size": 8, "label_smoothing": 0.1})
    talk = Talk()
    assert search(order, talk).spec.hyperparameters.learning_rate == 0.01
    assert set(talk.trials[0]["parameters"]) == {"hyperparameters.weight_decay", "augmentation.mixup"}


def test_a_search_repeats_itself_and_goes_on_where_it_was_stopped(make_order: Callable[..., TrainingOrder]) -> None:
    whole, first, second = Talk(), Talk(stop_after_trials=2), Talk()
    spec = search(make_order({"trials": 5}), whole).spec
    stopped = make_order({"trials": 5}, "stopped")
    with pytest.raises(Interrupted):
        search(stopped, first)
    assert len(first.trials) == 2
    assert search(stopped, second).spec == spec
    assert without_seconds(first.trials + second.trials) == without_seconds(whole.trials)


def test_a_later_start_trains_on_without_another_trial(make_order: Callable[..., TrainingOrder]) -> None:
    order = make_order({"trials": 2})
    spec = search(order, Talk()).spec
    again = Talk()
    assert search(order.model_copy(update={"resolved": spec}), again).spec == spec
    assert again.trials == []
    assert again.of("resolved") == []


def test_progress_goes_from_trial_to_trial(make_order: Callable[..., TrainingOrder]) -> None:
    talk = Talk()
    search(make_order({"trials": 3}), talk)
    assert {progress.phase for progress in talk.progress} == {"searching"}
    shares = [progress.step / progress.steps for progress in talk.progress]
    assert 0 < shares[0] < 0.34
    assert 0.66 < shares[-1] <= 1
    assert shares == sorted(shares)


def test_time_ends_a_search(make_order: Callable[..., TrainingOrder]) -> None:
    order, talk = make_order({"trials": 50, "seconds": 0.05}), Talk()
    spec = search(order, talk).spec
    assert [trial["state"] for trial in talk.trials] == ["pruned"]
    assert spec.hyperparameters.learning_rate == pytest.approx(3e-3)
    again = Talk()
    search(order, again)
    assert again.trials == [], "the time is over for later starts as well"


def test_half_a_line_is_cut_off(make_order: Callable[..., TrainingOrder]) -> None:
    order = make_order({"trials": 2})
    search(order, Talk())
    path = order.folder / RECORD
    kept = Record(path).read()
    intact = path.read_bytes()
    path.write_bytes(intact + b'{"trial":2,"para')
    assert Record(path).read() == kept
    assert path.read_bytes() == intact


def test_values_that_can_t_be_trained_with_are_a_failed_trial(make_order: Callable[..., TrainingOrder]) -> None:
    order, talk = (
        make_order({"trials": 1}, hyperparameters={"learning_rate": 100.0, "optimizer": "sgd", "gradient_clip": None, "epochs": 40}),
        Talk(),
    )
    search(order, talk)
    assert [(trial["state"], trial["accuracy"]) for trial in talk.trials] == [("failed", None)]


def test_few_validation_items_are_joined_by_training_items(packed: Path, tmp_path: Path, make_order: Callable[..., TrainingOrder]) -> None:
    dataset = PackedDataset.open(packed)
    spec = shortened(make_order({"trials": 1}).spec, 0.01)
    assert spec.hyperparameters.epochs == 1
    items = PreparedItems(dataset, spec.features.model_copy(update={"image_size": 28}), tmp_path)
    data = split_for_search(TrainingData.from_dataset(dataset, items), 0)
    assert len(data.validation) == 20 + 12
    assert len(data.train) == 28
    assert not set(data.train.tolist()) & set(data.validation.tolist())
