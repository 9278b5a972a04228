"""Probabilities that can be believed: one temperature for all logits, fitted on validation items (Guo et al. 2017, arXiv 1706.04599).

Dividing logits by one number changes no answer, only how sure it is. Targets are softened by one item in n + 2, as Platt (1999) does
for his sigmoids: where every validation item is right, plain likelihood would ask for certainty without end.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.selection import spaced

Floats = NDArray[np.float64]
LEAST_ITEMS = 50  # with fewer, the fit's own error is as large as what it mends
# Logarithm of the temperature. A lower one than a quarter would blow up what torch and ONNX Runtime round differently.
_LOG_RANGE = (float(np.log(0.25)), float(np.log(10.0)))
_MOST_LOGITS, _ENOUGH_ITEMS = 8_000_000, 1000  # a fit looks at: 40,000 items of 4000 labels took it five minutes, for the same number
_STEPS = 40  # of the golden section: the range shrinks to a part in 10^8
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Calibration:
    """The temperature that logits are divided by, and what it was fitted on."""

    temperature: float = 1.0
    items: int = 0
    """validation items that it was fitted on; 0: not fitted"""

    def as_json(self) -> dict[str, Any]:
        """Return what evaluation.json says of it."""
        reason = None if self.items else f"fewer than {LEAST_ITEMS} validation items"
        return {"temperature": self.temperature, "items": self.items, "not_fitted": reason}


def fit_calibration(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> Calibration:
    """Return the calibration for validation logits, shape (n, classes), and their labels, shape (n,); none with fewer than 50 items.

    Of a great many items, evenly chosen ones are looked at.
    """
    if len(logits) < LEAST_ITEMS:
        return Calibration()
    most = max(_ENOUGH_ITEMS, _MOST_LOGITS // logits.shape[1])
    chosen = spaced(np.arange(len(logits)), most)
    scores, targets = logits[chosen].astype(np.float64), _softened(truth[chosen], logits.shape[1])
    low, high = _LOG_RANGE
    # Likelihood is convex in the inverse temperature, so there is one minimum and a section finds it.
    for _ in range(_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if _loss(scores / np.exp(left), targets) < _loss(scores / np.exp(right), targets):
            high = right
        else:
            low = left
    return Calibration(round(float(np.exp((low + high) / 2)), 6), len(chosen))


def calibrated(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return probabilities, shape (n, classes), of logits, shape (n, classes)."""
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities


def _softened(truth: NDArray[np.int64], classes: int) -> Floats:
    """Return targets, shape (n, classes): one item in n + 2 is taken to be of any label."""
    doubt = 1 / (len(truth) + 2)
    targets: Floats = (1 - doubt) * np.eye(classes)[truth] + doubt / classes
    return targets


def _loss(logits: Floats, targets: Floats) -> float:
    """Return the mean cross-entropy; both of shape (n, classes)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - (targets * shifted).sum(axis=1)))
