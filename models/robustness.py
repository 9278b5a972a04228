"""How much accuracy is left when the recording is worse: noisy, loud or soft, slow or fast, over a telephone, cut off.

Each condition is one change of clean clips, the same for all of them, so that a row of the table has one meaning.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional

from models.inputs import Items, to_floats
from models.network import Network
from models.predicting import predict_sounds
from models.selection import spaced

MOST_ITEMS = 512  # the interval of an accuracy of 95 % is then 4 points wide
LEAST_ITEMS = 20
_SECONDS = 10.0  # for all conditions together; a slow network is judged by fewer clips
_TELEPHONE_HERTZ = (300.0, 3400.0)
_KEPT_SHARE = 0.75
_SEED = 0


@dataclass(frozen=True)
class Condition:
    """One way in which a recording can be worse."""

    name: str
    change: Callable[[Tensor, int, Generator], Tensor]
    """(waveforms (batch, n_samples), sample rate in Hz, generator) → the same shape"""


def measure_robustness(network: Network, items: Items, indices: NDArray[np.int64], truth: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Return the accuracy under each condition: [{name, accuracy, n}], the first one clean; nothing for pictures or below 20 clips.

    `indices`, shape (n,), are items that were not trained on, `truth` the labels by item number. 512 of them at most are judged, evenly
    spaced, and fewer where the clean ones take long.
    """
    if network.config.modality != "audio" or len(indices) < LEAST_ITEMS:
        return []
    began = time.monotonic()
    chosen = spaced(indices, MOST_ITEMS)
    rows = [_measured(network, items, chosen, truth, CONDITIONS[0])]
    affordable = int(len(chosen) * _SECONDS / len(CONDITIONS) / max(1e-6, time.monotonic() - began))
    fewer = spaced(chosen, max(LEAST_ITEMS, affordable))
    return rows + [_measured(network, items, fewer, truth, condition) for condition in CONDITIONS[1:]]


def _measured(network: Network, items: Items, chosen: NDArray[np.int64], truth: NDArray[np.int64], condition: Condition) -> dict[str, Any]:
    clips = to_floats(torch.from_numpy(np.ascontiguousarray(items.batch(chosen))))
    changed = condition.change(clips, network.config.features.sample_rate, Generator().manual_seed(_SEED))
    right = predict_sounds(network, changed).argmax(axis=1) == truth[chosen]
    return {"name": condition.name, "accuracy": float(right.mean()), "n": len(chosen)}


def with_noise(clips: Tensor, snr_db: float, generator: Generator) -> Tensor:
    """Return clips, shape (batch, n_samples), with white noise `snr_db` below each one's own mean power."""
    noise = torch.randn(clips.shape, generator=generator)
    rms = clips.square().mean(dim=1, keepdim=True).sqrt()
    return (clips + noise * rms * 10 ** (-snr_db / 20)).clamp(-1, 1)


def with_gain(clips: Tensor, decibels: float) -> Tensor:
    """Return clips, shape (batch, n_samples), louder or softer; what goes beyond full scale is clipped, as a microphone does."""
    return (clips * 10 ** (decibels / 20)).clamp(-1, 1)


def at_speed(clips: Tensor, factor: float) -> Tensor:
    """Return clips, shape (batch, n_samples), played `factor` times as fast about their centre; pitch moves along."""
    n_samples = clips.shape[1]
    length = round(n_samples * factor)
    before = (length - n_samples) // 2
    source = functional.pad(clips, (before, length - n_samples - before))  # a negative padding cuts
    return functional.interpolate(source[None], size=n_samples, mode="linear", align_corners=False)[0]


def over_telephone(clips: Tensor, sample_rate: int) -> Tensor:
    """Return clips, shape (batch, n_samples), `sample_rate` in Hz, without what lies outside 300 to 3400 Hz."""
    spectrum = torch.fft.rfft(clips)
    hertz = torch.fft.rfftfreq(clips.shape[1], 1 / sample_rate)
    low, high = _TELEPHONE_HERTZ
    passed: Tensor = torch.fft.irfft(spectrum * ((hertz >= low) & (hertz <= high)), n=clips.shape[1])
    return passed


def cut_off(clips: Tensor) -> Tensor:
    """Return the first three quarters of clips, shape (batch, n_samples), in the middle of silence, as a shorter file is padded."""
    n_samples = clips.shape[1]
    kept = round(n_samples * _KEPT_SHARE)
    before = (n_samples - kept) // 2
    return functional.pad(clips[:, :kept], (before, n_samples - kept - before))


def _noisy(snr_db: int) -> Condition:
    return Condition(f"noise_{snr_db}_db", lambda clips, _rate, generator: with_noise(clips, snr_db, generator))


CONDITIONS: tuple[Condition, ...] = (
    Condition("clean", lambda clips, _rate, _generator: clips),
    *map(_noisy, (20, 10, 5, 0)),
    Condition("gain_plus_12_db", lambda clips, _rate, _generator: with_gain(clips, 12)),
    Condition("gain_minus_12_db", lambda clips, _rate, _generator: with_gain(clips, -12)),
    Condition("speed_0.9", lambda clips, _rate, _generator: at_speed(clips, 0.9)),
    Condition("speed_1.1", lambda clips, _rate, _generator: at_speed(clips, 1.1)),
    Condition("telephone", lambda clips, rate, _generator: over_telephone(clips, rate)),
    Condition("first_75_percent", lambda clips, _rate, _generator: cut_off(clips)),
)
