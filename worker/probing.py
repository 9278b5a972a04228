"""A quote: every auto replaced, the network built as the trainer builds it, put on the bench, and what follows for the whole job."""

import math
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import selection
from models.averaging import INTERPOLATION_GRID
from models.config import AUTO, JobSpec, TransferRecord
from models.dataset import PackedDataset
from models.reject import NOISES, WORDS
from models.robustness import CONDITIONS, LEAST_ITEMS, MOST_ITEMS
from models.schedules import SCHEDULES
from models.search import SHARE, require_optuna
from models.strategies import patient_from, thaw_points
from models.training_state import Plan, TrainingData
from models.validation import words_heard
from worker.bench import Bench, Sample
from worker.estimates import Pace, Shape, Sizes, Span, Stage, disk_of, memory_of, quote_of, saving_share, training_stage
from worker.foundations import Foundation, Founder, Hooks, build_on, shortened
from worker.orders import TrainingOrder
from worker.searching import PHASE, split_for_search
from worker.training_run import training_device

_PICK_UP = Span(0.2, 0.5, 2.0)  # from the row to a process, on a worker that is free
_STARTING = 1.3  # the interpreter and what it reads before the libraries, relative to these
# An export takes this share of what importing the libraries takes: both are Python at work on one core.
_EXPORT = Span(0.1, 0.2, 0.4)
_LEFT_BY_PRUNING = Span(0.4, 0.7, 1.0)  # share of a search that is left when hopeless trials are given up
_ANSWERED, _ANSWERS = 1000, 3  # training items that a first answer looks at, and how often

_UNKNOWNS = 2 * (NOISES + WORDS)  # which thresholds are fitted to and judged by


class Probe:
    """Makes one quote."""

    def __init__(self, order: TrainingOrder, began: float) -> None:
        """`began` is when the process did, by time.monotonic(). Raises UnavailableError for a device that is not there."""
        self._order, self._imported = order, time.monotonic() - began
        if order.threads is not None:
            torch.set_num_threads(order.threads)
        self._device = training_device(order.device)
        self._warnings: list[str] = []

    def run(self) -> dict[str, Any]:
        """Return the quote without its `object`. Raises SynesthesiaError for what the job would fail with at its start."""
        order = self._order
        if order.spec.search is not None:
            require_optuna()
        began = time.monotonic()
        dataset = PackedDataset.open(order.dataset_directory)
        # A race takes seconds to minutes: what is most believed in is quoted, and the race is added.
        arms = Founder(order, dataset, self._device, Hooks(self._hear, lambda _: None, lambda _: None, lambda: False)).arms()
        foundation = next(iter(arms.values()))
        sample = Sample(dataset, foundation.spec.features)
        data = TrainingData.from_dataset(dataset, sample)
        network, record = build_on(foundation, dataset, data, self._device)
        bench = Bench(network, record, foundation.spec, data, self._device)
        preparing = time.monotonic() - began - sample.seconds + sample.seconds_for_all
        pace, sizes = bench.pace(), bench.sizes(sample.bytes_for_all)
        course = _Course(order, foundation, data, record, pace, sizes)
        first = [
            Stage("starting", _PICK_UP + Span.about(self._imported * _STARTING)),
            Stage("preparing", Span.about(preparing, 0.3) + self._first_answer(foundation, data, pace)),
        ]
        stages = [*first, *course.choosing(list(arms)), *course.searching(), course.training(), *self._last(foundation.spec, data, pace)]
        self._warn(list(arms), foundation.spec, course.training())
        return {
            "resolved": foundation.spec.model_dump(mode="json"),
            "device": self._device.type,
            "trainable_parameters": bench.trainable,
            "total_parameters": network.parameter_count(),
            **quote_of(stages),
            "peak_memory_bytes": memory_of(sizes, on_gpu=self._device.type == "cuda"),
            "disk_bytes": disk_of(sizes),
            "warnings": self._warnings,
        }

    def _first_answer(self, foundation: Foundation, data: TrainingData, pace: Pace) -> Span:
        asked = self._order.spec
        if asked.type != "finetune" or asked.transfer.mode != AUTO or foundation.source is None:
            return Span()
        return pace.item * (_ANSWERS * min(_ANSWERED, len(data.train))) + _EXPORT * self._imported

    def _last(self, spec: JobSpec, data: TrainingData, pace: Pace) -> list[Stage]:
        """Return what follows training: interpolation, every item once, sounds that are no label, worse recordings, and the files."""
        once = len(data.train) + len(data.validation) + len(data.test)
        # Each mixture's statistics are measured anew on about as many items as judge it.
        mixed = 2 * len(INTERPOLATION_GRID) * len(data.validation) if spec.transfer.interpolate == AUTO else 0
        judged = min(MOST_ITEMS, len(data.test) or len(data.validation))
        unknown = _UNKNOWNS if spec.evaluation.unknown_false_accept is not None else 0
        worse = len(CONDITIONS) * judged if self._order.spec.type == "finetune" and judged >= LEAST_ITEMS else 0
        return [Stage("evaluating", pace.item * (once + mixed + unknown + worse)), Stage("exporting", _EXPORT * self._imported)]

    def _hear(self, kind: str, **fields: Any) -> None:
        if kind == "message" and fields.get("level") == "warning":
            self._warnings.append(str(fields["message"]))

    def _warn(self, arms: list[str], spec: JobSpec, training: Stage) -> None:
        if len(arms) > 1:
            self._warnings.append(
                f"auto decides by a race of {', '.join(arms)}; the values are those of {arms[0]}, which is most believed in"
            )
        if spec.search is not None:
            self._warnings.append("the search decides on values that were left open; the values are those of its first trial")
        if spec.evaluation.controls != "none":
            self._warnings.append("controls are jobs of their own, which follow this one; they are not counted")
        limit = spec.hyperparameters.max_seconds
        if limit is not None and training.seconds.expected >= limit:
            self._warnings.append(f"max_seconds ends the training after {limit:g} s, before its last step")


class _Course:
    """What one job trains, from race to last epoch."""

    def __init__(
        self, order: TrainingOrder, foundation: Foundation, data: TrainingData, record: TransferRecord, pace: Pace, sizes: Sizes
    ) -> None:
        self._order, self._foundation, self._data = order, foundation, data
        self._record, self._pace, self._sizes = record, pace, sizes

    def training(self) -> Stage:
        """Return the training that counts. It may end early, from where patience counts on."""
        spec, data = self._foundation.spec, self._data
        chosen, plan = spec.hyperparameters, Plan.of(spec, len(data.train))
        patience = chosen.early_stopping_patience if len(data.validation) else None
        points = thaw_points(self._record.shared_layers, spec.transfer)
        waiting = math.ceil(patient_from(spec.transfer, points, SCHEDULES[chosen.schedule].patient_from) * plan.epochs)
        least = plan.epochs if patience is None else min(plan.epochs, waiting + patience)
        shape = Shape(plan.epochs, least, plan.batches, _validated(spec, data))
        stage = training_stage(self._pace, shape, saving_share(self._sizes, self._order.checkpoint_seconds))
        return stage if chosen.max_seconds is None else Stage(stage.name, stage.seconds.up_to(chosen.max_seconds), stage.steps)

    def choosing(self, names: list[str]) -> list[Stage]:
        """Return the race between `names`, nothing where there is none."""
        if len(names) < 2:
            return []
        spec, data = self._foundation.spec, self._data
        trained, judged = selection.split_for_race(data.train, data.validation, data.truth, data.groups, spec.seed)
        shares: list[float] = []

        def run(_: str, share: float) -> NDArray[np.bool_]:
            shares.append(share)
            return np.zeros(1, np.bool_)

        selection.race(names, run)  # run by its own rules, with nobody better than another
        steps = sum(Plan.of(shortened(spec, share), len(trained)).steps for share in shares)
        seconds = self._pace.step * steps + self._pace.item * (len(judged) * len(shares)) + Span.about(self._pace.begin) * len(shares)
        return [Stage("choosing", seconds, steps)]

    def searching(self) -> list[Stage]:
        """Return the search, nothing where none was asked for."""
        spec, search = self._foundation.spec, self._order.spec.search
        if search is None:
            return []
        data = split_for_search(self._data, spec.seed)
        plan = Plan.of(shortened(spec, SHARE), len(data.train))
        whole = self._pace.step * plan.steps + self._pace.item * (_validated(spec, data) * plan.epochs)
        seconds = Span(*(getattr(whole, end) * getattr(_LEFT_BY_PRUNING, end) for end in ("low", "expected", "high"))) * search.trials
        seconds = seconds + Span.about(self._pace.begin) * search.trials
        return [Stage(PHASE, seconds if search.seconds is None else seconds.up_to(search.seconds), plan.steps * search.trials)]


def _validated(spec: JobSpec, data: TrainingData) -> int:
    """Return how many items an epoch's validation takes: unknown words, too, in a job that is to reject."""
    count = len(data.validation)
    return count if spec.evaluation.unknown_false_accept is None else count + words_heard(count)
