"""Which source to build on, and whether to build on one at all: a short race, judged on items that no arm has trained on.

Scores that look at features alone can't tell what fine-tuning will make of them (arXiv 2503.18528), so every arm is fine-tuned for a part
of the steps: successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943) over sources, from scratch always among them. The
order of the arms is the prior belief: an arm further back has to be better by more than chance, since a few clips can't tell much.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
SHARES = (0.125, 0.25)  # of the updates, rung by rung; each rung keeps half of the arms
MOST_TRAINED, MOST_JUDGED = 1000, 500  # items of a race: more would only make it slower
LEAST_JUDGED = 100  # fewer validation items are joined by a third of the training items
_HELD_OUT = 3  # every third item, or group, stays out
CONFIDENCE = 0.95  # that an arm is better than the one before it in the order


@dataclass(frozen=True)
class Result:
    """How one arm did in one rung: which of the judged items it got right."""

    name: str
    share: float  # of the updates it was given
    right: Bools  # shape (judged,)

    @property
    def accuracy(self) -> float:
        """Return the share of judged items that were right."""
        return float(self.right.mean())


@dataclass(frozen=True)
class Verdict:
    """The arm to go on with, and all that was measured on the way."""

    winner: str
    results: tuple[Result, ...]


def race(names: Sequence[str], run: Callable[[str, float], Bools]) -> Verdict:
    """Return the best arm of `names`, in order of belief; `run(name, share)` trains one for a share of the steps and judges it.

    An arm further back wins where it is better with CONFIDENCE. The first and the last arm reach the last rung in any case:
    one is believed in, the other (from scratch, or what the user brought) is what it is compared with.
    """
    left, results = list(names), []
    if len(left) == 1:
        return Verdict(left[0], ())
    shares = SHARES if len(left) > 2 else SHARES[-1:]
    for rung, share in enumerate(shares):
        found = [Result(name, share, run(name, share)) for name in left]
        results += found
        if rung < len(shares) - 1:
            left = _half(found)
    return Verdict(_choice(found), tuple(results))


def better_than_chance(right: Bools, other: Bools) -> bool:
    """Tell whether `right` beats `other`, both shape (n,), on the same items: the exact sign test on those where they differ (McNemar)."""
    wins, losses = int((right & ~other).sum()), int((other & ~right).sum())
    n = wins + losses
    tail = sum(math.comb(n, k) for k in range(wins, n + 1)) / 2**n  # chance of so many wins, or more, of two equals
    return wins > losses and tail <= 1 - CONFIDENCE


def split_for_race(
    train: Ints, validation: Ints, truth: Ints, groups: Ints, seed: int, *, most_trained: int = MOST_TRAINED
) -> tuple[Ints, Ints]:
    """Return the items that a race trains on and those it judges by; item numbers, shape (n,), no item in both.

    Validation items judge. Where there are few, a third of the training items joins them, whole groups where there are at least three.
    No more than `most_trained` are trained on. `truth` and `groups` are indexed by item number; -1 is no group.
    """
    random = np.random.default_rng(seed)
    trained, judged = train, validation
    if len(validation) < LEAST_JUDGED:
        held = _held_out(train, truth, groups, random)
        trained, judged = train[~held], np.concatenate([validation, train[held]])
    return thinned(trained, truth, most_trained, random), thinned(judged, truth, MOST_JUDGED, random)


def spaced(items: Ints, most: int) -> Ints:
    """Return at most `most` of the items, shape (n,), evenly spaced, in their order."""
    return items[np.linspace(0, len(items) - 1, min(len(items), most)).astype(np.int64)]


def _half(found: Sequence[Result]) -> list[str]:
    """Return the better half in the order of belief; the first and the last arm always stay."""
    middle = sorted(found[1:-1], key=lambda result: -result.accuracy)[: max(1, len(found) // 2 - 1)]
    return [result.name for result in found if result in (found[0], found[-1]) or result in middle]


def _choice(found: Sequence[Result]) -> str:
    best = found[0]
    for result in found[1:]:
        if better_than_chance(result.right, best.right):
            best = result
    return best.name


def _held_out(train: Ints, truth: Ints, groups: Ints, random: np.random.Generator) -> Bools:
    """Return which of `train`, shape (n,), stay out of training: a third of the groups, or of each label's items."""
    names = np.unique(groups[train][groups[train] >= 0])
    if len(names) >= _HELD_OUT:
        held = np.isin(groups[train], random.permutation(names)[: len(names) // _HELD_OUT])
        if set(truth[train][~held].tolist()) == set(truth[train].tolist()):
            return held
    order = np.argsort(random.random(len(train)), kind="stable")
    place = np.empty(len(train), dtype=np.int64)
    for label in np.unique(truth[train]):
        members = order[truth[train][order] == label]
        place[members] = np.arange(len(members))
    held_items: Bools = place % _HELD_OUT == _HELD_OUT - 1
    return held_items


def thinned(items: Ints, truth: Ints, most: int, random: np.random.Generator) -> Ints:
    """Return at most `most` of the items, every label in turn, in their old order."""
    if len(items) <= most:
        return items
    order = random.permutation(len(items))
    seen: dict[int, int] = {}
    turns = np.empty(len(items), dtype=np.int64)
    for index in order.tolist():
        label = int(truth[items[index]])
        turns[index] = seen[label] = seen.get(label, -1) + 1
    kept = np.argsort(turns, kind="stable")[:most]
    return items[np.sort(kept)]
