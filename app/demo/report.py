"""What the demo's comparison says, with its uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 10_000


@dataclass(frozen=True)
class Gain:
    """Difference of two accuracies, 0.1 is ten points, with its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """One sentence, whatever came out."""
        span = f"{self.mean * 100:+.1f} points (95 % interval {self.low * 100:+.1f} to {self.high * 100:+.1f})"
        if self.low > 0:
            return f"What it learnt by seeing helped it to listen: {span}."
        if self.high < 0:
            return f"What it learnt by seeing was in the way of listening: {span}."
        return f"Seeing neither helped nor hurt, as far as these voices can tell: {span}."


def paired_gain(ours: NDArray[np.bool_], theirs: NDArray[np.bool_], speakers: Sequence[str], *, seed: int = 0) -> Gain:
    """Return how much more often `ours` is right than `theirs`, both of shape (n_clips,), on the same clips.

    The interval is a paired bootstrap over speakers, not clips: clips of one voice are right or wrong together, and the question is
    what the next unheard voice would bring (Efron and Tibshirani 1993, chapter 8, on resampling whole clusters).
    """
    names, member = np.unique(np.asarray(speakers), return_inverse=True)
    difference = np.bincount(member, weights=ours.astype(float) - theirs.astype(float))  # (n_speakers,)
    size = np.bincount(member)
    chosen = np.random.default_rng(seed).integers(0, len(names), (_ROUNDS, len(names)))
    means = difference[chosen].sum(axis=1) / size[chosen].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Gain(float(difference.sum() / size.sum()), float(low), float(high))
