"""Whether a transfer paid: the trained network against the same network without it, on the same items.

The gain is a difference of two accuracies; its interval is a paired bootstrap (Efron and Tibshirani 1993, chapters 6 and 8) over items, or
over groups (speakers) where there are enough, as clips of one voice are right or wrong together, and over seeds where there are several.
numpy alone; what can't be measured is None, never a made-up 0.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Word = Literal["positive", "neutral", "negative"]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Numbers = NDArray[np.integer[Any]]
Answers = Mapping[str, Mapping[str, Sequence[int]]]
"""split → predicted, truth and group of each of its items; label and group numbers, group -1 for none"""

ROUNDS = 10_000
LEAST_TEST_ITEMS = 100  # fewer test items are joined by the validation items, whose part in choosing the weights both arms share
LEAST_GROUPS = 6  # with five, all on one side have a chance of 1 in 16 (exact sign test): too few to be resampled
_CHUNK = 1000  # rounds at a time, so that memory stays small
_MEASURED_ON = ("validation", "test")
SCRATCH, FROZEN, REPEAT = "scratch", "frozen", "repeat"


@dataclass(frozen=True)
class Gain:
    """Difference of two accuracies, 0.1 is ten points, with its 95 % interval."""

    mean: float
    low: float
    high: float
    resampled: Literal["items", "groups"]

    @property
    def word(self) -> Word:
        """What the interval says."""
        return "positive" if self.low > 0 else "negative" if self.high < 0 else "neutral"


@dataclass(frozen=True)
class Arm:
    """One job of the comparison. Without answers it did not come to an end."""

    name: str  # of a control; empty for the job that is judged
    seed: int
    job: str
    status: str
    model: str | None = None
    answers: Answers | None = None
    metrics: Mapping[str, float | None] | None = None
    share: float = 1.0  # of the judged job's training time that it was given

    def measure(self, name: str) -> float | None:
        """Return one of the metrics, None where it is not known."""
        return (self.metrics or {}).get(name)


@dataclass(frozen=True)
class Comparison:
    """A job and its controls, all of which have ended."""

    source: str  # where the layers come from
    judged: Arm
    controls: Sequence[Arm]
    history: Sequence[Mapping[str, float | None]] = ()  # metrics an epoch of the judged job


def paired_gain(ours: Bools, theirs: Bools, groups: Ints | None = None, *, seed: int = 0) -> Gain:
    """Return how much more often `ours` is right than `theirs`, both of shape (seeds, n), n at least 1; `groups` has shape (n,).

    Where items are resampled, one more win and one more loss are drawn from than there were (as Bonett and Price 2012 add for paired
    proportions): a plain bootstrap calls four wins in twenty items certain, which the exact sign test does not (p = 0.125).
    """
    difference = ours.astype(np.int64) - theirs.astype(np.int64)
    grouped = groups is not None and len(np.unique(groups[groups >= 0])) >= LEAST_GROUPS
    units = _of_groups(difference, groups) if grouped and groups is not None else _of_items(difference)
    means = np.concatenate(list(_resampled(units, np.random.default_rng(seed))))
    mean = float(difference.mean())
    low, high = np.quantile(means, (0.025, 0.975))
    return Gain(mean, min(mean, float(low)), max(mean, float(high)), "groups" if grouped else "items")


def judge(comparison: Comparison) -> dict[str, Any]:
    """Return the transfer part of an evaluation: the verdict, what it rests on, and a sentence that says it plainly."""
    answers = comparison.judged.answers or {}
    splits = judged_splits(answers)
    controls = [_as_json(control, splits) for control in comparison.controls]
    if not splits:
        return unmeasured("there are no validation and test items to compare on", controls)
    pairs = _pairs(comparison, splits)
    if not pairs:
        return unmeasured(_why_not(comparison), controls)
    ours, theirs = (np.stack([right_of(arm.answers or {}, splits) for arm in arms]) for arms in zip(*pairs, strict=True))
    gain = paired_gain(ours, theirs, joined(answers, splits, "groups"))
    document: dict[str, Any] = {
        "verdict": gain.word,
        "gain": gain.mean,
        "interval_95": [gain.low, gain.high],
        "resampled": gain.resampled,
        "split": "+".join(splits),
        "n": ours.shape[1],
        "seeds": [arm.seed for arm, _ in pairs],
        "accuracy": float(ours.mean()),
        "controls": controls,
        **_match(comparison, pairs[0][1]),
        "reason": None,
    }
    return document | {"sentence": _sentence(document, comparison, min(scratch.share for _, scratch in pairs))}


def unmeasured(reason: str, controls: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return the transfer part of an evaluation that has no verdict, and why."""
    nothing = dict.fromkeys(("gain", "interval_95", "resampled", "split", "n"))
    sentence = f"Whether a transfer paid has not been measured: {reason}."
    return {
        "verdict": "unmeasured", **nothing, "seeds": [], "accuracy": None, "controls": list(controls),
        "seconds_to_match": None, "steps_to_match": None, "reason": reason, "sentence": sentence,
    }  # fmt: skip


def judged_splits(answers: Answers) -> tuple[str, ...]:
    """Return the splits that a comparison is made on: test where it has enough items, else validation and test together."""
    if len(answers.get("test", {}).get("truth", ())) >= LEAST_TEST_ITEMS:
        return ("test",)
    return tuple(split for split in _MEASURED_ON if answers.get(split, {}).get("truth"))


def joined(answers: Answers, splits: Sequence[str], what: str) -> Ints:
    """Return predicted, truth or group of the splits' items, one split after another: shape (n,)."""
    return np.concatenate([np.asarray(answers[split][what], np.int64) for split in splits])


def right_of(answers: Answers, splits: Sequence[str]) -> Bools:
    """Return which items of the splits were answered rightly, shape (n,)."""
    right: Bools = joined(answers, splits, "predicted") == joined(answers, splits, "truth")
    return right


def first_reached(history: Sequence[Mapping[str, float | None]], accuracy: float | None) -> int | None:
    """Return the step after which validation accuracy first was at least `accuracy`; None where it never was, or is not known."""
    if accuracy is None:
        return None
    reached = [(epoch.get("validation_accuracy"), epoch.get("step")) for epoch in history]
    return min((int(step) for found, step in reached if found is not None and step is not None and found >= accuracy), default=None)


def answers_of(predictions: Mapping[str, Sequence[int]], items: Mapping[str, Ints], truth: Numbers, groups: Numbers) -> Answers:
    """Return what was predicted for the items of validation and test, beside the truth.

    `items` are the item numbers of each split, in the order of its predictions; `truth` and `groups`, shape (n,), are indexed by them.
    """
    return {
        split: {"predicted": list(predictions[split]), "truth": truth[items[split]].tolist(), "groups": groups[items[split]].tolist()}
        for split in _MEASURED_ON
        if split in predictions
    }


def _pairs(comparison: Comparison, splits: Sequence[str]) -> list[tuple[Arm, Arm]]:
    """Return (transferred, from scratch) for every seed of which both have answered the same items; the judged job's own seed first."""
    transferred = {arm.seed: arm for arm in (comparison.judged, *_named(comparison, REPEAT))}
    scratch = {arm.seed: arm for arm in _named(comparison, SCRATCH)}
    pairs = [(arm, scratch[seed]) for seed, arm in transferred.items() if seed in scratch]
    return [(ours, theirs) for ours, theirs in pairs if _comparable(ours, theirs, splits)]


def _named(comparison: Comparison, name: str) -> list[Arm]:
    return [arm for arm in comparison.controls if arm.name == name]


def _comparable(ours: Arm, theirs: Arm, splits: Sequence[str]) -> bool:
    if ours.answers is None or theirs.answers is None:
        return False
    return all(list(ours.answers[split]["truth"]) == list(theirs.answers.get(split, {}).get("truth", ())) for split in splits)


def _why_not(comparison: Comparison) -> str:
    missing = [arm for arm in _named(comparison, SCRATCH) if arm.answers is None]
    if not missing:
        return "no control from scratch answered the same items"
    return f"the control from scratch {_ENDED.get(missing[0].status, 'told no answers')}"


def _as_json(arm: Arm, splits: Sequence[str]) -> dict[str, Any]:
    measurable = arm.answers is not None and bool(splits) and all(split in arm.answers for split in splits)
    steps = arm.measure("steps")
    return {
        "name": arm.name,
        "seed": arm.seed,
        "job": arm.job,
        "model": arm.model,
        "status": arm.status,
        "accuracy": float(right_of(arm.answers or {}, splits).mean()) if measurable else None,
        "seconds": arm.measure("training_seconds"),
        "steps": None if steps is None else int(steps),
        "share": arm.share,
    }


def _match(comparison: Comparison, scratch: Arm) -> dict[str, Any]:
    """Return when the judged job first was as good on validation items as `scratch` is at its end.

    Steps are as they were counted; seconds are that share of the training time, since steps of one job take equally long.
    """
    step = first_reached(comparison.history, scratch.measure("validation_accuracy"))
    steps, seconds = comparison.judged.measure("steps"), comparison.judged.measure("training_seconds")
    after = round(seconds * step / steps, 3) if step is not None and steps and seconds is not None else None
    return {"seconds_to_match": after, "steps_to_match": step}


def _sentence(document: Mapping[str, Any], comparison: Comparison, share: float) -> str:
    low, high = document["interval_95"]
    seeds = f" with {len(document['seeds'])} seeds each" if len(document["seeds"]) > 1 else ""
    where = f"on {document['n']} {document['split'].replace('+', ' and ')} items{seeds}"
    points = f"{_points(document['gain'])} points ({_points(low)} to {_points(high)})"
    said = _SAID[document["verdict"]].format(source=comparison.source, points=points, where=where)
    if document["verdict"] != "negative" and document["seconds_to_match"] is not None:
        total = comparison.judged.measure("training_seconds")
        said += f" It was as good as from scratch after {document['seconds_to_match']:.1f} of {total:.1f} s."
    if share < 1:
        said += f" From scratch had {share:.0%} of the training time: with all of it, it might have done better."
    return said


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


_ENDED = {"failed": "failed", "cancelled": "was cancelled"}
_SAID: Mapping[Word, str] = {
    "positive": "The layers from {source} helped: {points} {where}, against training from scratch.",
    "neutral": "The layers from {source} neither helped nor hurt, as far as can be told: {points} {where}, against training from scratch.",
    "negative": "Carrying layers over from {source} cost accuracy: {points} {where}; from scratch was better.",
}


def _of_items(difference: Ints) -> Ints:
    """Return units, shape (1 + seeds, n + 2): how many items each holds, and its wins less its losses by seed."""
    seeds = len(difference)
    padded = np.concatenate([difference, np.ones((seeds, 1), np.int64), -np.ones((seeds, 1), np.int64)], axis=1)
    return np.concatenate([np.ones((1, padded.shape[1]), np.int64), padded])


def _of_groups(difference: Ints, groups: Ints) -> Ints:
    """Return units as `_of_items`, shape (1 + seeds, units): a group is one, and so is an item without a group."""
    names = np.where(groups >= 0, groups, -1 - np.arange(len(groups)))
    _, member = np.unique(names, return_inverse=True)
    rows = [np.bincount(member), *(np.rint(np.bincount(member, weights=row)).astype(np.int64) for row in difference)]
    return np.stack(rows)


def _resampled(units: Ints, random: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Yield the mean difference of each round, chunk by chunk: as many units as there are, drawn anew, and as many seeds.

    Units that are alike are drawn by their number, which is the same and needs hardly any memory.
    """
    kinds, counts = np.unique(units, axis=1, return_counts=True)
    seeds = len(units) - 1
    for _ in range(ROUNDS // _CHUNK):
        drawn = random.multinomial(counts.sum(), counts / counts.sum(), size=_CHUNK) @ kinds.T  # (rounds, 1 + seeds)
        by_seed = drawn[:, 1:] / drawn[:, :1]
        chosen = random.integers(0, seeds, (_CHUNK, seeds))
        yield np.take_along_axis(by_seed, chosen, axis=1).mean(axis=1)
