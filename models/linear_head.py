"""A linear head in closed form: what a backbone's vectors are good for at once, without a single step of training.

Ridge regression onto one-hot targets. The penalty is chosen, and the scale of the logits fitted, on leave-one-out answers, which a linear
smoother gives without refitting (Allen 1974, "PRESS"); so every item counts for both, which matters where a label has one to five.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_PENALTIES = np.logspace(-2, 4, 13)  # on vectors of unit deviation in each dimension; n · penalty would hide the scale from few items
_SCALES = np.logspace(0, 2, 41)  # of the logits; one-hot targets alone would leave every probability near 1/classes
_LEAST_STD = 1e-6


@dataclass(frozen=True)
class LinearHead:
    """logits = vectors @ weight.T + bias; and how it did on items that it had not seen."""

    weight: Floats  # shape (classes, features)
    bias: Floats  # shape (classes,)
    accuracy: float  # leave one out
    loss: float  # mean negative log-likelihood, leave one out


def fit_linear_head(vectors: NDArray[np.float32], truth: Ints, classes: int) -> LinearHead:
    """Return the head for vectors, shape (n, features), and their label numbers, shape (n,). Raises ValueError for fewer than two items."""
    if len(vectors) < 2:
        raise ValueError(f"{len(vectors)} items can't leave one out")
    mean, std = vectors.mean(axis=0, dtype=np.float64), np.maximum(vectors.std(axis=0, dtype=np.float64), _LEAST_STD)
    inputs, targets = (vectors - mean) / std, np.eye(classes)[truth]
    share = targets.mean(axis=0)
    left, values, right = np.linalg.svd(inputs, full_matrices=False)
    projected = left.T @ (targets - share)
    found = [(_left_out(left, values, projected, targets, share, penalty), penalty) for penalty in _PENALTIES]
    scores, penalty = min(found, key=lambda pair: (-_accuracy(pair[0], truth), float(((pair[0] - targets) ** 2).sum())))
    scale = min(_SCALES, key=lambda factor: _loss(scores * factor, truth))
    solution = (right.T * (values / (values**2 + penalty))) @ projected * scale
    weight = (solution / std[:, None]).T
    return LinearHead(weight, share * scale - weight @ mean, _accuracy(scores, truth), _loss(scores * scale, truth))


def _left_out(left: Floats, values: Floats, projected: Floats, targets: Floats, share: Floats, penalty: float) -> Floats:
    """Return each item's scores, shape (n, classes), by the fit on all the others."""
    shrunk = values**2 / (values**2 + penalty)
    fitted = share + left @ (shrunk[:, None] * projected)
    leverage = (left**2 * shrunk).sum(axis=1) + 1 / len(targets)
    answers: Floats = targets - (targets - fitted) / np.maximum(1 - leverage, 1e-6)[:, None]
    return answers


def _accuracy(scores: Floats, truth: Ints) -> float:
    return float((scores.argmax(axis=1) == truth).mean())


def _loss(logits: Floats, truth: Ints) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(truth)), truth]).mean())
