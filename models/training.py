"""The training loop. Knows no file system, queue or clock but the one it measures time with; the caller decides when to save and stop.

Every batch: items → augmentation → features → network → loss → update. Every epoch: validation; the weights with the highest validation
accuracy are kept, among equals those with the lowest loss (then the earlier ones): the loss tells models apart where a small set's
accuracy can't, but alone it prefers early, timid weights. On 20 words the two choices differed by 0.8 points (97.5 and 98.3 %).
Without validation items the last weights are the best. bf16 runs under autocast, features and loss stay in float32; kernels lie
channels-last, which measures a quarter faster on CPUs and is what tensor cores want.

On a CPU with a fixed number of threads, a run is a function of job, data and seed: bit for bit, and however often it was interrupted.
"""

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
from models.course import Course
from models.errors import Interrupted
from models.inputs import Inputs, with_unknowns
from models.losses import label_weights, one_hot, weighted_cross_entropy
from models.network import Network
from models.norm_statistics import re_estimate, statistics_batches
from models.optimizers import build_optimizer, set_learning_rate
from models.schedules import SCHEDULES, factor
from models.training_errors import memory_errors, not_finite
from models.training_state import (
    AUGMENTATION,
    LAYERS,
    Clock,
    Counters,
    Plan,
    State,
    Stopped,
    TrainingData,
    copied,
    epoch_batches,
    generator_for,
    seed_of,
)
from models.validation import Validator, merit

_FINITE_EVERY = 20  # batches; asking more often would make a GPU wait for the CPU


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
        self,
        network: Network,
        spec: JobSpec,
        data: TrainingData,
        *,
        device: torch.device | str = "cpu",
        carried: Iterable[str] = (),
        frozen: Iterable[str] = (),
    ) -> None:
        """`spec` is resolved; `carried` names layers with the source's weights, `frozen` layers that keep theirs.

        Moves `network` to `device` and trains it in place.
        """
        self.spec, self.data, self.plan = spec, data, Plan.of(spec, len(data.train))
        self._device = torch.device(device)
        self.network = network.to(self._device)
        _lay_channels_last(self.network)
        self._course = Course(self.network, spec, carried=carried, frozen=frozen)
        chosen = spec.hyperparameters
        optimizer = build_optimizer(
            chosen.optimizer,
            self._course.trained,
            learning_rate=self.plan.learning_rate,
            momentum=chosen.momentum,
            weight_decay=self.plan.weight_decay,
            treatments=self._course.treatments(),
        )
        running = torch.zeros(2, dtype=torch.float64, device=self._device)
        self._state = State(network, optimizer, Counters(), running, {}, self._course.tensors())
        self._inputs = Inputs(data.items, network.config.modality, network.config.features, device=device)
        weights = label_weights(data.truth[data.train], len(data.labels)) if chosen.balance_classes else torch.ones(len(data.labels))
        self._weights = weights.to(self._device)
        self._validator = Validator(network, self._inputs, data, self._device, spec.evaluation.unknown_false_accept)
        self._clock = Clock()
        self._settled: dict[str, float] = {}

    @property
    def counters(self) -> Counters:
        """Return how far training has come."""
        return self._state.counters

    @property
    def interpolation(self) -> float:
        """Return the share of the trained weights in the carried layers, the rest being the source's; 1 until `settle` has chosen."""
        return self._course.interpolation

    @property
    def best_loss(self) -> float | None:
        """Return the validation loss of the weights that `settle` left in the network; None without validation items."""
        return self._settled.get("validation_loss", self.counters.best_loss)

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

    def settle(self) -> None:
        """End training: put the best weights so far into the network, mixed with the source's as the job says."""
        self.counters.seconds = self._clock.seconds
        self.restore_best()
        self._settled = self._course.settle(self._validate, self._re_estimate)

    def fit(
        self, *, on_progress: Callable[[Progress], None], should_stop: Callable[[], bool], on_step: Callable[["Trainer"], None]
    ) -> FitResult:
        """Train to the end and leave the best weights in the network.

        `on_step` runs after every batch and may call `state`. When `should_stop` then says so, Interrupted is raised; `state` still holds.
        Raises TrainingError: loss_not_finite, out_of_memory.
        """
        with memory_errors():
            self._begin()
            while self.counters.stopped is None:
                for _ in self._train_epoch():
                    on_progress(self._progress("training", None))
                    on_step(self)
                    if should_stop():
                        raise Interrupted(f"stopped after step {self.counters.step}")
                metrics = self._finish_epoch()
                on_progress(self._progress("validation", metrics))
            self.settle()
        history, best_epoch = self.counters.history, self.counters.best_epoch
        best_state = copied(self.network.state_dict()) if self._settled else self._state.best
        return FitResult(best_epoch, history, history[best_epoch - 1] | self._settled, best_state, self.counters.stopped)

    def _begin(self) -> None:
        """Measure the carried layers' statistics on the new items, before the first update and only then."""
        if self.counters.step == 0 and self.spec.transfer.statistics == "target":
            self._re_estimate(self._course.carried)
            self._course.restart()

    def _re_estimate(self, layers: tuple[str, ...] | None = None) -> None:
        re_estimate(self.network, statistics_batches(self._inputs, self.data.train), layers=layers)

    def _train_epoch(self) -> Iterator[None]:
        """Run what is left of the epoch, batch by batch, or as much of it as time allows."""
        counters = self.counters
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
        self._course.hold(*self.plan.update_of(step))
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
        inputs, targets = mixup(inputs, targets, config.mixup, generator) if config.mixup else (inputs, targets)
        if self.spec.evaluation.unknown_false_accept is None or self.network.config.modality != "audio":
            return inputs, targets
        return with_unknowns(inputs, targets, self._inputs.unknown(batch, self._truth_of(batch), config, generator))

    def _update(self, step: int) -> None:
        self._course.before_update()
        if self.spec.hyperparameters.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self._course.trained, self.spec.hyperparameters.gradient_clip)
        set_learning_rate(self._state.optimizer, self._learning_rate(step))
        self._state.optimizer.step()
        self._state.optimizer.zero_grad(set_to_none=True)
        self._course.after_update(self.plan.update_of(step)[0])

    def _finish_epoch(self) -> dict[str, float]:
        """Validate, keep the weights if they are the best, decide whether to stop; return the epoch's metrics."""
        self._check_finite()
        counters, (total, count) = self.counters, self._state.running.tolist()
        counters.epoch += 1
        metrics = {"epoch": counters.epoch, "step": counters.step, "train_loss": total / max(1.0, count)}
        with self._course.averaged():
            metrics |= self._validate()
            self._compare(merit(metrics), metrics.get("validation_loss"))
        metrics |= {"learning_rate": self._learning_rate(max(0, counters.step - 1)), "samples_per_second": self._clock.rate}
        counters.history.append(metrics)
        counters.stopped = self._why_to_stop()
        self._state.running.zero_()
        return metrics

    def _validate(self) -> dict[str, float]:
        """Return the metrics of the network as it is. Raises TrainingError (loss_not_finite)."""
        metrics = self._validator.measure(self._autocast())
        if not math.isfinite(metrics.get("validation_loss", 0.0)):
            raise not_finite("the validation loss", self.counters.step)
        return metrics

    def _compare(self, accuracy: float | None, loss: float | None) -> None:
        counters = self.counters
        if counters.beaten_by(accuracy, loss):
            counters.best_accuracy, counters.best_loss, counters.best_epoch, counters.stale = accuracy, loss, counters.epoch, 0
            self._state.remember_best()
        elif counters.epoch > self._course.patient_from(SCHEDULES[self.spec.hyperparameters.schedule].patient_from) * self.plan.epochs:
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
        place = self._course.schedule_place(*self.plan.update_of(step))
        return self.plan.learning_rate * factor(self.spec.hyperparameters.schedule, *place)

    def _truth_of(self, batch: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(self.data.truth[batch]).to(self._device)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self.spec.hyperparameters.precision == "bf16")

    def _check_finite(self) -> None:
        if not self._state.loss_is_finite():
            raise not_finite("the training loss", self.counters.step)

    def _progress(self, phase: str, metrics: dict[str, float] | None) -> Progress:
        counters, plan = self.counters, self.plan
        return Progress(phase, counters.epoch + (phase == "training"), plan.epochs, counters.step, plan.steps, metrics, self._clock.rate)


def _lay_channels_last(network: Network) -> None:
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
