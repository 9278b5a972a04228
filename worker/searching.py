"""The search for hyper-parameters as a stage of a training job: short trainings on the job's own items, before the one that counts.

What is known of each trial lies in the job's folder as soon as the trial has ended, so that a search that was stopped or killed goes on.
"""

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import ValidationError

from models import selection
from models.config import JobSpec, SearchConfig
from models.dataset import PackedDataset
from models.errors import Interrupted, TrainingError
from models.optimizers import OPTIMIZERS
from models.recipes import resolve
from models.search import (
    RUNGS,
    SHARE,
    Choice,
    Parameters,
    Proposal,
    Range,
    Situation,
    Trial,
    best_of,
    open_space,
    propose,
    require_optuna,
    score_of,
    with_values,
    without_values,
)
from models.training import Progress, Trainer
from models.training_state import TrainingData
from worker.foundations import Foundation, Hooks, build_on, shortened
from worker.orders import TrainingOrder
from worker.storage import sync_folder

RECORD = "search.jsonl"
PHASE = "searching"


def split_for_search(data: TrainingData, seed: int) -> TrainingData:
    """Return the data of a trial: what it trains on, and the items that judge it as its validation items."""
    trained, judged = selection.split_for_race(data.train, data.validation, data.truth, data.groups, seed, most_trained=len(data.train))
    return dataclasses.replace(data, train=trained, validation=judged, test=np.empty(0, np.int64))


class Search:
    """The search of one job."""

    def __init__(
        self, order: TrainingOrder, foundation: Foundation, dataset: PackedDataset, data: TrainingData, device: torch.device, hooks: Hooks
    ) -> None:
        """`order.spec` is the job as posted. Raises ConfigError where optuna is not installed."""
        require_optuna()
        asked = order.spec
        self._config = asked.search or SearchConfig()
        self._dataset, self._device, self._hooks = dataset, device, hooks
        self._data = split_for_search(data, asked.seed)
        self._record = Record(order.folder / RECORD)
        self._before = foundation.spec
        self._foundation = dataclasses.replace(foundation, spec=without_values(foundation.spec, asked))
        self._settled = self._resolved(self._foundation.spec)
        self._space = self._open_space(asked)

    def run(self) -> Foundation:
        """Return the foundation with the best values found in its job. Raises Interrupted; the trials so far are kept."""
        spec = self._resolved(with_values(self._foundation.spec, self._best()))
        if spec != self._before:  # else it is what an earlier start has reported
            base = self._foundation.base
            self._hooks.report("resolved", spec=spec.model_dump(mode="json"), base_model_id=base.model_id if base else None)
        return dataclasses.replace(self._foundation, spec=spec)

    def _best(self) -> Parameters:
        """Run what is left of the trials; return the values of the best one, nothing where none tells more than the defaults."""
        trials = self._record.read()
        if not self._space or not len(self._data.validation):
            self._hooks.report("message", level="warning", message="there is nothing to search: no field is open, or no item can judge")
            return {}
        while len(trials) < self._config.trials and self._left(trials) > 0:
            trial = self._try(trials)
            trials.append(trial)
            self._keep(trial)
        best = best_of(trials)
        if best is None:
            self._hooks.report("message", level="warning", message="no trial came to its end; the values stay as they would be without")
            return {}
        message = f"trial {best.trial + 1} of {len(trials)} was the best, with accuracy {best.accuracy:.1%}; its values are taken"
        self._hooks.report("message", message=message, data={"trial": best.trial, "parameters": dict(best.parameters)})
        return best.parameters

    def _open_space(self, asked: JobSpec) -> dict[str, Range | Choice]:
        settled, source = self._settled, self._foundation.source
        carries = source is not None and settled.transfer.mode != "none"
        full_batch = OPTIMIZERS[settled.hyperparameters.optimizer].full_batch
        return open_space(Situation(asked, settled, carries=carries, full_batch=full_batch, items=len(self._data.train)))

    def _resolved(self, spec: JobSpec) -> JobSpec:
        source = self._foundation.source
        return resolve(spec, self._dataset, source=source.config if source else None, device=self._device.type)

    def _try(self, past: list[Trial]) -> Trial:
        """Run the trial that follows `past`."""
        proposal = propose(self._space, self._settled, past, seed=self._settled.seed, trials=self._config.trials)
        spec = shortened(self._resolved(with_values(self._foundation.spec, proposal.parameters)), SHARE)
        watch = _Watch(proposal, self._left(past), self._hooks.should_stop, lambda progress: self._show(past, progress, watch.seconds))
        state, found = self._outcome(spec, watch)
        accuracy, loss = found.get("validation_accuracy"), found.get("validation_loss")
        return Trial(
            trial=len(past),
            parameters=dict(proposal.parameters),
            state=state,
            accuracy=accuracy,
            score=None if accuracy is None or loss is None else score_of(accuracy, loss),
            seconds=round(watch.seconds, 3),
            rungs=watch.rungs,
        )

    def _outcome(self, spec: JobSpec, watch: "_Watch") -> tuple[Literal["complete", "pruned", "failed"], dict[str, float]]:
        """Return how a trial ended, and the metrics of its best weights. Raises Interrupted where the job is to stop."""
        try:
            return "complete", self._train(spec, watch)
        except Interrupted:
            if not watch.given_up:
                raise
            return "pruned", {}
        except TrainingError:  # these values make the loss no number, or need more memory than there is
            return "failed", {}

    def _train(self, spec: JobSpec, watch: "_Watch") -> dict[str, float]:
        foundation = dataclasses.replace(self._foundation, spec=spec)
        network, record = build_on(foundation, self._dataset, self._data, self._device)
        trainer = Trainer(network, spec, self._data, device=self._device, carried=record.shared_layers, frozen=record.frozen_layers)
        return trainer.fit(on_progress=watch.on_progress, should_stop=watch.should_stop, on_step=lambda _: None).metrics

    def _left(self, trials: list[Trial]) -> float:
        """Return the seconds that the search may still take."""
        limit = self._config.seconds
        return float("inf") if limit is None else limit - sum(trial.seconds for trial in trials)

    def _show(self, past: list[Trial], progress: Progress, seconds: float) -> None:
        """Report how far the search is: by trials, or by time where that ends it earlier."""
        share = (len(past) + progress.step / max(1, progress.steps)) / self._config.trials
        limit = self._config.seconds
        if limit is not None:
            share = max(share, 1 - (self._left(past) - seconds) / limit)
        steps = progress.steps * self._config.trials
        shown = dataclasses.replace(progress, phase=PHASE, step=min(steps, int(share * steps)), steps=steps, metrics=None)
        self._hooks.on_progress(shown)

    def _keep(self, trial: Trial) -> None:
        """Write the trial down, then tell of it: what has been told of is not run again."""
        try:
            self._record.append(trial)
        except OSError as error:
            self._hooks.report("message", level="warning", message=f"a trial could not be written down: {error.strerror}")
        words = f"accuracy {trial.accuracy:.1%}" if trial.accuracy is not None else trial.state
        message = f"trial {trial.trial + 1} of {self._config.trials}: {words}"
        data = trial.model_dump(include={"trial", "parameters", "accuracy", "seconds", "state"})
        self._hooks.report("message", message=message, data=data)


class _Watch:
    """Looks on while one trial trains, and ends it where it is not worth its time or the time is over."""

    def __init__(self, proposal: Proposal, seconds: float, should_stop: Callable[[], bool], show: Callable[[Progress], None]) -> None:
        self._proposal, self._wished, self._show = proposal, should_stop, show
        self._began = time.monotonic()
        self._end = self._began + seconds
        self.given_up = False
        self.rungs: dict[int, float] = {}

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def on_progress(self, progress: Progress) -> None:
        self._show(progress)
        if progress.metrics is None:
            return
        rung = RUNGS * progress.epoch // progress.epochs
        if 0 < rung < RUNGS and rung not in self.rungs:
            self.rungs[rung] = score_of(progress.metrics["validation_accuracy"], progress.metrics["validation_loss"])
            self.given_up = self._proposal.gives_up(rung, self.rungs[rung])

    def should_stop(self) -> bool:
        if self._wished():
            self.given_up = False
            return True
        self.given_up = self.given_up or time.monotonic() >= self._end
        return self.given_up


class Record:
    """Trials that have ended, one line of JSON each, appended and made durable one by one."""

    def __init__(self, path: Path) -> None:
        """Nothing is read yet."""
        self._path = path

    def read(self) -> list[Trial]:
        """Return the trials written down, in order. What a kill left of a line is cut off."""
        if not self._path.exists():
            return []
        found: list[Trial] = []
        intact = 0
        for line in self._path.read_bytes().splitlines(keepends=True):
            trial = _trial_of(line)
            if trial is None or trial.trial != len(found):
                os.truncate(self._path, intact)
                break
            found.append(trial)
            intact += len(line)
        return found

    def append(self, trial: Trial) -> None:
        """Write one trial durably. Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(trial.model_dump_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self._path.parent)


def _trial_of(line: bytes) -> Trial | None:
    if not line.endswith(b"\n"):
        return None
    try:
        return Trial.model_validate_json(line)
    except ValidationError:
        return None
