"""What a backbone's vectors tell of a labelled set before any training: neighbors, a linear probe, and two closed-form scores.

All of them see the vectors standardized, one dimension like another: sources of different scale compare, and what sets clips apart doesn't
drown in the mean that rectified features share. On spoken digits, neighbors in the layers of a network of handwritten digits were right for
38.7 % of the clips, and for 34.2 % without it; random weights had 33.0 and 34.4 %, while carrying those layers over does help there.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
NEIGHBORS = 5
FOLDS = 10
PENALTIES = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4)  # of the linear probe, on vectors of unit deviation in each dimension
_LEAST_STD = 1e-6
_LEAST_SHARE = 1e-9  # of the largest singular value: what is below is rounding
_ROUNDS, _SETTLED = 200, 1e-7  # of LogME's fixed point: most, and the relative change at which it has been reached
_LEAST_NOISE = 1e-9  # a mean squared residual; vectors that explain the labels exactly would have infinite evidence


@dataclass(frozen=True)
class Spread:
    """Standardized vectors, shape (n, features), and their thin singular value decomposition without what is rounding."""

    vectors: Floats  # shape (n, features)
    left: Floats  # shape (n, rank), orthonormal columns
    values: Floats  # shape (rank,), descending

    @classmethod
    def of(cls, vectors: NDArray[np.float32]) -> Self:
        """Standardize and decompose vectors, shape (n, features); a dimension that doesn't vary becomes zero."""
        standard = standardized(vectors)
        left, values, _ = np.linalg.svd(standard, full_matrices=False)
        kept = values > _LEAST_SHARE * max(1.0, float(values[0]))
        return cls(standard, left[:, kept], values[kept])


@dataclass(frozen=True)
class Held:
    """Which items may not speak for one another, by two arrays of shape (n,): those of one number in `apart`, and in `folds` for probes."""

    apart: Ints
    folds: Ints
    by_group: bool

    @classmethod
    def of(cls, truth: Ints, groups: Ints) -> Self:
        """Hold groups (speakers) out where most items have a companion of their label in another group, else single items.

        `truth` and `groups` have shape (n,); -1 is no group. A word heard from a known voice says little about a new voice, but where
        every label has one voice of its own, a voice held out would take its label with it.
        """
        singles = np.arange(len(truth))
        named = np.where(groups >= 0, groups, singles + groups.max(initial=0) + 1)
        own = np.array([int(((truth == truth[i]) & (named != named[i])).any()) for i in singles])
        by_group = bool((groups >= 0).any()) and float(own.mean()) > 0.5
        apart = named if by_group else singles
        return cls(apart, _folds_of(truth, apart), by_group)


def standardized(vectors: NDArray[np.float32]) -> Floats:
    """Return vectors, shape (n, features), with mean 0 and deviation 1 in each dimension; zeros where a dimension doesn't vary."""
    centered = vectors - vectors.mean(axis=0, dtype=np.float64)
    std = centered.std(axis=0)
    scaled: Floats = np.where(std > _LEAST_STD, centered / np.maximum(std, _LEAST_STD), 0.0)
    return scaled


def knn_right(vectors: Floats, truth: Ints, apart: Ints, *, neighbors: int = NEIGHBORS) -> Bools:
    """Return which items their nearest neighbors by cosine label rightly, shape (n,); neighbors are of another number in `apart`.

    `vectors` have shape (n, features), `truth` and `apart` (n,). Each of the neighbors weighs 1 + its cosine, so that ties go to the
    nearer ones. An item without any neighbor is wrong.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths > 0, lengths, 1.0)
    cosine = unit @ unit.T
    cosine[apart[:, None] == apart[None, :]] = -np.inf
    near = np.argsort(-cosine, axis=1, kind="stable")[:, :neighbors]
    near_cosine = np.take_along_axis(cosine, near, axis=1)
    weights = np.where(np.isfinite(near_cosine), 1 + near_cosine, 0.0)
    votes = np.zeros((len(truth), int(truth.max()) + 1))
    np.add.at(votes, (np.arange(len(truth))[:, None], truth[near]), weights)
    right: Bools = (votes.argmax(axis=1) == truth) & (votes.max(axis=1) > 0)
    return right


def linear_probe(spread: Spread, truth: Ints, folds: Ints) -> float:
    """Return the accuracy of ridge regression onto one-hot labels on folds held out; `truth` and `folds` have shape (n,).

    A linear smoother's answers to what it has not seen follow from its hat matrix without a refit: (1 - H_f)^-1 (y - Hy)_f for a fold f.
    The penalty is the best of `PENALTIES`, for every source alike.
    """
    targets = np.eye(int(truth.max()) + 1)[truth]
    accuracies = [float((_held_out_scores(spread, targets, folds, penalty).argmax(axis=1) == truth).mean()) for penalty in PENALTIES]
    return max(accuracies)


def log_me(spread: Spread, truth: Ints) -> float:
    """Return the evidence of a Bayesian linear model for each label against the rest, mean over labels, nats an item (arXiv 2102.11005).

    Prior weights ~ N(0, 1/alpha), noise ~ N(0, 1/beta); both are at their maximum of the evidence, found by MacKay's fixed point.
    Targets are centered, as the vectors are, which leaves n - 1 free numbers. `truth` has shape (n,).
    """
    targets = np.eye(int(truth.max()) + 1)[truth]
    present = targets[:, targets.any(axis=0)]
    return float(np.mean([_evidence(spread, column - column.mean()) for column in present.T])) / len(truth)


def h_score(spread: Spread, truth: Ints) -> float:
    """Return tr(cov(vectors)^-1 cov(label means)), after Ledoit and Wolf: 0 to labels - 1 (arXiv 2110.06893); `truth`: shape (n,)."""
    n = len(truth)
    variances = spread.values**2 / n  # eigenvalues of the covariance
    shrinkage, mean_variance = _ledoit_wolf(spread, variances)
    coordinates = spread.left * spread.values
    counts = np.bincount(truth)
    sums = np.zeros((len(counts), len(variances)))
    np.add.at(sums, truth, coordinates)
    between = ((sums**2)[counts > 0] / counts[counts > 0, None]).sum(axis=0) / n
    return float(((1 - shrinkage) * between / ((1 - shrinkage) * variances + shrinkage * mean_variance)).sum())


def _folds_of(truth: Ints, apart: Ints) -> Ints:
    """Return the fold of each item, shape (n,): items of one number in `apart` stay together, sizes and labels are near equal."""
    numbers, first, inverse, counts = np.unique(apart, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, truth[first], -counts))  # the largest first; single items label by label, so that folds share each label
    sizes = np.zeros(min(FOLDS, len(numbers)), np.int64)
    fold_of = np.empty(len(numbers), np.int64)
    for number in order:
        fold_of[number] = np.argmin(sizes)
        sizes[fold_of[number]] += counts[number]
    folds: Ints = fold_of[inverse]
    return folds


def _held_out_scores(spread: Spread, targets: Floats, folds: Ints, penalty: float) -> Floats:
    """Return each item's scores, shape (n, labels), by the fit on the other folds."""
    n = len(targets)
    shrunk = spread.values**2 / (spread.values**2 + penalty)
    fitted = targets.mean(axis=0) + spread.left @ (shrunk[:, None] * (spread.left.T @ targets))
    residuals = targets - fitted
    scores = np.empty_like(targets)
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        hat = (spread.left[rows] * shrunk) @ spread.left[rows].T + 1 / n
        scores[rows] = targets[rows] - np.linalg.solve(np.eye(len(rows)) - hat, residuals[rows])
    return scores


def _evidence(spread: Spread, target: Floats) -> float:
    """Return the largest log evidence of one target, shape (n,); of the dimensions only those where the vectors vary count."""
    free, power = len(target) - 1, spread.values**2
    along = (spread.left.T @ target) ** 2
    outside = max(0.0, float(target @ target) - float(along.sum()))
    ratio = 1.0  # alpha / beta
    for _ in range(_ROUNDS):
        effective, length, residual = _moments(power, along, outside, ratio)
        alpha, beta = effective / max(length, _LEAST_NOISE), (free - effective) / max(residual, free * _LEAST_NOISE)
        before, ratio = ratio, alpha / beta
        if abs(ratio - before) <= _SETTLED * before:
            break
    _, length, residual = _moments(power, along, outside, ratio)
    determinant = float(np.log1p(power / ratio).sum())  # log |A| less what cancels with alpha's own part
    return (free * math.log(beta / (2 * math.pi)) - beta * residual - alpha * length - determinant) / 2


def _moments(power: Floats, along: Floats, outside: float, ratio: float) -> tuple[float, float, float]:
    """Return the effective number of weights, their squared length, and the squared residual, for alpha / beta = `ratio`."""
    total = power + ratio
    return float((power / total).sum()), float((power * along / total**2).sum()), float((along * (ratio / total) ** 2).sum()) + outside


def _ledoit_wolf(spread: Spread, variances: Floats) -> tuple[float, float]:
    """Return how far the covariance is drawn to a multiple of the identity, 0 to 1, and that multiple (Ledoit and Wolf 2004)."""
    n, width = spread.vectors.shape
    mean_variance = float(variances.sum()) / width
    squares = float((variances**2).sum())
    distance = squares - width * mean_variance**2
    error = (float(((spread.vectors**2).sum(axis=1) ** 2).sum()) / n - squares) / n
    return (min(error, distance) / distance if distance > 0 else 0.0), mean_variance
