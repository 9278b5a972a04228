"""A short measurement of one job's network at work: the trainer's own loop on some of the job's own items. Nothing is written anywhere."""

import contextlib
import dataclasses
import resource
import sys
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.config import FeatureConfig, JobSpec, TransferRecord
from models.dataset import Items, PackedDataset
from models.errors import Interrupted
from models.inputs import Inputs
from models.network import Network
from models.prepared import item_shape, lies_ready, prepare_items
from models.strategies import NEVER, thaw_points
from models.training import Progress, Trainer
from models.training_state import TrainingData
from models.validation import Validator
from worker.estimates import Pace, Sizes, Span, blended

_SAMPLE_BYTES, _SAMPLE_ITEMS = 32 * 2**20, 512  # of prepared items that stand for all
_WARM_UP = 3  # steps in which libraries choose and compile what they use
_LEAST_STEPS = 4  # timed, unless they are slow
_PROBE_SECONDS, _MOST_SECONDS = 1.0, 3.0  # of timed steps, for each pace that the job has; the latter with warming up, for slow networks
_ITEM_SECONDS = 0.5
_JUDGED = 256  # items that time the network without training: a batch of validation
_PREPARED_BYTES_PER_SECOND = 300e6  # written to a disk


class Sample:
    """Some items of a dataset, prepared and in memory, that stand for all: item i is one of them."""

    def __init__(self, dataset: PackedDataset, features: FeatureConfig) -> None:
        """`features` is resolved. Prepares at once: the first items of the dataset, evenly spaced."""
        size = 2 if dataset.modality == "audio" else 1
        item_bytes = int(np.prod(item_shape(dataset, features))) * size
        count = max(1, min(len(dataset), _SAMPLE_ITEMS, _SAMPLE_BYTES // item_bytes))
        chosen = np.linspace(0, len(dataset) - 1, count).astype(np.int64)
        began = time.monotonic()
        self._items, self._length = prepare_items(dataset, chosen, features), len(dataset)
        self.seconds = time.monotonic() - began  # that these took
        self.bytes_for_all = 0 if lies_ready(dataset, features) else len(dataset) * item_bytes  # what the job will write
        writing = self.bytes_for_all / _PREPARED_BYTES_PER_SECOND
        self.seconds_for_all = writing + self.seconds * len(dataset) / count if self.bytes_for_all else 0.0

    def __len__(self) -> int:
        """Return the number of items that are stood for."""
        return self._length

    def batch(self, indices: NDArray[np.int64], /) -> Items:
        """Return items stacked, int16 (len(indices), n_samples) or uint8 (len(indices), side, side, 3)."""
        return self._items[indices % len(self._items)]


class Bench:
    """Measures one network, which is trained a little by that."""

    def __init__(self, network: Network, record: TransferRecord, spec: JobSpec, data: TrainingData, device: torch.device) -> None:
        """`spec` is resolved; `data` reads from a Sample."""
        self._network, self._record, self._spec, self._data, self._device = network, record, spec, data, device
        self._trainer = self._trainer_of(spec)
        self._held = 0
        self.trainable = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)

    def pace(self) -> Pace:
        """Return what a step and an item take. Raises TrainingError: loss_not_finite, out_of_memory."""
        laps = self._steps(self._trainer)
        self._held = self._memory()
        step = Span.of(_steady(laps))
        begin = max(0.0, sum(lap - step.expected for lap in laps[:_WARM_UP]))
        points = [point for point in thaw_points(self._record.shared_layers, self._spec.transfer).values() if point != NEVER]
        if points:
            step = blended(step, Span.of(_steady(self._steps(self._trainer_of(_thawed(self._spec))))), float(np.mean(points)))
        return Pace(begin, step, self._item())

    def sizes(self, prepared: int) -> Sizes:
        """Return what is held here and written later; `prepared` bytes of items are. Call after `pace`."""
        memory = self._held if self._device.type == "cuda" else self._memory()
        tensors, _ = self._trainer.state()
        checkpoint = sum(tensor.nbytes for tensor in tensors.values())
        weights = sum(tensor.nbytes for tensor in self._network.state_dict().values())
        return Sizes(prepared, weights, checkpoint, memory)

    def _trainer_of(self, spec: JobSpec) -> Trainer:
        record = self._record
        return Trainer(self._network, spec, self._data, device=self._device, carried=record.shared_layers, frozen=record.frozen_layers)

    def _steps(self, trainer: Trainer) -> list[float]:
        """Return the seconds of each step of a short training, validation left out."""
        laps = _Laps(self._device)
        with contextlib.suppress(Interrupted):  # else the whole training was shorter than the probe
            trainer.fit(on_progress=laps.on_progress, should_stop=laps.should_stop, on_step=laps.on_step)
        return laps.steps

    def _item(self) -> Span:
        """Return the seconds of one item on its way through the network without training."""
        data, config = self._data, self._network.config
        # A whole batch, of training items where need be: the evaluation at the end takes them all, and memory with them.
        indices = np.concatenate([data.validation, data.train, data.test])[:_JUDGED]
        rows = _Rows(data.items.batch(indices))
        inputs = Inputs(rows, config.modality, config.features, device=self._device)
        judged = dataclasses.replace(data, items=rows, truth=data.truth[indices], validation=np.arange(len(indices)))
        halved = torch.autocast(self._device.type, torch.bfloat16, enabled=self._spec.hyperparameters.precision == "bf16")
        validator = Validator(self._network, inputs, judged, self._device, false_accept=None)
        laps: list[float] = []
        began = time.monotonic()
        while len(laps) < 2 or time.monotonic() - began < _ITEM_SECONDS:
            before = time.monotonic()
            validator.measure(halved)
            laps.append((time.monotonic() - before) / len(indices))
        return Span.of(laps[1:])

    def _memory(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_reserved(self._device)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024  # Linux counts kibibytes


class _Rows:
    """Items in memory, as training reads them."""

    def __init__(self, rows: NDArray[Any]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, indices: NDArray[np.int64], /) -> NDArray[Any]:
        return self._rows[indices]


class _Laps:
    """Times a training from within, and ends it when enough is known."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._began = self._warm_at = self._mark = time.monotonic()
        self.steps: list[float] = []

    def on_step(self, _: Trainer) -> None:
        self.steps.append(self._lap())

    def on_progress(self, progress: Progress) -> None:
        if progress.metrics is not None:
            self._lap()  # validation is measured by itself

    def should_stop(self) -> bool:
        if len(self.steps) == _WARM_UP:
            self._warm_at = self._mark
        enough = len(self.steps) >= _WARM_UP + _LEAST_STEPS and self._mark - self._warm_at >= _PROBE_SECONDS
        return enough or (len(self.steps) > 1 and self._mark - self._began >= _MOST_SECONDS)

    def _lap(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        before, self._mark = self._mark, time.monotonic()
        return self._mark - before


def _steady(laps: list[float]) -> list[float]:
    """Return the laps after the warm-up, or what there is of a training that is shorter."""
    return laps[_WARM_UP:] or laps[1:] or laps


def _thawed(spec: JobSpec) -> JobSpec:
    """Return the job with all layers moving from the start."""
    transfer = spec.transfer.model_copy(update={"freeze": "none", "thaw_from": "head", "probe_first": False})
    return spec.model_copy(update={"transfer": transfer})
