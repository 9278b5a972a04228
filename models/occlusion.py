"""Which part of a sound decided: take one band of it away for a moment, ask again, and see how much less sure the answer is.

Occlusion (Zeiler and Fergus 2014, arXiv 1311.2901) needs the answers alone, so it explains every model that can be served. What is
taken away is taken out of the waveform, not out of the features: those of a foreign graph are its own affair.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.audio import Waveform

Answers = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""waveforms, shape (batch, n) → probabilities, shape (batch, classes)"""
BANDS, SEGMENTS = 6, 12  # 72 more answers: at 5 ms each a third of a second


@dataclass(frozen=True)
class Occlusion:
    """What each part of a sound is worth to its answer."""

    probabilities: NDArray[np.float32]
    """(classes,), of the whole sound"""
    losses: NDArray[np.float32]
    """(BANDS, SEGMENTS), the lowest band first: how much less probable the answer is without that part; below 0: more probable"""
    edges: tuple[float, ...]
    """Hz, BANDS + 1, equally far apart on the mel scale"""


def occlude(answers: Answers, waveform: Waveform, sample_rate: int) -> Occlusion:
    """Return what each part of a waveform of shape (n,) is worth to the answer that is the most probable one for all of it."""
    edges = _edges(sample_rate)
    bands, weights = _bands(waveform, sample_rate, edges), _weights(len(waveform))
    whole = answers(waveform[None])[0]
    best = int(whole.argmax())
    losses = np.stack([whole[best] - answers((waveform - weights * band).astype(np.float32))[:, best] for band in bands])
    return Occlusion(whole, losses.astype(np.float32), tuple(round(float(edge), 1) for edge in edges))


def _edges(sample_rate: int) -> NDArray[np.float64]:
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)  # HTK's mel scale, as the features have it
    edges: NDArray[np.float64] = 700 * (10 ** (np.linspace(0, top, BANDS + 1) / 2595) - 1)
    return edges


def _bands(waveform: Waveform, sample_rate: int, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a waveform of shape (n,) in its bands, shape (BANDS, n); together they are the waveform."""
    spectrum = np.fft.rfft(waveform.astype(np.float64))
    band = np.searchsorted(edges[1:-1], np.fft.rfftfreq(len(waveform), 1 / sample_rate), side="right")
    parts: NDArray[np.float64] = np.fft.irfft(spectrum * (band == np.arange(BANDS)[:, None]), n=len(waveform), axis=1)
    return parts


def _weights(n_samples: int) -> NDArray[np.float64]:
    """Return how much of each sample belongs to each segment, shape (SEGMENTS, n): raised cosines, 1 together, so that no cut clicks."""
    centers = (np.arange(SEGMENTS) + 0.5) * n_samples / SEGMENTS
    place = np.clip(np.arange(n_samples), centers[0], centers[-1])
    distance = np.abs(place - centers[:, None]) * SEGMENTS / n_samples
    weights: NDArray[np.float64] = np.where(distance < 1, 0.5 + 0.5 * np.cos(np.pi * np.minimum(distance, 1)), 0.0)
    return weights
