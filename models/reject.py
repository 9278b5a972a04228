"""When to say "none of these": a least probability for each label, set by sounds that are none of them.

The score is the calibrated probability itself. On ten of twenty Arabic words by unheard speakers, the other ten as unknowns, the largest
logit, the energy (arXiv 2010.03759) and the distances to label means (1807.03888) and to the nearest clips did no better: where 5 % of the
unknown words are accepted, 29 % of the known ones are lost by probability, 29 to 60 % by the others; and of a network that has learnt
from unknown sounds, 11.0 % by probability, 10.6 by the largest logit, 10.4 by entropy, 11.2 by margin, 18.8 to 26.9 by the nearest clips.

Words that a model has never heard are far harder than noise, and how many of them are said where the model listens nobody knows. So the
asked share holds for noise, and WORDS_FACTOR times as much for words.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.evaluation import Probabilities
from models.features import clip_samples
from models.inputs import Items, to_floats
from models.network import Network
from models.predicting import predict_sounds
from models.selection import spaced
from models.unknowns import noises, rearranged_words

Floats = NDArray[np.float64]
WORDS_FACTOR = 5
NOISES, WORDS = 500, 2000  # sounds that thresholds are fitted on, and as many more that they are judged by
_MOST_CLIPS = 600  # that other words are made of
_MOST_ACCEPTED = 0.5  # of the words, however much is asked for
_PRIOR_SOUNDS = 200  # a label's own quantile counts as much as that of all labels once so many sounds were taken for it
_LEAST = 1e-7  # logarithms of a probability and of its complement are taken within this distance of 0 and 1


def hear_unknowns(
    network: Network, items: Items, indices: NDArray[np.int64], truth: NDArray[np.int64], seed: int
) -> tuple[Probabilities, Probabilities]:
    """Return what a speech network makes of noise and of other words: probabilities, shapes (NOISES, classes) and (WORDS, classes).

    Words are made of the clips `indices`, shape (n,), with labels `truth` by item number; both depend on `seed`.
    """
    generator, features = torch.Generator().manual_seed(seed), network.config.features
    noise = noises(NOISES, clip_samples(features), features.sample_rate, generator)
    words = words_of_clips(items, indices, truth, WORDS, generator)
    return predict_sounds(network, noise), predict_sounds(network, words)


def words_of_clips(
    items: Items, indices: NDArray[np.int64], truth: NDArray[np.int64], count: int, generator: torch.Generator
) -> torch.Tensor:
    """Return `count` words that are no label's, shape (count, n_samples), made of some clips of `indices`, labelled by item number."""
    chosen = spaced(indices, _MOST_CLIPS)
    clips = to_floats(torch.from_numpy(np.ascontiguousarray(items.batch(chosen))))
    return rearranged_words(clips, torch.from_numpy(truth[chosen]), count, generator)


def fit_thresholds(noise: Probabilities, words: Probabilities, false_accept: float) -> NDArray[np.float32]:
    """Return the least probability at which each label is believed, shape (classes,).

    `noise` and `words` are calibrated probabilities, shapes (n, classes) and (m, classes), of sounds that are none of the labels;
    `false_accept` is the share of noise that may be accepted.
    """
    rates = ((noise, false_accept), (words, _words_rate(false_accept)))
    levels = np.max([_levels_by_label(unknown, rate) for unknown, rate in rates], axis=0)
    # Whatever their shape, all levels together are moved to where the shares are kept.
    levels = levels + max(_quantile(_scores(unknown) - levels[unknown.argmax(axis=1)], rate) for unknown, rate in rates)
    thresholds: NDArray[np.float32] = np.nextafter((1 / (1 + np.exp(-levels))).astype(np.float32), np.float32(1))
    return thresholds


def answered_share(known: Probabilities, truth: NDArray[np.int64], words: Probabilities, false_accept: float) -> float:
    """Return the share of known sounds that are given their right label where one threshold lets as many unknown words pass as may.

    Shapes: `known` (n, classes) with labels `truth` (n,), `words` (m, classes).
    """
    level = _quantile(_scores(words), _words_rate(false_accept))
    return float(((known.argmax(axis=1) == truth) & (_scores(known) > level)).mean())


def rejected(probabilities: Probabilities, thresholds: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which answers, shape (n,), are not believed, of probabilities of shape (n, classes)."""
    best = probabilities.argmax(axis=1)
    found: NDArray[np.bool_] = probabilities[np.arange(len(best)), best] < thresholds[best]
    return found


def measure_reject(
    known: Probabilities, truth: NDArray[np.int64], noise: Probabilities, words: Probabilities, thresholds: NDArray[np.float32]
) -> dict[str, Any]:
    """Return what rejecting does to sounds that the thresholds were not fitted on.

    Shapes: `known` (n, classes) with labels `truth` (n,), `noise` and `words` (any, classes), unknown sounds. `known_lost_points`: right
    answers that are no longer given, `known_mended_points`: wrong ones, both in percent of the known sounds.
    """
    silent, right = rejected(known, thresholds), known.argmax(axis=1) == truth
    return {
        "accepted_noise": float((~rejected(noise, thresholds)).mean()),
        "accepted_words": float((~rejected(words, thresholds)).mean()),
        "known_lost_points": 100 * float((silent & right).mean()),
        "known_mended_points": 100 * float((silent & ~right).mean()),
        "n": {"noise": len(noise), "words": len(words), "known": len(known)},
    }


def _words_rate(false_accept: float) -> float:
    return min(_MOST_ACCEPTED, WORDS_FACTOR * false_accept)


def _levels_by_label(unknown: Probabilities, rate: float) -> Floats:
    """Return the score above which a share `rate` of what is taken for each label lies, shape (classes,), drawn to that of all labels."""
    scores, best = _scores(unknown), unknown.argmax(axis=1)
    common = _quantile(scores, rate)
    levels = np.full(unknown.shape[1], common)
    for label in np.unique(best):
        own = scores[best == label]
        levels[label] = (len(own) * _quantile(own, rate) + _PRIOR_SOUNDS * common) / (len(own) + _PRIOR_SOUNDS)
    return levels


def _quantile(scores: Floats, rate: float) -> float:
    return float(np.quantile(scores, 1 - rate, method="higher"))


def _scores(probabilities: Probabilities) -> Floats:
    """Return log(p / (1 - p)) of the largest probability, shape (n,): a scale on which near-certainties can be told apart."""
    best = np.clip(probabilities.max(axis=1).astype(np.float64), _LEAST, 1 - _LEAST)
    scores: Floats = np.log(best) - np.log1p(-best)
    return scores
