"""Sounds as pictures for people: log-mels, coarse enough to be sent beside the sound, in bytes from silence to the loudest."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.audio import Waveform
from models.config import FeatureConfig
from models.features import LOG_FLOOR, Array, hop_samples, log_mel

BANDS = 64
HOP_MS = 10.0
MOST_FRAMES = 400  # more columns than a page shows; a minute of sound is 6000
_PIECE_FRAMES = 500  # computed at once: a minute's would take 40 MB
_CONTEXT = 2  # frames before and after a piece, which its outermost windows reach into
_SILENCE = math.log(LOG_FLOOR)


@dataclass(frozen=True)
class Spectrogram:
    """What sounds when, and how high."""

    levels: np.ndarray[Any, np.dtype[np.uint8]]
    """(BANDS, frames), the lowest band first; 0 is silence, 255 the loudest of this sound"""
    seconds: float
    """of the whole picture"""
    sample_rate: int
    """Hz; the picture reaches up to half of it, on HTK's mel scale"""


def spectrogram_of(waveform: Waveform, sample_rate: int) -> Spectrogram:
    """Return the picture of a waveform of shape (n,), -1 to 1; n is at least 1. Of frames that share a column the loudest is seen."""
    config = FeatureConfig(sample_rate=sample_rate, n_mels=BANDS, hop_ms=HOP_MS)
    n_frames = 1 + len(waveform) // hop_samples(config)
    columns = min(n_frames, MOST_FRAMES)
    features = np.concatenate([_piece(waveform, config, first, n_frames) for first in range(0, n_frames, _PIECE_FRAMES)], axis=1)
    loudest = np.maximum.reduceat(features, np.arange(columns) * n_frames // columns, axis=1)
    return Spectrogram(_as_bytes(loudest), len(waveform) / sample_rate, sample_rate)


def _piece(waveform: Waveform, config: FeatureConfig, first: int, n_frames: int) -> Array:
    """Return the log-mels of the frames from `first` on, shape (BANDS, at most _PIECE_FRAMES), of a waveform of shape (n,)."""
    hop = hop_samples(config)
    begin, end = max(0, first - _CONTEXT), min(n_frames, first + _PIECE_FRAMES)
    found: Array = log_mel(waveform[None, begin * hop : (end + _CONTEXT) * hop], config)[0, :, first - begin : end - begin]
    return found


def _as_bytes(features: Array) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return log-mels of shape (bands, frames) as levels of the same shape."""
    reach = max(float(features.max()) - _SILENCE, 1.0)  # silence stays dark: its noise is not spread over all levels
    levels: np.ndarray[Any, np.dtype[np.uint8]] = np.clip(np.rint((features - _SILENCE) * (255 / reach)), 0, 255).astype(np.uint8)
    return levels
