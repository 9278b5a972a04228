"""What the demo's comparison says, with its uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models import verdict


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

    The interval is that of a verdict: a paired bootstrap over speakers, as the question is what the next unheard voice would bring.
    """
    _, member = np.unique(np.asarray(speakers), return_inverse=True)
    found = verdict.paired_gain(ours[np.newaxis], theirs[np.newaxis], member.astype(np.int64), seed=seed)
    return Gain(found.mean, found.low, found.high)
