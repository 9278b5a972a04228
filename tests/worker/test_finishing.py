"""What follows training: probabilities that hold everywhere, thresholds, robustness, wrong labels; what is said of little."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from app.schemas.models import Evaluation
from models.artifact import load_artifact
from models.audio import Sound, from_pcm16
from models.calibration import LEAST_ITEMS
from models.config import JobSpec
from models.dataset import PackedDataset, PackedWriter
from models.engine import Engine
from models.golden import read_golden, replay_stored
from models.inputs import Inputs
from models.manifest import read_evaluation, read_manifest
from models.predicting import predict_items
from models.prepared import PreparedItems
from models.robustness import CONDITIONS
from models.training_state import TrainingData
from tests.conftest import RATE, tone
from worker import finishing
from worker.items import Item, write_items
from worker.orders import TrainingOrder
from worker.training_run import TrainingRun

torch.set_num_threads(1)
SPEC: dict[str, Any] = {
    "dataset": "ds_1", "type": "finetune", "base_model": None,
    "hyperparameters": {"epochs": 6, "batch_size": 8},
    "features": {"n_mels": 16, "hop_ms": 20.0, "clip_seconds": 0.25},
    "evaluation": {"unknown_false_accept": 0.05},
}  # fmt: skip
WRONG = 150  # a test item whose label is not what it holds
LABELS = ("low", "high")


class Silence:
    """Items that nobody listens to."""

    def __len__(self) -> int:
        return 200

    def batch(self, indices: NDArray[np.int64], /) -> NDArray[Any]:
        return np.zeros((len(indices), 1), np.int16)


class Wishes:
    """Nothing is wanted but the model."""

    release = finish = stop = False


def make(folder: Path, splits: list[Any], spec: dict[str, Any] = SPEC) -> tuple[TrainingOrder, dict[str, Any]]:
    packed = folder / "packed"
    packed.mkdir()
    items = []
    with PackedWriter(packed, "audio", sample_rate=RATE) as writer:
        for index, split in enumerate(splits):
            heard = index % 2 if index != WRONG else 1 - index % 2
            samples = (tone(400 * (1 + heard), 0.25, seed=index) * 32767).astype(np.int16)
            position = writer.append(samples)
            items.append(Item(f"{index}.wav", LABELS[index % 2], split, None, "accepted", position=position))
        writer.finish(
            labels=LABELS, item_labels=[index % 2 for index in range(len(splits))], item_splits=splits,
            item_groups=[-1] * len(splits), group_names=(), summary={},
        )  # fmt: skip
    write_items(packed, items)
    order = TrainingOrder(
        job_id="job_1", token=1, parent_pid=1, spec=JobSpec.model_validate(spec, strict=False), dataset_directory=packed,
        dataset_sha256="0" * 64, model_id="mdl_1", folder=folder, device="cpu", threads=1, checkpoint_seconds=1e9,
    )  # fmt: skip
    return order, TrainingRun(order, lambda *_, **__: None, Wishes()).run()  # type: ignore[arg-type]  # the report goes nowhere


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingOrder, dict[str, Any]]:
    return make(tmp_path_factory.mktemp("job"), ["train"] * 40 + ["validation"] * 60 + ["test"] * 60)


def clips_of(order: TrainingOrder, indices: NDArray[np.int64]) -> NDArray[np.int16]:
    dataset = PackedDataset.open(order.dataset_directory)
    return np.stack([np.asarray(dataset.item(int(index)), np.int16) for index in indices])


def test_the_evaluation_is_complete_and_the_contract_knows_it(done: tuple[TrainingOrder, dict[str, Any]]) -> None:
    order, result = done
    document = result["evaluation"]
    assert json.loads(json.dumps(document, allow_nan=False)) == document == read_evaluation(order.staging)
    shown = Evaluation.model_validate({"object": "evaluation", "model": "mdl_1", **document})
    assert shown.calibration is not None
    assert (shown.calibration.items, shown.calibration.not_fitted) == (60, None)
    assert [row.name for row in shown.robustness] == [condition.name for condition in CONDITIONS]
    assert shown.robustness[0].accuracy == document["splits"]["test"]["accuracy"], "the clean row is what the split says"
    assert all({"ece", "ece_uncalibrated"} <= set(found) for found in document["splits"].values())


def test_torch_graph_and_service_agree_on_calibrated_probabilities(done: tuple[TrainingOrder, dict[str, Any]]) -> None:
    order, result = done
    temperature = result["manifest"]["network"]["temperature"]
    assert temperature == result["evaluation"]["calibration"]["temperature"] != 1.0
    network, manifest = load_artifact(order.staging)
    indices = np.arange(100, 120)
    items = PreparedItems(PackedDataset.open(order.dataset_directory), manifest.network.features, order.folder)
    inputs = Inputs(items, "audio", manifest.network.features)
    expected = predict_items(network, inputs, indices)
    with torch.no_grad():
        by_hand = (network(inputs.clean(indices)) / temperature).softmax(dim=1).numpy()
    np.testing.assert_allclose(expected, by_hand, atol=1e-6)
    engine = Engine.load(order.staging)
    sounds = from_pcm16(clips_of(order, indices))
    served = np.stack([engine.predict(Sound(sound, RATE, RATE, 1, "wav", 0.25)).probabilities for sound in sounds])
    np.testing.assert_allclose(served, expected, atol=1e-4)


def test_thresholds_are_stored_used_and_judged(done: tuple[TrainingOrder, dict[str, Any]]) -> None:
    order, result = done
    manifest = read_manifest(order.staging)
    assert set(manifest.thresholds) == set(LABELS)
    assert all(0 < threshold <= 1 for threshold in manifest.thresholds.values())
    found = result["evaluation"]["unknown"]
    assert (found["asked"], found["split"], found["n"]["known"]) == (0.05, "test", 60)
    assert 0 <= found["accepted_noise"] <= 0.15, "5 % were asked for, on other noises"
    np.testing.assert_allclose(Engine.load(order.staging).thresholds, [manifest.thresholds[label] for label in LABELS], atol=1e-7)


@pytest.mark.parametrize(("validation", "expected"), [(100, 100), (99, 99 + 40), (0, 40)])
def test_unknown_words_are_made_of_clips_that_were_not_learnt_from(validation: int, expected: int) -> None:
    items = np.arange(200)
    data = TrainingData(
        items=Silence(), truth=items % 2, train=items[:40], validation=items[40 : 40 + validation], test=items[160:], labels=LABELS,
        groups=np.full(200, -1),
    )  # fmt: skip
    chosen = finishing._hardly_known(data)
    assert len(set(chosen.tolist())) == expected
    assert set(data.validation.tolist()) <= set(chosen.tolist()), "training clips come in only where there are too few of these"


def test_validation_items_become_golden_clips(done: tuple[TrainingOrder, dict[str, Any]]) -> None:
    order, result = done
    golden = read_golden(order.staging, read_manifest(order.staging))
    assert golden is not None
    assert golden.clips == ("noise", "silence", "validation: low", "validation: high")
    assert np.array_equal(golden.inputs[2:], clips_of(order, np.array([40, 41]))), "the first of each label, as they are stored"
    assert result["manifest"]["golden"]["clips"] == 4
    report = replay_stored(Engine.load(order.staging), order.staging)
    assert report is not None
    assert report.passed
    assert "recordings of people" in (order.staging / "MODEL_CARD.md").read_text()


def test_a_wrong_label_is_named(done: tuple[TrainingOrder, dict[str, Any]]) -> None:
    _, result = done
    assert [(one["file_name"], one["split"], one["label"], one["predicted"]) for one in result["evaluation"]["suspects"]] == [
        (f"{WRONG}.wav", "test", "low", "high")
    ]


def test_what_others_read_is_there(done: tuple[TrainingOrder, dict[str, Any]]) -> None:
    _, result = done
    assert {split: len(found) for split, found in result["predictions"].items()} == {"test": 60, "validation": 60}
    right = np.array(result["predictions"]["test"]) == np.arange(60) % 2
    assert right.mean() == pytest.approx(result["evaluation"]["splits"]["test"]["accuracy"])
    assert [epoch["epoch"] for epoch in result["history"]] == list(range(1, len(result["history"]) + 1))


def test_the_card_says_it(done: tuple[TrainingOrder, dict[str, Any]]) -> None:
    order, _ = done
    card = (order.staging / "MODEL_CARD.md").read_text()
    for text in ("Logits are divided by", "When the recording is worse", "telephone", "noise taken for a label", "wrongly labelled"):
        assert text in card


def test_of_many_training_items_some_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finishing, "_MOST_TRAINED", 16)
    spec = {**SPEC, "hyperparameters": {"epochs": 1, "batch_size": 8}, "evaluation": {}}
    order, result = make(tmp_path, ["train"] * 40 + ["validation"] * 8, spec)
    found = result["evaluation"]["splits"]
    assert (found["train"]["n"], found["train"]["n_trained"], found["validation"]["n"]) == (16, 40, 8)
    assert {label: scores["support"] for label, scores in found["train"]["per_label"].items()} == dict.fromkeys(LABELS, 8)
    assert "Trained on 40 items." in (order.staging / "MODEL_CARD.md").read_text()


def test_little_data_is_said_and_nothing_is_made_up(tmp_path: Path) -> None:
    spec = {**SPEC, "hyperparameters": {"epochs": 1, "batch_size": 8}, "evaluation": {}}
    order, result = make(tmp_path, ["train"] * 12 + ["validation"] * 8, spec)
    document = result["evaluation"]
    assert document["calibration"] == {"temperature": 1.0, "items": 0, "not_fitted": f"fewer than {LEAST_ITEMS} validation items"}
    assert (document["unknown"], document["robustness"]) == (None, [])
    manifest = read_manifest(order.staging)
    assert (manifest.thresholds, manifest.network.temperature) == ({}, 1.0)
    found = document["splits"]["validation"]
    assert found["ece"] == found["ece_uncalibrated"]
    assert "Nothing is rejected" in (order.staging / "MODEL_CARD.md").read_text()


def test_training_items_alone_are_enough(tmp_path: Path) -> None:
    spec = {**SPEC, "hyperparameters": {"epochs": 1, "batch_size": 8}}
    order, result = make(tmp_path, ["train"] * 12, spec)
    assert result["evaluation"]["unknown"] == {"asked": 0.05}
    assert result["evaluation"]["suspects"] == []
    assert result["predictions"] == {}
    assert set(read_manifest(order.staging).thresholds) == set(LABELS)
