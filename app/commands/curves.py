"""Curves in a terminal, of block characters; and what of a job's events is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.client import Json

BLOCKS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Curve:
    """One measure over the epochs of a job."""

    name: str
    values: tuple[float, ...]


def curve_of(metrics: Sequence[Json], name: str) -> Curve:
    """Return what the metrics events of a job tell of one measure, epochs without it left out."""
    found = (event["data"].get(name) for event in metrics)
    return Curve(name, tuple(float(value) for value in found if value is not None))


def measure_of(metrics: Sequence[Json]) -> str:
    """Return the measure that says most: accuracy on items that were not trained on, else the loss."""
    known = {name for event in metrics for name, value in event["data"].items() if value is not None}
    return next((name for name in ("validation_accuracy", "validation_loss") if name in known), "train_loss")


def drawn(values: Sequence[float], low: float, high: float, *, width: int, height: int = 3) -> list[str]:
    """Return lines, the top one first, of columns between `low` and `high`; of more values than `width` the last of each share is drawn."""
    if len(values) > width:
        values = [values[(column + 1) * len(values) // width - 1] for column in range(width)]
    span = (high - low) or 1.0
    steps = height * (len(BLOCKS) - 1)
    tops = [round(1 + (min(max(value, low), high) - low) / span * (steps - 1)) for value in values]
    full = len(BLOCKS) - 1
    return ["".join(BLOCKS[min(max(top - row * full, 0), full)] for top in tops) for row in reversed(range(height))]
