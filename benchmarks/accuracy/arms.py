"""What is compared, and how one run goes. Library code alone: the same functions that a job's process calls."""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray
from peers import mfcc_svm
from sources import dataset_folder, source_folder

from models import bundled
from models.artifact import load_artifact, load_bundled
from models.config import Hyperparameters, JobSpec, TransferConfig
from models.dataset import PackedDataset
from models.features import n_frames
from models.inputs import Inputs
from models.network import Network
from models.predicting import predict_items
from models.prepared import PreparedItems
from models.recipes import resolve
from models.training import Trainer
from models.training_state import TrainingData
from worker.foundations import Foundation, build_on, shortened

_POINTS = 16  # of the training course at which accuracy is taken
_PROBED = 400  # items whose accuracy is taken on the way; the end is measured on all
Ints = NDArray[np.int64]


_FULL = TransferConfig(mode="full")


@dataclass(frozen=True)
class Case:
    """One run."""

    archive: str
    arm: str
    clips: int | None  # a word; None: all
    seed: int
    speaker: int | None = None
    """whom no run of this case hears: measured by all clips of this one, trained on all other speakers'; None: by the archive's splits"""


@dataclass(frozen=True)
class Arm:
    """A network and where its first weights come from."""

    source: str | None = None  # bundled, or an image archive
    architecture: str = "resnet_tiny"
    transfer: TransferConfig = _FULL
    share: float = 1  # of the default recipe's epochs


ARMS: dict[str, Arm | Callable[..., NDArray[np.int64]]] = {
    "scratch": Arm(),
    "bundled": Arm("bundled"),
    "bundled_quarter": Arm("bundled", share=0.25),
    "mnist": Arm("mnist-images"),
    "grocery": Arm("grocery-images"),
    "arabic": Arm("speech-commands-arabic"),  # from speech to speech
    "random_labels": Arm("random-labels"),  # whose source has learnt nothing
    "bc_resnet": Arm(architecture="bc_resnet"),
    "mfcc_svm": mfcc_svm,
}


class FewClips:
    """A dataset that is seen with fewer training items: what `resolve` looks at."""

    def __init__(self, dataset: PackedDataset, train: Ints) -> None:
        self._dataset, self._train = dataset, train

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def indices(self, split: str) -> Ints:
        """Return the chosen training items, all others as they are."""
        return self._train if split == "train" else np.asarray(self._dataset.indices(split), np.int64)


def run_case(case: Case, work: Path) -> dict[str, Any]:
    """Carry one case out and return its row."""
    torch.set_num_threads(1)
    dataset = PackedDataset.open(dataset_folder(work, case.archive))
    train, measured = sides(dataset, case)
    began = time.monotonic()
    arm = ARMS[case.arm]
    if isinstance(arm, Arm):
        predicted, more = _fit(arm, case, dataset, train, measured, work)
    else:
        predicted, more = arm(dataset, train, measured), {}
    right = predicted == np.asarray(dataset.item_labels)[measured]
    return {
        **asdict(case), "accuracy": float(right.mean()),
        "n": len(measured), "seconds": round(time.monotonic() - began, 1), **more,
    }  # fmt: skip


def sides(dataset: PackedDataset, case: Case) -> tuple[Ints, Ints]:
    """Return the items that are trained on, and those that are measured."""
    if case.speaker is not None:
        theirs = np.asarray(dataset.item_groups) == case.speaker
        return np.flatnonzero(~theirs), np.flatnonzero(theirs)
    measured = np.concatenate([np.asarray(dataset.indices(split), np.int64) for split in ("validation", "test")])
    return drawn(dataset, case.clips, case.seed), measured


def drawn(dataset: PackedDataset, clips: int | None, seed: int) -> Ints:
    """Return the training items of one draw: `clips` of each label, whoever spoke them."""
    train, labels = np.asarray(dataset.indices("train"), np.int64), np.asarray(dataset.item_labels)
    if clips is None:
        return train
    random = np.random.default_rng(seed)
    chosen = [random.permutation(train[labels[train] == label])[:clips] for label in range(len(dataset.labels))]
    return np.sort(np.concatenate(chosen))


def _fit(arm: Arm, case: Case, dataset: PackedDataset, train: Ints, measured: Ints, work: Path) -> tuple[Ints, dict[str, Any]]:
    foundation, data = prepared(arm, case, dataset, train, work)
    spec = foundation.spec
    network, record = build_on(foundation, dataset, data, torch.device("cpu"))
    trainer = Trainer(network, spec, data, carried=record.shared_layers, frozen=record.frozen_layers)
    inputs = Inputs(data.items, "audio", spec.features)
    course: list[tuple[int, float]] = []
    probe = measured[:: max(1, len(measured) // _PROBED)]
    every = max(1, trainer.plan.steps // _POINTS)

    def look(_: Trainer) -> None:
        if trainer.counters.step % every == 0:
            course.append((trainer.counters.step, float((_predicted(network, inputs, probe) == data.truth[probe]).mean())))

    trainer.fit(on_progress=lambda _: None, should_stop=lambda: False, on_step=look)
    more = {"steps": trainer.counters.step, "training_seconds": round(trainer.counters.seconds, 1), "course": course}
    more["frames"] = n_frames(spec.features)
    return _predicted(network, inputs, measured), more


def prepared(arm: Arm, case: Case, dataset: PackedDataset, train: Ints, work: Path) -> tuple[Foundation, TrainingData]:
    """Return the settled job of an arm and its data: `train` alone, so that nothing is chosen by what is measured."""
    source = load_source(arm.source, work)
    hyperparameters = Hyperparameters(early_stopping_patience=None)
    spec = JobSpec(
        dataset="ds_benchmark", type="finetune", seed=case.seed, base_model=bundled.NAME if source else arm.architecture,
        transfer=arm.transfer if source else TransferConfig(mode="none"), hyperparameters=hyperparameters,
    )  # fmt: skip
    spec = resolve(spec, FewClips(dataset, train), source=source.config if source else None)  # type: ignore[arg-type] # looks like a dataset
    spec = shortened(spec, arm.share)
    whole = TrainingData.from_dataset(dataset, PreparedItems(dataset, spec.features, work))
    nothing = train[:0]
    return Foundation(spec, source), replace(whole, train=train, validation=nothing, test=nothing)


def _predicted(network: Network, inputs: Inputs, items: Ints) -> Ints:
    training = network.training
    network.eval()
    predicted: Ints = predict_items(network, inputs, items).argmax(axis=1)
    network.train(training)
    return predicted


def load_source(name: str | None, work: Path) -> Network | None:
    """Return the network that an arm begins with: the bundled one, or the one that was trained on an image archive."""
    if name is None:
        return None
    return load_bundled() if name == bundled.NAME else load_artifact(source_folder(work, name))[0]
