"""What follows training: calibration, evaluation, thresholds, what a worse recording costs, which labels look wrong; and the artifact."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.artifact import save_artifact
from models.calibration import Calibration, calibrated, fit_calibration
from models.config import SPLITS, JobSpec, LineageEntry, ModelManifest, Split, TransferRecord
from models.evaluation import evaluate_split, evaluation_document
from models.golden_making import examples_of
from models.inputs import Inputs
from models.network import Network
from models.predicting import logits_of
from models.reject import fit_thresholds, hear_unknowns, measure_reject
from models.robustness import measure_robustness
from models.selection import thinned
from models.suspects import MOST, find_suspects
from models.training import Trainer
from models.training_state import TrainingData
from worker.items import ITEMS_FILE, names_of

Answers = dict[Split, NDArray[np.float32]]
"""split → calibrated probabilities, shape (n, classes)"""
_MEASURED: tuple[Split, ...] = ("test", "validation")  # what judges, the better one first: validation items have chosen the weights
_MOST_TRAINED = 10_000  # training items that are measured: they tell how much was learnt by heart, to half a point; more would cost minutes
_LEAST_HARDLY_KNOWN = 100  # validation clips, before unknown words are made of them alone
_JUDGED_SEED = 1  # further along than the one that thresholds are fitted with


@dataclass(frozen=True)
class Trained:
    """A network at the end of its training, and what it was trained on."""

    trainer: Trainer
    spec: JobSpec
    data: TrainingData
    record: TransferRecord
    dataset_directory: Path
    device: torch.device

    @property
    def network(self) -> Network:
        """Return the network, in evaluation mode."""
        return self.trainer.network.float().eval()


@dataclass(frozen=True)
class Evaluated:
    """All that is known of a trained network before it is written."""

    evaluation: dict[str, Any]
    metrics: dict[str, float]
    thresholds: dict[str, float]
    """label → least probability to be believed; empty: nothing is rejected"""
    predictions: dict[str, list[int]]
    """validation, test → label number of each item"""


def evaluate(trained: Trained) -> Evaluated:
    """Calibrate the network and return what it is worth; its description holds the temperature from then on."""
    network, data = trained.network, trained.data
    calibration, answers, splits = _calibrate(trained)
    judge = next((split for split in _MEASURED if split in answers), None)
    thresholds, unknown = _reject(trained, answers)
    robustness = measure_robustness(network, data.items, _items_of(data, judge), data.truth) if judge else []
    evaluation = evaluation_document(
        splits, calibration=calibration.as_json(), unknown=unknown, robustness=robustness, suspects=_suspects(trained, answers)
    )
    predictions: dict[str, list[int]] = {split: answers[split].argmax(axis=1).tolist() for split in _MEASURED if split in answers}
    return Evaluated(evaluation, _metrics_of(trained.trainer, evaluation), thresholds, predictions)


def save_trained(trained: Trained, evaluated: Evaluated, folder: Path, lineage: tuple[LineageEntry, ...]) -> ModelManifest:
    """Write the artifact into `folder` and return its manifest. Raises ArtifactError."""
    folder.mkdir(parents=True, exist_ok=True)
    record = trained.record.model_copy(update={"interpolation": trained.trainer.interpolation})
    network = trained.network
    manifest = ModelManifest(
        network=network.config, transfer=record, lineage=lineage, training=trained.spec, metrics=evaluated.metrics,
        thresholds=evaluated.thresholds,
    )  # fmt: skip
    examples = examples_of(trained.data)
    return save_artifact(folder, network, manifest=manifest, evaluation=evaluated.evaluation, examples=examples)


def _calibrate(trained: Trained) -> tuple[Calibration, Answers, dict[str, dict[str, Any]]]:
    """Fit the temperature on validation items; return it, and each split's probabilities and measures with it."""
    network, data = trained.network, trained.data
    inputs = Inputs(data.items, network.config.modality, network.config.features, device=trained.device)
    items = {split: found for split in SPLITS if len(found := _items_of(data, split))}
    logits: Answers = {split: logits_of(network, inputs, found) for split, found in items.items()}
    validation = logits.get("validation", np.empty((0, len(data.labels)), np.float32))
    calibration = fit_calibration(validation, data.truth[data.validation])
    network.config = network.config.model_copy(update={"temperature": calibration.temperature})
    answers: Answers = {split: calibrated(found, calibration.temperature) for split, found in logits.items()}
    splits: dict[str, dict[str, Any]] = {
        split: _measured(data, items[split], answers[split], calibrated(logits[split], 1.0)) for split in answers
    }
    if "train" in splits:
        splits["train"]["n_trained"] = len(data.train)
    return calibration, answers, splits


def _measured(
    data: TrainingData, items: NDArray[np.int64], answers: NDArray[np.float32], uncalibrated: NDArray[np.float32]
) -> dict[str, Any]:
    return evaluate_split(
        answers,
        data.truth[items],
        data.labels,
        groups=data.groups[items] if data.group_names else None,
        group_names=data.group_names,
        uncalibrated=uncalibrated,
    )


def _reject(trained: Trained, answers: Answers) -> tuple[dict[str, float], dict[str, Any] | None]:
    """Return thresholds by label and what they do to sounds that they were not fitted on; nothing where it wasn't asked for."""
    asked, network, data = trained.spec.evaluation.unknown_false_accept, trained.network, trained.data
    if asked is None or network.config.modality != "audio":
        return {}, None
    thresholds = fit_thresholds(*hear_unknowns(network, data.items, _hardly_known(data), data.truth, trained.spec.seed), asked)
    by_label = dict(zip(data.labels, thresholds.tolist(), strict=True))
    judge = next((split for split in _MEASURED if split in answers), None)
    if judge is None:
        return by_label, {"asked": asked}
    items = _items_of(data, judge)
    heard = hear_unknowns(network, data.items, items, data.truth, trained.spec.seed + _JUDGED_SEED)
    return by_label, {"asked": asked, "split": judge, **measure_reject(answers[judge], data.truth[items], *heard, thresholds)}


def _hardly_known(data: TrainingData) -> NDArray[np.int64]:
    """Return the clips that words for fitting thresholds are made of: validation's, and training's too where those alone are few.

    Words made of clips that the network has learnt from are too easy: thresholds that let 5 % of them pass let 31 and 16 % of ten words
    pass that were really never met (two draws); those for words made of validation clips, nothing of them backwards, 12 and 5 %.
    """
    enough = len(data.validation) >= _LEAST_HARDLY_KNOWN
    return data.validation if enough else np.concatenate([data.validation, data.train])


def _suspects(trained: Trained, answers: Answers) -> list[dict[str, Any]]:
    """Return validation and test items whose label is probably wrong: file name, split, label, predicted, probability."""
    data, path = trained.data, trained.dataset_directory / ITEMS_FILE
    splits = [split for split in _MEASURED if split in answers]
    if not splits or not path.exists():
        return []
    items = np.concatenate([_items_of(data, split) for split in splits])
    names = np.repeat(splits, [len(_items_of(data, split)) for split in splits]).tolist()
    found = find_suspects(np.concatenate([answers[split] for split in splits]), data.truth[items], MOST)
    files = names_of(path, [int(items[suspect.place]) for suspect in found])
    return [
        {
            "file_name": file,
            "split": names[suspect.place],
            "label": data.labels[data.truth[items[suspect.place]]],
            "predicted": data.labels[suspect.predicted],
            "probability": suspect.probability,
        }
        for suspect, file in zip(found, files, strict=True)
    ]


def _items_of(data: TrainingData, split: Split) -> NDArray[np.int64]:
    """Return the item numbers of a split that are measured, shape (n,)."""
    if split == "train":
        return thinned(data.train, data.truth, _MOST_TRAINED, np.random.default_rng(0))
    return data.test if split == "test" else data.validation


def _metrics_of(trainer: Trainer, evaluation: dict[str, Any]) -> dict[str, float]:
    counters = trainer.counters
    accuracies = {f"{split}_accuracy": float(found["accuracy"]) for split, found in evaluation["splits"].items()}
    losses = {} if trainer.best_loss is None else {"validation_loss": trainer.best_loss}
    return accuracies | losses | {"epochs": counters.epoch, "steps": counters.step, "training_seconds": round(counters.seconds, 3)}
