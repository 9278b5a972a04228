"""The training loop. Knows no file system, queue or clock but the one it measures time with; the caller decides when to save and stop.

Every batch: items → augmentation → features → network → loss → update. Every epoch: validation; the weights with the highest validation
accuracy are kept, among equals those with the lowest loss (then the earlier ones): the loss tells models apart where a small set's
accuracy can't, but alone it prefers early, timid weights. On 20 words the two choices differed by 0.8 points (97.5 and 98.3 %).
Without validation items the last weights are the best. bf16 runs under autocast, features and loss stay in float32; kernels lie
channels-last, which measures a quarter faster on CPUs and is what tensor cores want.

On a CPU with a fixed number of threads, a run is a function of job, data and seed: bit for bit, and however often it was interrupted.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.augment import mixup
from models.config import JobSpec
from models.errors import Interrupted, TrainingError
from models.inputs import Inputs
from models.losses import label_weights, one_hot, weighted_cross_entropy
from models.network import Network
from models.optimizers import build_optimizer, set_learning_rate
from models.schedules import SCHEDULES, factor
from models.training_state import (
    AUGMENTATION,
    LAYERS,
    Clock,
    Counters,
    Plan,
    State,
    Stopped,
    TrainingData,
    epoch_batches,
    generator_for,
    seed_of,
)
from models.transfer import freeze, set_train_mode

_FINITE_EVERY = 20  # batches; asking more often would make a GPU wait for the CPU
_VALIDATION_BATCH = 256


@dataclass(frozen=True)
class Progress:
    """One report: after every batch with `metrics` None, after every epoch with its metrics."""

    phase: str  # training | validation
    epoch: int  # the one that runs, from 1
    epochs: int
    step: int  # batches done
    steps: int
    metrics: dict[str, float] | None
    samples_per_second: float


@dataclass(frozen=True)
class FitResult:
    """What came out; the network holds `best_state` by then."""

    best_epoch: int
    history: list[dict[str, float]]  # an entry an epoch, as in Progress.metrics
    metrics: dict[str, float]  # of the best epoch
    best_state: dict[str, torch.Tensor]
    stopped: Stopped


class Trainer:
    """Trains one network on one dataset; can be asked for its state between any two batches and go on from it."""

    def __init__(
        self, network: Network, spec: JobSpec, data: TrainingData, *, device: torch.device | str = "cpu", frozen: Iterable[str] = ()
    ) -> None:
        """`spec` is resolved; `frozen` names layers that keep their weights. Moves `network` to `device` and trains it in place."""
        self.spec, self.data, self.plan = spec, data, Plan.of(spec, len(data.train))
        self._device, self._frozen = torch.device(device), tuple(frozen)
        self.network = network.to(self._device)
        _lay_channels_last(self.network)
        freeze(self.network, self._frozen)
        self._trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        chosen = spec.hyperparameters
        optimizer = build_optimizer(
            chosen.optimizer,
            self._trained,
            learning_rate=self.plan.learning_rate,
            momentum=chosen.momentum,
            weight_decay=self.plan.weight_decay,
        )
        running = torch.zeros(2, dtype=torch.float64, device=self._device)
        self._state = State(network, optimizer, Counters(), running, {})
        self._inputs = Inputs(data.items, network.config.modality, network.config.features, device=device)
        weights = label_weights(data.truth[data.train], len(data.labels)) if chosen.balance_classes else torch.ones(len(data.labels))
        self._weights = weights.to(self._device)
        self._clock = Clock()

    @property
    def counters(self) -> Counters:
        """Return how far training has come."""
        return self._state.counters

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return all that `load_state` needs to go on as if nothing had happened: (tensors on the CPU, JSON-able rest).

        Raises TrainingError (loss_not_finite) rather than hand out weights that are beyond repair.
        """
        self._check_finite()
        self.counters.seconds = self._clock.seconds
        return self._state.export(self.spec)

    def load_state(self, tensors: dict[str, torch.Tensor], meta: dict[str, Any]) -> None:
        """Go on from a state of the same job. Raises ArtifactError (checkpoint_mismatch) where it is none."""
        self._state.load(tensors, meta, self.spec)
        self._clock = Clock(self.counters.seconds)

    def restore_best(self) -> None:
        """Put the best weights so far into the network; those it has where no epoch is done yet."""
        if self._state.best:
            self.network.load_state_dict(self._state.best)

    def fit(
        self, *, on_progress: Callable[[Progress], None], should_stop: Callable[[], bool], on_step: Callable[["Trainer"], None]
    ) -> FitResult:
        """Train to the end and leave the best weights in the network.

        `on_step` runs after every batch and may call `state`. When `should_stop` then says so, Interrupted is raised; `state` still holds.
        Raises TrainingError: loss_not_finite, out_of_memory.
        """
        with _memory_errors():
            while self.counters.stopped is None:
                for _ in self._train_epoch():
                    on_progress(self._progress("training", None))
                    on_step(self)
                    if should_stop():
                        raise Interrupted(f"stopped after step {self.counters.step}")
                metrics = self._finish_epoch()
                on_progress(self._progress("validation", metrics))
        self.restore_best()
        history, best_epoch = self.counters.history, self.counters.best_epoch
        return FitResult(best_epoch, history, history[best_epoch - 1], self._state.best, self.counters.stopped)

    def _train_epoch(self) -> Iterator[None]:
        """Run what is left of the epoch, batch by batch, or as much of it as time allows."""
        counters = self.counters
        set_train_mode(self.network, self._frozen)
        batches = epoch_batches(self.data.train, self.plan.batches, self.spec.seed, counters.epoch)
        self._clock.start_lap()
        for batch in batches[counters.step - counters.epoch * self.plan.batches :]:
            self._train_batch(batch)
            counters.step += 1
            self._clock.count(len(batch))
            if counters.step % _FINITE_EVERY == 0:
                self._check_finite()
            yield
            if self._out_of_time():
                break

    def _train_batch(self, batch: NDArray[np.int64]) -> None:
        step = self.counters.step
        inputs, targets = self._training_batch(batch)
        torch.manual_seed(seed_of(self.spec.seed, LAYERS, step))  # dropout knows no generator but torch's own
        with self._autocast():
            logits = self.network(inputs)
        loss = weighted_cross_entropy(logits.float(), targets, self._weights, self.spec.hyperparameters.label_smoothing)
        share = len(batch) / len(self.data.train) if self.plan.full_batch else 1.0
        torch.autograd.backward(loss * share)
        if self.plan.updates_after(step):
            self._update(step)
        self._state.running += torch.stack([loss.detach().double() * len(batch), loss.new_tensor(len(batch)).double()])

    def _training_batch(self, batch: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs as the network takes them and target distributions, shape (batch, classes)."""
        config, generator = self.spec.augmentation, generator_for(self.spec.seed, AUGMENTATION, self.counters.step)
        inputs = self._inputs.augmented(batch, config, generator)
        targets = one_hot(self._truth_of(batch), len(self.data.labels))
        return mixup(inputs, targets, config.mixup, generator) if config.mixup else (inputs, targets)

    def _update(self, step: int) -> None:
        if self.spec.hyperparameters.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self._trained, self.spec.hyperparameters.gradient_clip)
        set_learning_rate(self._state.optimizer, self._learning_rate(step))
        self._state.optimizer.step()
        self._state.optimizer.zero_grad(set_to_none=True)

    def _finish_epoch(self) -> dict[str, float]:
        """Validate, keep the weights if they are the best, decide whether to stop; return the epoch's metrics."""
        self._check_finite()
        counters, (total, count) = self.counters, self._state.running.tolist()
        counters.epoch += 1
        metrics = {"epoch": counters.epoch, "step": counters.step, "train_loss": total / max(1.0, count)}
        metrics |= self._validate()
        metrics |= {"learning_rate": self._learning_rate(max(0, counters.step - 1)), "samples_per_second": self._clock.rate}
        counters.history.append(metrics)
        self._compare(metrics.get("validation_accuracy"), metrics.get("validation_loss"))
        counters.stopped = self._why_to_stop()
        self._state.running.zero_()
        return metrics

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Return mean cross-entropy (no smoothing, no weights) and accuracy on the validation items; nothing where there are none."""
        indices = self.data.validation
        if not len(indices):
            return {}
        self.network.eval()
        loss, right = 0.0, 0
        for batch in np.array_split(indices, -(-len(indices) // _VALIDATION_BATCH)):
            with self._autocast():
                logits = self.network(self._inputs.clean(batch))
            truth = self._truth_of(batch)
            loss += float(nn.functional.cross_entropy(logits.float(), truth, reduction="sum"))
            right += int((logits.argmax(dim=1) == truth).sum())
        if not math.isfinite(loss):
            raise _not_finite("the validation loss", self.counters.step)
        return {"validation_loss": loss / len(indices), "validation_accuracy": right / len(indices)}

    def _compare(self, accuracy: float | None, loss: float | None) -> None:
        counters = self.counters
        if counters.beaten_by(accuracy, loss):
            counters.best_accuracy, counters.best_loss, counters.best_epoch, counters.stale = accuracy, loss, counters.epoch, 0
            self._state.remember_best()
        elif counters.epoch > SCHEDULES[self.spec.hyperparameters.schedule].patient_from * self.plan.epochs:
            counters.stale += 1

    def _why_to_stop(self) -> Stopped | None:
        patience = self.spec.hyperparameters.early_stopping_patience
        if self.counters.epoch >= self.plan.epochs:
            return "finished"
        if self._out_of_time():
            return "time"
        return "early" if patience is not None and self.counters.stale >= patience else None

    def _out_of_time(self) -> bool:
        limit = self.spec.hyperparameters.max_seconds
        return limit is not None and self._clock.seconds >= limit

    def _learning_rate(self, step: int) -> float:
        return self.plan.learning_rate * factor(self.spec.hyperparameters.schedule, *self.plan.update_of(step))

    def _truth_of(self, batch: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(self.data.truth[batch]).to(self._device)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self.spec.hyperparameters.precision == "bf16")

    def _check_finite(self) -> None:
        if not self._state.loss_is_finite():
            raise _not_finite("the training loss", self.counters.step)

    def _progress(self, phase: str, metrics: dict[str, float] | None) -> Progress:
        counters, plan = self.counters, self.plan
        epoch = counters.epoch + (phase == "training")
        return Progress(phase, epoch, plan.epochs, counters.step, plan.steps, metrics, self._clock.rate)


def _lay_channels_last(network: Network) -> None:
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def _not_finite(what: str, step: int) -> TrainingError:
    return TrainingError(
        f"{what} is not a number at step {step}",
        code="loss_not_finite",
        param="hyperparameters.learning_rate",
        hint="lower the learning rate, or set gradient_clip to 1",
    )


@contextlib.contextmanager
def _memory_errors() -> Iterator[None]:
    """Translate what torch says when memory has run out, on CUDA and on the CPU."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # The CPU allocator raises a bare RuntimeError; its sentence is all there is to tell it by.
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise TrainingError(
            "memory has run out",
            code="out_of_memory",
            param="hyperparameters.batch_size",
            hint="a smaller batch_size, a shorter clip_seconds or a smaller base_model needs less",
        ) from error
