"""Items whose label is probably wrong: confident learning (Northcutt et al. 2021, arXiv 1911.00068) on items that were not trained on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST = 50  # so many a person will look at
SURE = 0.9  # a probability that is confident even where the model is usually surer: half of a label's items lie below their mean


@dataclass(frozen=True)
class Suspect:
    """One item, by its place among those that were judged, and what the model takes it for."""

    place: int
    predicted: int
    probability: float


def find_suspects(probabilities: NDArray[np.float32], truth: NDArray[np.int64], most: int = MOST) -> list[Suspect]:
    """Return the items that are confidently taken for another label, the most confident first.

    `probabilities` has shape (n, classes), `truth` shape (n,); both of items that the model has not seen. Another label counts where it is
    at least as probable as it is on average for the items that bear it, or SURE: a label that the model is never sure of is held to less.
    """
    if not len(truth):
        return []
    usual = _usual_confidence(probabilities, truth)
    predicted = probabilities.argmax(axis=1)
    found = probabilities[np.arange(len(truth)), predicted]
    own = probabilities[np.arange(len(truth)), truth]
    places = np.flatnonzero((predicted != truth) & (found >= np.minimum(usual[predicted], SURE)))
    order = places[np.argsort(own[places] - found[places], kind="stable")][:most]
    return [Suspect(int(place), int(predicted[place]), float(found[place])) for place in order]


def _usual_confidence(probabilities: NDArray[np.float32], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean probability of each label over its own items, shape (classes,); 1 where it has none."""
    classes = probabilities.shape[1]
    counts = np.bincount(truth, minlength=classes)
    sums = np.bincount(truth, weights=probabilities[np.arange(len(truth)), truth], minlength=classes)
    usual: NDArray[np.float64] = np.where(counts > 0, sums / np.maximum(counts, 1), 1.0)
    return usual
