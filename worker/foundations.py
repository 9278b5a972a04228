"""What a training job builds on: the source that was named, or under `auto` the one that wins a short race on the job's own items."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import bundled, selection
from models.artifact import load_artifact, load_bundled
from models.config import AUTO, JobSpec, TransferConfig, TransferRecord
from models.dataset import PackedDataset
from models.errors import SynesthesiaError
from models.inputs import Inputs, compute_normalization
from models.network import Network, build_network, published_network
from models.predicting import predict_items
from models.prepared import PreparedItems
from models.recipes import network_config, resolve
from models.training import Progress, Trainer
from models.training_state import TrainingData
from models.transfer import carry_over
from worker.orders import BaseOrder, TrainingOrder

_TIMM = "timm/"
SCRATCH = "scratch"


@dataclass(frozen=True)
class Foundation:
    """A job with every auto settled, and the trained network that it builds on, if any."""

    spec: JobSpec
    source: Network | None = None
    base: BaseOrder | None = None


@dataclass(frozen=True)
class Hooks:
    """How a race talks to the process around it; `should_stop` is asked between any two steps."""

    report: Callable[..., None]
    announce: Callable[[Foundation], None]  # what is most believed in, before it has to prove itself
    on_progress: Callable[[Progress], None]
    should_stop: Callable[[], bool]


class Founder:
    """Settles what one order builds on."""

    def __init__(self, order: TrainingOrder, dataset: PackedDataset, device: torch.device, hooks: Hooks) -> None:
        """Nothing is loaded yet."""
        self._order, self._dataset, self._device, self._hooks = order, dataset, device, hooks

    def settle(self) -> Foundation:
        """Return the foundation: that of an earlier start, the one asked for, or the winner of the race.

        Raises ConfigError for choices that contradict one another, UnavailableError where weights can't be had, Interrupted in a race.
        """
        if self._order.resolved is not None:
            base = next((base for base in self._order.bases if base.name == self._order.resolved.base_model), None)
            return Foundation(self._order.resolved, self._load(base), base)
        arms = self.arms()
        first = next(iter(arms.values()))
        # Random weights have no first answer to give, wherever they stand in the order.
        self._hooks.announce(next((arm for arm in arms.values() if arm.source is not None), first))
        chosen = arms[self._race(arms)] if len(arms) > 1 else first
        model_id = chosen.base.model_id if chosen.base else None
        self._hooks.report("resolved", spec=chosen.spec.model_dump(mode="json"), base_model_id=model_id)
        return chosen

    def arms(self) -> dict[str, Foundation]:
        """Return what may be built on, by name, in order of belief; a single one where the job leaves no choice."""
        spec, bases = self._order.spec, self._order.bases
        open_choice = spec.type == "finetune" and spec.transfer.mode == AUTO and spec.transfer.until is None
        if not open_choice:
            return {SCRATCH: self._foundation(spec, bases[0] if bases else None)}
        sources = [found for base in bases if (found := self._if_possible(base)) is not None and found.source is not None]
        arms = {str(found.spec.base_model): found for found in sources}
        scratch = self._from_scratch(sources[0].source if sources else None)
        # A source that the user brought has to show what it is worth; the bundled one has been measured. Where it had to be better by any
        # margin, layers that had learnt random labels were taken five times of nine (benchmarks/results/regret.md).
        return arms | {SCRATCH: scratch} if spec.base_model == AUTO else {SCRATCH: scratch} | arms

    def _foundation(self, spec: JobSpec, base: BaseOrder | None) -> Foundation:
        source = self._load(base)
        if base is not None and spec.base_model == AUTO:
            spec = spec.model_copy(update={"base_model": base.name})
        return Foundation(self._resolved(spec, source), source, base)

    def _if_possible(self, base: BaseOrder) -> Foundation | None:
        """Return an arm, or None where it can't be had and the job did not ask for it by name."""
        try:
            return self._foundation(self._order.spec, base)
        except SynesthesiaError as error:
            if self._order.spec.base_model != AUTO:
                raise
            self._hooks.report("message", level="warning", message=f"{base.name} is left out: {error.message}")
            return None

    def _from_scratch(self, source: Network | None) -> Foundation:
        """Return the arm with random weights, of the architecture that the first source has."""
        asked = self._order.spec
        architecture = source.config.architecture if source is not None else None if asked.base_model == AUTO else asked.base_model
        spec = asked.model_copy(update={"base_model": architecture, "transfer": TransferConfig(mode="none")})
        return Foundation(self._resolved(spec, None))

    def _resolved(self, spec: JobSpec, source: Network | None) -> JobSpec:
        return resolve(spec, self._dataset, source=source.config if source else None, device=self._device.type)

    def _load(self, base: BaseOrder | None) -> Network | None:
        """Return the trained network behind a base, None where it names an architecture only or no weights are wanted."""
        if base is None:
            return None
        if base.name == bundled.NAME:
            return load_bundled()
        if base.directory is not None:
            return load_artifact(base.directory)[0]
        if base.name.startswith(_TIMM) and self._order.spec.transfer.mode != "none":
            return published_network(base.name, directory=self._order.timm_dir, offline=self._order.offline)
        return None

    def _race(self, arms: dict[str, Foundation]) -> str:
        """Return the name of the arm to build on, and say why."""
        spec = next(iter(arms.values())).spec
        data = TrainingData.from_dataset(self._dataset, PreparedItems(self._dataset, spec.features, self._order.folder))
        track = Track(self._dataset, data, self._device, self._hooks, spec.seed)
        verdict = track.race(arms)
        if not verdict.results:
            self._hooks.report(
                "message", message=f"auto builds on {verdict.winner}: there are too few clips to keep any apart and judge by"
            )
            return verdict.winner
        last = [result for result in verdict.results if result.share == verdict.results[-1].share]
        words = ", ".join(f"{result.name} {result.accuracy:.1%}" for result in last)
        told = {"winner": verdict.winner, "judged": len(last[0].right), "arms": [_as_json(result) for result in verdict.results]}
        judged = f"right of {len(last[0].right)} clips kept apart, after {last[0].share:.0%} of the steps"
        message = f"auto builds on {verdict.winner}; {judged}: {words}"
        self._hooks.report("message", message=message, data=told)
        return verdict.winner


class Track:
    """Where arms race: the items to train on, and those kept apart to judge by."""

    def __init__(self, dataset: PackedDataset, data: TrainingData, device: torch.device, hooks: Hooks, seed: int) -> None:
        """`data` are the job's items; what is kept apart of them depends on `seed`."""
        self._dataset, self._device, self._hooks = dataset, device, hooks
        trained, self._judged = selection.split_for_race(data.train, data.validation, data.truth, data.groups, seed)
        nothing = np.empty(0, np.int64)
        self._data = dataclasses.replace(data, train=trained, validation=nothing, test=nothing)

    def race(self, arms: dict[str, Foundation]) -> selection.Verdict:
        """Return which arm is to be built on; the first, without results, where there is nothing to judge by: one or two clips a label."""
        if not len(self._judged):
            return selection.Verdict(next(iter(arms)), ())
        return selection.race(list(arms), lambda name, share: self.run(arms[name], share))

    def run(self, arm: Foundation, share: float) -> NDArray[np.bool_]:
        """Train the arm for a share of its steps; return which of the judged clips it then gets right."""
        spec = shortened(arm.spec, share)
        network, record = build_on(Foundation(spec, arm.source, arm.base), self._dataset, self._data, self._device)
        trainer = Trainer(network, spec, self._data, device=self._device, carried=record.shared_layers, frozen=record.frozen_layers)
        trainer.fit(
            on_progress=lambda progress: self._hooks.on_progress(dataclasses.replace(progress, phase="choosing", metrics=None)),
            should_stop=self._hooks.should_stop,
            on_step=lambda _: None,
        )
        inputs = Inputs(self._data.items, network.config.modality, network.config.features, device=self._device)
        right: NDArray[np.bool_] = predict_items(network.eval(), inputs, self._judged).argmax(axis=1) == self._data.truth[self._judged]
        return right


def shortened(spec: JobSpec, share: float) -> JobSpec:
    """Return a settled job that makes a share of its epochs, one at least, and takes a share of its time at most."""
    chosen = spec.hyperparameters
    seconds = None if chosen.max_seconds is None else chosen.max_seconds * share
    changes = {"epochs": max(1, round(int(chosen.epochs) * share)), "max_seconds": seconds}
    return spec.model_copy(update={"hyperparameters": chosen.model_copy(update=changes)})


def build_on(foundation: Foundation, dataset: PackedDataset, data: TrainingData, device: torch.device) -> tuple[Network, TransferRecord]:
    """Return the network that a settled job trains, with its carried layers in place, and what was carried over."""
    spec, source = foundation.spec, foundation.source
    normalization = compute_normalization(data.items, data.train, dataset.modality, spec.features, device=device)
    source_config = source.config if source else None
    config = network_config(spec, modality=dataset.modality, labels=dataset.labels, normalization=normalization, source=source_config)
    network = build_network(config, seed=spec.seed)
    if source is None or source_config is None:
        return network, TransferRecord(base_model=spec.base_model)
    return network, carry_over(source, source_config, network, spec.transfer, base_model=spec.base_model)


def _as_json(result: selection.Result) -> dict[str, Any]:
    return {"name": result.name, "share": result.share, "accuracy": result.accuracy}
