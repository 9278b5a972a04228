"""How good a model is: accuracy with its interval, per label, per group, and whether its probabilities can be believed.

Everything is computed from probabilities and the truth; numpy alone. What can't be measured is None, never a made-up 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.verdict import unmeasured

Probabilities = np.ndarray[Any, np.dtype[np.float32]]
Indices = np.ndarray[Any, np.dtype[np.integer[Any]]]
Counts = np.ndarray[Any, np.dtype[np.int64]]
ECE_BINS = 15  # as in Guo et al. 2017 (arXiv 1706.04599)
MEASURED_ITEMS = 3  # a label with fewer counts as unmeasured: the interval of 2 right out of 2 begins at 34 %
_Z_95 = 1.959963984540054  # the normal distribution's 97.5th percentile
MATRIX_LABELS = 300  # beyond, a matrix is megabytes that nobody reads: the pairs most confused are what is left of it
_CONFUSED = 50
_CURVE_POINTS = 20
_SUM_TOLERANCE = 1e-3


def evaluate_split(
    probabilities: Probabilities,
    truth: Indices,
    labels: Sequence[str],
    groups: Indices | None = None,
    group_names: Sequence[str] = (),
    uncalibrated: Probabilities | None = None,
) -> dict[str, Any]:
    """Return the measures of one split, JSON-able; nothing where it has no items.

    Shapes: `probabilities` (n, classes), `truth` (n,) with indices in `labels`, `groups` (n,) with indices in `group_names`, -1 for none.
    `macro_f1` is the mean over labels that have items; a label's own scores are None below MEASURED_ITEMS of them.
    Of `uncalibrated`, the probabilities before calibration (n, classes), only the calibration error is told.
    Raises ValueError for shapes that don't fit and numbers that are no probabilities.
    """
    _check(probabilities, truth, len(labels))
    if not len(truth):
        return {}
    # The first of equal probabilities, as the service answers.
    right = probabilities.argmax(axis=1) == truth
    counts = confusion(probabilities.argmax(axis=1), truth, len(labels))
    scores = [_label_scores(counts, index) for index in range(len(labels))]
    result: dict[str, Any] = {
        **_accuracy(right),
        "macro_f1": float(np.mean([found["f1"] for found in scores if found["f1"] is not None])),
        "per_label": {label: _if_measured(found) for label, found in zip(labels, scores, strict=True)},
        "confusion_matrix": {"labels": list(labels), "counts": counts.tolist()} if len(labels) <= MATRIX_LABELS else None,
        "confused": most_confused(counts, labels),
        "ece": expected_calibration_error(probabilities, truth),
        "reliability": reliability(probabilities, truth),
        "reject_curve": reject_curve(probabilities, truth),
    }
    if uncalibrated is not None:
        result["ece_uncalibrated"] = expected_calibration_error(uncalibrated, truth)
    if groups is not None and (groups >= 0).any():
        result["by_group"] = {group_names[group]: _accuracy(right[groups == group]) for group in np.unique(groups[groups >= 0]).tolist()}
    return result


def evaluation_document(splits: Mapping[str, dict[str, Any]], transfer: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return evaluation.json: the splits that have items, what the transfer was worth (unmeasured unless told), and `more` beside them."""
    return {
        "splits": {name: found for name, found in splits.items() if found},
        "transfer": transfer or unmeasured("no controls were asked for"),
        **more,
    }


def wilson_interval(successes: int, n: int) -> list[float]:
    """Return the 95 % score interval of a share (Wilson 1927): within 0..1 and honest for few items. Raises ValueError for n = 0."""
    if n < 1:
        raise ValueError("there is no interval without items")
    share, z2 = successes / n, _Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z_95 / (1 + z2 / n) * float(np.sqrt(share * (1 - share) / n + z2 / (4 * n * n)))
    # Rounding may leave the ends a hair inside the share, at 0 and n successes.
    return [max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))]


def expected_calibration_error(probabilities: Probabilities, truth: Indices) -> float:
    """Return the mean gap between confidence and accuracy over 15 equal bins of confidence (Naeini et al. 2015).

    Shapes: `probabilities` (n, classes), `truth` (n,), n at least 1.
    """
    confidence, right, bins = _binned(probabilities, truth)
    gaps = np.bincount(bins, weights=confidence - right, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / len(truth))


def reliability(probabilities: Probabilities, truth: Indices) -> list[dict[str, Any]]:
    """Return mean confidence, accuracy and number of items of each bin of confidence that has any, the least sure first.

    Shapes: `probabilities` (n, classes), `truth` (n,). Where the two are equal, the probabilities can be believed.
    """
    confidence, right, bins = _binned(probabilities, truth)
    return [
        {"confidence": float(confidence[bins == k].mean()), "accuracy": float(right[bins == k].mean()), "n": int((bins == k).sum())}
        for k in np.unique(bins)
    ]


def reject_curve(probabilities: Probabilities, truth: Indices) -> list[dict[str, Any]]:
    """Return how many answers are right when only the surest are given: at most 20 points, the fewest answers first.

    Shapes: `probabilities` (n, classes), `truth` (n,). `answered` and `accuracy` are shares, `threshold` is the least probability given.
    """
    confidence, right, _ = _binned(probabilities, truth)
    order = np.argsort(-confidence, kind="stable")
    hits = np.cumsum(right[order])
    counts = np.unique(np.ceil(np.arange(1, _CURVE_POINTS + 1) * len(truth) / _CURVE_POINTS).astype(np.int64))
    return [
        {
            "answered": int(count) / len(truth),
            "accuracy": int(hits[count - 1]) / int(count),
            "threshold": float(confidence[order[count - 1]]),
        }
        for count in counts
    ]


def _binned(
    probabilities: Probabilities, truth: Indices
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.bool_]], Counts]:
    """Return confidence, whether it is right, and the bin of confidence, each of shape (n,): bin k is (k/15, (k+1)/15]."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    return confidence, probabilities.argmax(axis=1) == truth, bins


def confusion(predicted: Indices, truth: Indices, classes: int) -> Counts:
    """Return counts, shape (classes, classes): row is the truth, column the prediction. Shapes of both arguments: (n,)."""
    cells = truth.astype(np.int64) * classes + predicted
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def most_confused(counts: Counts, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return what is mistaken for what most often, at most 50 pairs, of `counts`, shape (classes, classes)."""
    mistakes = counts - np.diag(np.diag(counts))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:_CONFUSED]
    cells = [divmod(int(cell), len(labels)) for cell in order]
    return [
        {"label": labels[truth], "predicted": labels[predicted], "count": int(mistakes[truth, predicted])}
        for truth, predicted in cells
        if mistakes[truth, predicted]
    ]


def _accuracy(right: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, Any]:
    """Return n, accuracy and its interval for `right`, shape (n,)."""
    successes = int(np.count_nonzero(right))
    return {"n": len(right), "accuracy": successes / len(right), "interval_95": wilson_interval(successes, len(right))}


def _label_scores(counts: Counts, index: int) -> dict[str, Any]:
    """Return one label's scores: precision is None where it was never predicted, recall and f1 where it has no items."""
    hits, support, predicted = int(counts[index, index]), int(counts[index].sum()), int(counts[:, index].sum())
    return {
        "precision": hits / predicted if predicted else None,
        "recall": hits / support if support else None,
        "f1": 2 * hits / (support + predicted) if support else None,
        "support": support,
    }


def _if_measured(scores: dict[str, Any]) -> dict[str, Any]:
    """Return a label's scores; where it has too few items for them to mean anything, None for each beside their number."""
    enough = scores["support"] >= MEASURED_ITEMS
    return scores if enough else {name: value if name == "support" else None for name, value in scores.items()}


def _check(probabilities: Probabilities, truth: Indices, classes: int) -> None:
    if probabilities.shape != (len(truth), classes):
        raise ValueError(f"probabilities have shape {probabilities.shape}, expected {(len(truth), classes)}")
    if truth.size and not 0 <= truth.min() <= truth.max() < classes:
        raise ValueError(f"an index of the truth lies outside 0 to {classes - 1}")
    if not np.allclose(probabilities.sum(axis=1), 1, atol=_SUM_TOLERANCE):  # NaN fails too
        raise ValueError("the rows of the probabilities don't add up to 1")
