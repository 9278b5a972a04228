"""What training is at one moment: the data it reads, the plan it follows, how far it has come, and all of it as tensors and JSON.

Random numbers need no state: those of one step come from generators seeded by (seed, stream, step), so a run that goes on draws what
the uninterrupted one draws.
"""

import dataclasses
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from models.config import SPLITS, JobSpec
from models.dataset import PackedDataset
from models.errors import ArtifactError, ConfigError, DatasetError
from models.inputs import Items
from models.network import Network
from models.optimizers import OPTIMIZERS, load_optimizer_tensors, optimizer_tensors

Stopped = Literal["finished", "early", "time"]
ORDER, AUGMENTATION, LAYERS = range(3)  # streams of random numbers
_FORMAT = 1


@dataclass(frozen=True)
class TrainingData:
    """Prepared items and what is known of them; index arrays have shape (n,) and point into `items`."""

    items: Items
    truth: NDArray[np.int64]  # label number of every item
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    labels: tuple[str, ...]
    groups: NDArray[np.int64]  # group number of every item, -1: none
    group_names: tuple[str, ...] = ()

    @classmethod
    def from_dataset(cls, dataset: PackedDataset, items: Items) -> "TrainingData":
        """Join a dataset's splits with its prepared items. Raises DatasetError where there is nothing to train on."""
        train, validation, test = (np.asarray(dataset.indices(split), dtype=np.int64) for split in SPLITS)
        if not len(train):
            raise DatasetError("the dataset has no training items", code="dataset_empty", param="dataset")
        return cls(
            items=items,
            truth=np.asarray(dataset.item_labels, dtype=np.int64),
            train=train,
            validation=validation,
            test=test,
            labels=tuple(dataset.labels),
            groups=np.asarray(dataset.item_groups, dtype=np.int64),
            group_names=tuple(dataset.group_names),
        )


@dataclass(frozen=True)
class Plan:
    """The numbers of a resolved job that the loop runs on."""

    epochs: int
    batches: int  # an epoch
    learning_rate: float  # peak
    weight_decay: float
    full_batch: bool  # one update an epoch instead of one a batch

    @classmethod
    def of(cls, spec: JobSpec, n_train: int) -> "Plan":
        """Read the plan off a resolved job. Raises ConfigError where an auto is left."""
        chosen = spec.hyperparameters
        if chosen.epochs == "auto" or chosen.batch_size == "auto" or chosen.learning_rate == "auto" or chosen.weight_decay == "auto":
            raise ConfigError("hyperparameters are still auto; models.recipes.resolve settles them", param="hyperparameters")
        batches = batches_per_epoch(n_train, chosen.batch_size)
        full_batch = OPTIMIZERS[chosen.optimizer].full_batch
        return cls(chosen.epochs, batches, chosen.learning_rate, chosen.weight_decay, full_batch)

    @property
    def steps(self) -> int:
        """Return the number of batches in all epochs."""
        return self.epochs * self.batches

    def update_of(self, step: int) -> tuple[int, int]:
        """Return which update (from 0) the batch number `step` works for, and how many there are."""
        return (step // self.batches, self.epochs) if self.full_batch else (step, self.steps)

    def updates_after(self, step: int) -> bool:
        """Tell whether the weights move after batch number `step`."""
        return not self.full_batch or (step + 1) % self.batches == 0


@dataclass
class Counters:
    """How far training has come; all of it fits in JSON."""

    epoch: int = 0  # epochs that are done, validation included
    step: int = 0  # batches that are done
    seconds: float = 0.0
    best_epoch: int = 0  # counted from 1
    best_accuracy: float | None = None  # of the best epoch, or what a job that rejects is chosen by; None without validation items
    best_loss: float | None = None
    stale: int = 0  # epochs in which patience counted and none was better than the best
    stopped: Stopped | None = None
    history: list[dict[str, float]] = field(default_factory=list)  # metrics an epoch

    def beaten_by(self, accuracy: float | None, loss: float | None) -> bool:
        """Tell whether an epoch's validation is better than the best so far: by accuracy, among equals by loss. Always without any."""
        if accuracy is None or loss is None or self.best_accuracy is None or self.best_loss is None:
            return True
        return (accuracy, -loss) > (self.best_accuracy, -self.best_loss)


@dataclass
class State:
    """Everything of a run that changes."""

    network: Network
    optimizer: torch.optim.Optimizer
    counters: Counters
    running: torch.Tensor  # shape (2,), float64: summed loss and number of items in the epoch so far
    best: dict[str, torch.Tensor]
    strategies: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)  # group → tensors in use, see models/course.py

    def export(self, spec: JobSpec) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return (tensors, JSON-able rest), copied to the CPU: training may go on while they are written."""
        names: dict[torch.Tensor, str] = {parameter: name for name, parameter in self.network.named_parameters()}
        groups = {
            "model": self.network.state_dict(),
            "best": self.best,
            "optimizer": optimizer_tensors(self.optimizer, names),
            "gradient": {name: parameter.grad for parameter, name in names.items() if parameter.grad is not None},
            "running": {"sums": self.running},
            **self.strategies,
        }
        tensors = copied({f"{group}/{name}": tensor for group, members in groups.items() for name, tensor in members.items()})
        return tensors, {"format": _FORMAT, "spec": spec.model_dump(mode="json"), "counters": dataclasses.asdict(self.counters)}

    def load(self, tensors: dict[str, torch.Tensor], meta: dict[str, Any], spec: JobSpec) -> None:
        """Go back to the state that `export` returned. Raises ArtifactError where it is of another job or doesn't fit the network."""
        if not _is_of(meta, spec):
            raise ArtifactError("the checkpoint belongs to another job", code="checkpoint_mismatch")
        names = ("model", "best", "optimizer", "gradient", "running", *self.strategies)
        groups: dict[str, dict[str, torch.Tensor]] = {name: {} for name in names}
        try:
            for key, tensor in tensors.items():
                group, name = key.split("/", 1)
                groups[group][name] = tensor
            self.network.load_state_dict(groups["model"])
            parameters = dict(self.network.named_parameters())
            load_optimizer_tensors(self.optimizer, {parameter: name for name, parameter in parameters.items()}, groups["optimizer"])
            self.running.copy_(groups["running"]["sums"])
            for group, members in self.strategies.items():
                for name, tensor in members.items():
                    tensor.copy_(groups[group][name])
            for name, parameter in parameters.items():
                saved = groups["gradient"].get(name)
                parameter.grad = None if saved is None else torch.empty_like(parameter).detach().copy_(saved)
            self.counters = Counters(**meta["counters"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ArtifactError(f"the checkpoint doesn't fit: {error}", code="checkpoint_mismatch") from error
        self.best = copied(groups["best"])

    def remember_best(self) -> None:
        """Keep the weights as they are now."""
        self.best = copied(self.network.state_dict())

    def loss_is_finite(self) -> bool:
        """Tell whether every loss of the epoch so far is a number. Waits for the device."""
        return math.isfinite(float(self.running[0]))


def _is_of(meta: dict[str, Any], spec: JobSpec) -> bool:
    """Tell whether a checkpoint is of this job. One of an earlier release lacks later fields: their defaults are what it was made with."""
    try:
        return meta.get("format") == _FORMAT and JobSpec.model_validate(meta.get("spec"), strict=False) == spec
    except ValidationError:
        return False


class Clock:
    """Seconds of training, those before an interruption included, and items a second in the current epoch."""

    def __init__(self, before: float = 0.0) -> None:
        """Start at `before` seconds."""
        self._begin = time.monotonic() - before
        self.rate = 0.0  # items a second
        self.start_lap()

    @property
    def seconds(self) -> float:
        """Return the seconds so far."""
        return time.monotonic() - self._begin

    def start_lap(self) -> None:
        """Begin to measure anew; what lies between two laps (validation) counts in neither."""
        self._lap, self._items = time.monotonic(), 0

    def count(self, items: int) -> None:
        """Add items that were trained on."""
        self._items += items
        self.rate = self._items / max(1e-9, time.monotonic() - self._lap)


def batches_per_epoch(n_items: int, batch_size: int) -> int:
    """Return into how many batches of nearly equal size an epoch is cut.

    No batch holds a single item where that can be helped: batch normalization has no variance to go by.
    """
    return max(1, min(-(-n_items // batch_size), n_items // 2))


def seed_of(seed: int, stream: int, index: int) -> int:
    """Return a well mixed 63-bit seed for one place in one stream of random numbers."""
    return int(np.random.SeedSequence((seed, stream, index)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator_for(seed: int, stream: int, index: int) -> torch.Generator:
    """Return a CPU generator for one place in one stream of random numbers."""
    return torch.Generator().manual_seed(seed_of(seed, stream, index))


def epoch_batches(indices: NDArray[np.int64], batches: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Return the epoch's batches of `indices`, shape (n,): a permutation that depends on (seed, epoch) alone, cut into `batches`."""
    order = torch.randperm(len(indices), generator=generator_for(seed, ORDER, epoch)).numpy()
    return np.array_split(indices[order], batches)


def copied(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return copies on the CPU of tensors by name, of any shape."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
