"""Learning rate schedules: pure functions of how far training has come."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from models.config import ScheduleName

_WARM_UP = 0.2  # share of the updates until the peak; short, because few updates are spent
_FIRST = 1 / 25  # of the peak, as in arXiv 1708.07120
_LAST = 1e-3  # of the peak


def one_cycle(progress: float) -> float:
    """Return the share of the peak rate at `progress` 0..1: up along half a cosine for a fifth of the way, then down (arXiv 1708.07120)."""
    if progress < _WARM_UP:
        return _FIRST + (1 - _FIRST) * _half_cosine(1 - progress / _WARM_UP)
    return _LAST + (1 - _LAST) * _half_cosine((progress - _WARM_UP) / (1 - _WARM_UP))


def cosine(progress: float) -> float:
    """Return the share of the peak rate at `progress` 0..1: half a cosine down to nothing (arXiv 1608.03983, without restarts)."""
    return _half_cosine(progress)


def step(progress: float) -> float:
    """Return the share of the peak rate at `progress` 0..1: a tenth from the half, a hundredth from three quarters (arXiv 1512.03385)."""
    return 0.1 ** ((progress >= 0.5) + (progress >= 0.75))


def constant(progress: float) -> float:
    """Return 1 at every `progress`."""
    del progress
    return 1.0


@dataclass(frozen=True)
class Schedule:
    """How the rate runs, and from which share of the way a validation loss that doesn't fall means that nothing more is to come.

    Under a high rate the loss wanders, and the fall is yet to come when the rate does: stopping early there would throw it away.
    """

    factor: Callable[[float], float]
    patient_from: float


SCHEDULES: dict[ScheduleName, Schedule] = {
    "one_cycle": Schedule(one_cycle, patient_from=0.6),
    "cosine": Schedule(cosine, patient_from=0.5),
    "step": Schedule(step, patient_from=0.5),
    "constant": Schedule(constant, patient_from=0.0),
}


def factor(name: ScheduleName, update: int, total: int) -> float:
    """Return the share of the peak rate for update number `update` (from 0) of `total`."""
    return SCHEDULES[name].factor(update / max(1, total))


def _half_cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2
