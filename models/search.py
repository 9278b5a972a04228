"""A search for hyper-parameters: what may be tried, what to try next, and what was the best.

A tree-structured Parzen estimator proposes (Bergstra et al. 2011), and a trial that does worse half-way than half of the others did at
that point is given up. The first trial has the values that the job would have had anyway, so that a search can't choose worse ones
unknowingly. All of it is a function of the job and of the trials so far: a search that goes on proposes what an uninterrupted one does.
No torch here, and optuna, an extra, is imported where it is used.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from models.config import AUTO, Frozen, JobSpec
from models.errors import ConfigError

if TYPE_CHECKING:
    import optuna

Value = bool | int | float | str
Parameters = Mapping[str, Value]  # path of a field in JobSpec → value
SHARE = 0.25  # of the job's steps that a trial is given
RUNGS = 10  # equal parts of a trial, after each of which it may be given up
_SPARED_RUNGS = 3  # before that the warm-up decides, not the values
_SPARED_TRIALS = 4  # that always run to their end: there has to be something to compare with
_RANDOM_TRIALS = (3, 10)  # least and most that are drawn at random before the estimator takes over: a quarter of all
# Ties are common where a hundred clips judge; a whole clip of five hundred always counts for more than any loss.
_LOSS_WEIGHT, _MOST_LOSS = 1e-4, 10.0


@dataclass(frozen=True)
class Range:
    """Numbers between two ends."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Value, ...]


@dataclass(frozen=True)
class Situation:
    """What decides on the space: the job as posted, as it would run without a search, and what it trains on."""

    asked: JobSpec
    settled: JobSpec
    carries: bool  # whether layers are carried over
    full_batch: bool  # whether the optimizer sees all items at each update
    items: int  # that a trial trains on


@dataclass(frozen=True)
class Dimension:
    """One field: what may be tried in a situation (None: nothing), and whether that means anything beside values already chosen."""

    options: Callable[[Situation], Range | Choice | None]
    matters: Callable[[Parameters], bool] = lambda _: True


class Trial(Frozen):
    """One short training that has ended; a line of the search's record."""

    trial: int
    parameters: dict[str, Value]
    state: Literal["complete", "pruned", "failed"]
    accuracy: float | None = None  # of the judged items, by the best epoch's weights
    score: float | None = None  # what is maximized
    seconds: float
    rungs: Mapping[int, float]  # rung → score by then


@dataclass(frozen=True)
class Proposal:
    """What to try next; `gives_up(rung, score)` takes note of a score and tells whether the rest is not worth its time."""

    parameters: Parameters
    gives_up: Callable[[int, float], bool]


def _around(field: str, *, most: float) -> Callable[[Situation], Range | None]:
    """Return the option of a tenth to ten times what auto means, `most` at most; none where auto means zero."""

    def options(situation: Situation) -> Range | None:
        middle = getattr(situation.settled.hyperparameters, field)
        return Range(middle / 10, min(middle * 10, most), log=True) if middle else None

    return options


def _batch_sizes(situation: Situation) -> Choice | None:
    middle = int(situation.settled.hyperparameters.batch_size)
    sizes = tuple(size for size in (middle // 2, middle, middle * 2) if size == middle or 8 <= size <= situation.items // 2)
    return Choice(sizes) if len(sizes) > 1 and not situation.full_batch else None


def _freezes(situation: Situation) -> Choice | None:
    transfer = situation.asked.transfer
    still = transfer.probe_first or transfer.regularize != "none" or transfer.interpolate != 1.0
    return Choice(("none", "gradual", *(() if still else ("shared",)))) if situation.carries else None


SPACE: dict[str, Dimension] = {
    "hyperparameters.learning_rate": Dimension(_around("learning_rate", most=100.0)),
    "hyperparameters.weight_decay": Dimension(_around("weight_decay", most=1.0)),
    "hyperparameters.batch_size": Dimension(_batch_sizes),
    "hyperparameters.label_smoothing": Dimension(lambda _: Range(0.0, 0.2)),
    "augmentation.mixup": Dimension(lambda _: Range(0.0, 0.4)),
    "transfer.freeze": Dimension(_freezes),
    "transfer.probe_first": Dimension(
        lambda situation: Choice((False, True)) if situation.carries else None,
        lambda chosen: chosen.get("transfer.freeze", "none") == "none",
    ),
    "hyperparameters.layer_decay": Dimension(
        lambda situation: Range(0.5, 1.0) if situation.carries else None,
        lambda chosen: chosen.get("transfer.freeze") != "shared",
    ),
}


def require_optuna() -> None:
    """Raise ConfigError where the library that proposes trials is not installed."""
    if importlib.util.find_spec("optuna") is None:
        hint = "install the extra `search` where the service and its workers run (pip install 'synesthesia[search]'), or leave search out"
        raise ConfigError("a search needs optuna, which is not installed", code="search_unavailable", param="search", hint=hint)


def open_space(situation: Situation) -> dict[str, Range | Choice]:
    """Return path → options for all fields that the job leaves open: at auto, or at their defaults."""
    found = {path: dimension.options(situation) for path, dimension in SPACE.items() if _is_open(situation.asked, path)}
    return {path: options for path, options in found.items() if options is not None}


def with_values(spec: JobSpec, parameters: Parameters) -> JobSpec:
    """Return the job with other values in some fields, by path."""
    for path, value in parameters.items():
        part, name = path.split(".")
        spec = spec.model_copy(update={part: getattr(spec, part).model_copy(update={name: value})})
    return spec


def without_values(settled: JobSpec, asked: JobSpec) -> JobSpec:
    """Return a settled job with the fields that a search may choose as they were asked for: `resolve` settles them again."""
    chosen = {path: _value_at(asked, path) for path in SPACE if not path.startswith("hyperparameters.")}
    # All of them: the number of epochs follows from the size of a batch.
    return with_values(settled.model_copy(update={"hyperparameters": asked.hyperparameters}), chosen)


def score_of(accuracy: float, loss: float) -> float:
    """Return what is maximized: the accuracy, among equals the one with the lower loss."""
    return accuracy - _LOSS_WEIGHT * min(loss, _MOST_LOSS)


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Return the trial with the best score, the earliest of equals; None where none has run to its end."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.score is not None]
    return max(complete, key=lambda trial: (trial.score, -trial.trial), default=None)


def propose(space: Mapping[str, Range | Choice], settled: JobSpec, past: Sequence[Trial], *, seed: int, trials: int) -> Proposal:
    """Return the trial that follows `past`, all trials so far in order, of `trials` in all. Imports optuna."""
    import optuna  # noqa: PLC0415 - an extra; and half a second that only a job with a search has to wait

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    least, most = _RANDOM_TRIALS
    # A seed for each trial: a search that goes on has no need of the sampler's memory.
    sampler = optuna.samplers.TPESampler(n_startup_trials=max(least, min(most, trials // 4)), seed=_seed_of(seed, len(past)))
    pruner = optuna.pruners.MedianPruner(n_startup_trials=_SPARED_TRIALS, n_warmup_steps=_SPARED_RUNGS)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    study.add_trials([_frozen(trial, space) for trial in past])
    if not past:
        study.enqueue_trial({path: _value_at(settled, path) for path in space})
    live = study.ask()
    chosen: dict[str, Value] = {}
    for path, options in space.items():
        if SPACE[path].matters(chosen):
            chosen[path] = _suggested(live, path, options)

    def gives_up(rung: int, score: float) -> bool:
        live.report(score, rung)
        return live.should_prune()

    return Proposal(chosen, gives_up)


def _suggested(live: "optuna.Trial", path: str, options: Range | Choice) -> Value:
    if isinstance(options, Choice):
        return cast("Value", live.suggest_categorical(path, options.values))  # it may return None only where that is a choice
    return live.suggest_float(path, options.low, options.high, log=options.log)


def _frozen(trial: Trial, space: Mapping[str, Range | Choice]) -> "optuna.trial.FrozenTrial":
    """Return an ended trial as optuna keeps it."""
    from optuna.trial import TrialState, create_trial  # noqa: PLC0415 - see propose

    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    return create_trial(
        state=states[trial.state],
        params=dict(trial.parameters),
        distributions={path: _distribution(space[path]) for path in trial.parameters},
        value=trial.score if trial.state == "complete" else None,
        intermediate_values=dict(trial.rungs),
    )


def _distribution(options: Range | Choice) -> "optuna.distributions.BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution  # noqa: PLC0415 - see propose

    if isinstance(options, Choice):
        return CategoricalDistribution(options.values)
    return FloatDistribution(options.low, options.high, log=options.log)


def _seed_of(seed: int, number: int) -> int:
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


def _is_open(asked: JobSpec, path: str) -> bool:
    part, name = path.split(".")
    config = getattr(asked, part)
    return getattr(config, name) in (AUTO, type(config).model_fields[name].default)


def _value_at(spec: JobSpec, path: str) -> Value:
    part, name = path.split(".")
    value: Value = getattr(getattr(spec, part), name)
    return value
