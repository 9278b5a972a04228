"""What a job will take, worked out from what a short probe has measured. Plain arithmetic: no torch, no clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_LEAST_SPREAD = 0.15  # a machine's pace over minutes differs from that over seconds by about as much, whatever the seconds say
_MIB = 2**20
# Export, measured for networks of 0.3 to 11 million parameters: its peak beside what training holds, and its files.
_EXPORT_MEMORY, _EXPORT_MEMORY_PER_BYTE = 75 * _MIB, 3.4
_ARTIFACT_BYTES, _ARTIFACT_COPIES = 0.6 * _MIB, 2  # weights and graph each hold all parameters
_KEPT_CHECKPOINTS = 3  # two stay, and the next one is written before the older goes
_CHECKPOINT_BYTES_PER_SECOND = 300e6  # hashed and flushed to a disk


@dataclass(frozen=True)
class Span:
    """Seconds, as an interval."""

    low: float = 0.0
    expected: float = 0.0
    high: float = 0.0

    @classmethod
    def of(cls, laps: Sequence[float]) -> "Span":
        """Return the mean of some measurements; the interval is as wide as they differ, or as a pace differs from minute to minute."""
        mean = float(np.mean(laps))
        low, high = np.quantile(laps, (0.2, 0.8))
        return cls(min(float(low), mean * (1 - _LEAST_SPREAD)), mean, max(float(high), mean * (1 + _LEAST_SPREAD)))

    @classmethod
    def about(cls, seconds: float, spread: float = _LEAST_SPREAD) -> "Span":
        """Return one measurement with a relative spread around it."""
        return cls(seconds * (1 - spread), seconds, seconds * (1 + spread))

    def __add__(self, other: "Span") -> "Span":
        """One after the other."""
        return Span(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def __mul__(self, times: float) -> "Span":
        """The same several times."""
        return Span(self.low * times, self.expected * times, self.high * times)

    def up_to(self, seconds: float) -> "Span":
        """Ended after so long."""
        return Span(*(min(seconds, value) for value in (self.low, self.expected, self.high)))

    def as_json(self) -> dict[str, float]:
        """Return it as the API shows it."""
        return {name: round(getattr(self, name), 2) for name in ("low", "expected", "high")}


@dataclass(frozen=True)
class Stage:
    """One part of a job."""

    name: str
    seconds: Span
    steps: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {"name": self.name, "steps": self.steps, "seconds": self.seconds.as_json()}


@dataclass(frozen=True)
class Pace:
    """What one of each takes here."""

    begin: float  # seconds from the first batch's start to a steady pace, beyond the batches themselves
    step: Span  # one batch
    item: Span  # one item through the network without training: validation, evaluation


@dataclass(frozen=True)
class Shape:
    """What a training is made of."""

    epochs: int
    least_epochs: int  # after which it may end early
    batches: int  # an epoch
    judged: int  # items of each epoch's validation


@dataclass(frozen=True)
class Sizes:
    """Bytes."""

    prepared: int  # items at the size that the network takes, 0 where the packed ones have it
    weights: int
    checkpoint: int
    memory: int  # the most that the probe held: in use on a GPU, else resident


def blended(first: Span, later: Span, share: float) -> Span:
    """Return the pace of a training that spends a share of its steps at one pace and the others at another."""
    mean = first * share + later * (1 - share)
    return Span(min(first.low, mean.low), mean.expected, max(later.high, mean.high))


def training_stage(pace: Pace, shape: Shape, saving: float) -> Stage:
    """Return what the training that counts takes; `saving` is the share of time that checkpoints add."""
    epoch = pace.step * shape.batches + pace.item * shape.judged
    seconds = Span(epoch.low * shape.least_epochs, epoch.expected * shape.epochs, epoch.high * shape.epochs)
    return Stage("training", (Span.about(pace.begin) + seconds) * (1 + saving), shape.epochs * shape.batches)


def saving_share(sizes: Sizes, every: float) -> float:
    """Return the share of time that checkpoints add to a training that writes one every so many seconds."""
    return min(1.0, sizes.checkpoint / _CHECKPOINT_BYTES_PER_SECOND / max(every, 1e-3))


def disk_of(sizes: Sizes) -> int:
    """Return the bytes that a job may take on the disk at a time: prepared items, checkpoints, and its artifact at the end."""
    artifact = _ARTIFACT_COPIES * sizes.weights + _ARTIFACT_BYTES
    return int(sizes.prepared + _KEPT_CHECKPOINTS * sizes.checkpoint + artifact)


def memory_of(sizes: Sizes, *, on_gpu: bool) -> int:
    """Return the bytes of memory that a job may take at a time: the probe's, and what is held beside it while it saves or exports."""
    saving = 2 * sizes.checkpoint  # a copy, and the file as it will be written
    exporting = _EXPORT_MEMORY + _EXPORT_MEMORY_PER_BYTE * sizes.weights
    return sizes.memory if on_gpu else int(sizes.memory + max(saving, exporting))


def quote_of(stages: Sequence[Stage]) -> dict[str, Any]:
    """Return the parts of a quote that follow from the stages."""
    total = sum((stage.seconds for stage in stages), Span())
    return {
        "steps": sum(stage.steps for stage in stages),
        "estimated_seconds": total.as_json(),
        "stages": [stage.as_json() for stage in stages],
    }
