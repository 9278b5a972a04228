"""Which inputs are kept as golden clips, and what the network answers to them: training's side of models/golden.py."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.config import Split
from models.engine import graph_input
from models.export import answers_of, sample_inputs
from models.golden import MAX_CLIPS, GoldenSet, Stored, as_inputs, as_stored, most_clips
from models.network import Network
from models.training_state import TrainingData

# Validation items first: test items are what a model is judged by, and training items what it knows too well to be sensitive.
_PREFERRED: tuple[Split, ...] = ("validation", "test", "train")
_SYNTHETIC = {"audio": ("noise", "silence", "tone"), "image": ("noise", "black", "stripes")}  # as sample_inputs makes them
_KEPT_SYNTHETIC = 2  # beside items; without items all


@dataclass(frozen=True)
class Examples:
    """Items of a dataset that may become golden clips."""

    items: Stored
    """prepared: int16 (n, clip_samples) or uint8 (n, 3, side, side)"""
    names: tuple[str, ...]


def examples_of(data: TrainingData, count: int = MAX_CLIPS - _KEPT_SYNTHETIC) -> Examples | None:
    """Return one item a label, up to `count` labels spread over all; the first items, so the same data gives the same examples."""
    sets = {"train": data.train, "validation": data.validation, "test": data.test}
    split = next((split for split in _PREFERRED if len(sets[split])), None)
    if split is None:
        return None
    present, first = np.unique(data.truth[sets[split]], return_index=True)
    chosen = np.unique(np.linspace(0, len(present) - 1, min(count, len(present))).round().astype(int))
    items = sets[split][first[chosen]]
    return Examples(_as_graph_takes(data.items.batch(items)), tuple(f"{split}: {data.labels[present[place]]}" for place in chosen))


def make_golden(network: Network, examples: Examples | None) -> GoldenSet:
    """Return synthetic inputs and examples, as many as are kept, with the network's own answers, computed on the CPU."""
    _, shape = graph_input(network.config)
    room = most_clips(shape)
    synthetic = as_stored(sample_inputs(shape))
    names = _SYNTHETIC[network.config.modality]
    kept = len(names) if examples is None else min(_KEPT_SYNTHETIC, max(0, room - 1))
    inputs, clips = synthetic[:kept], names[:kept]
    if examples is not None:
        inputs = np.concatenate((inputs, examples.items))[:room]
        clips = (*clips, *examples.names)[:room]
    return GoldenSet(inputs, answers_of(network, as_inputs(inputs)), clips)


def _as_graph_takes(items: NDArray[np.generic]) -> Stored:
    """Return prepared items with a picture's channels first: int16 (n, clip_samples) or uint8 (n, 3, side, side)."""
    if items.ndim == 2:
        return items.astype(np.int16)
    return np.ascontiguousarray(items.transpose(0, 3, 1, 2)).astype(np.uint8)
