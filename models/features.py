"""Log-mel features: their definition in numbers, and the numpy twin that serves. The torch twin is models/frontend.py.

Mel scale and filters are HTK's, without area normalisation (O'Shaughnessy 1987: mel = 2595 log10(1 + f/700)), from 0 Hz to half the
sample rate: torchaudio's defaults, so that torchaudio is a reference for the tests. The window is a periodic Hann.
"""

import functools
import math
from typing import Any

import numpy as np

from models.config import FeatureConfig
from models.errors import ConfigError

Array = np.ndarray[Any, np.dtype[np.float32]]
# Added under the logarithm. It equals white noise at 76 dB below full scale (variance · the window's energy of 150 · a filter of 3 bins):
# above what rounding to 16 bits leaves, so that a dithered and an all-zero silence look alike, and under a microphone's own noise.
# Float32 transforms differ by some 1e-5 of the loudest bin's amplitude; a lower floor would lift that difference into the features.
LOG_FLOOR = 1e-5


def clip_samples(config: FeatureConfig) -> int:
    """Return the number of samples of one clip; `clip_seconds` must be resolved. Raises ConfigError where it is "auto"."""
    if isinstance(config.clip_seconds, str):
        raise ConfigError("clip_seconds is still auto: it is resolved when a job starts.", param="features.clip_seconds")
    return round(config.clip_seconds * config.sample_rate)


def hop_samples(config: FeatureConfig) -> int:
    """Return the distance of two frames in samples."""
    return max(1, round(config.hop_ms * config.sample_rate / 1000))


def window_samples(config: FeatureConfig) -> int:
    """Return the length of the analysis window in samples, an even number so that it has a sample at its centre."""
    return 2 * max(1, round(config.window_ms * config.sample_rate / 2000))


def fft_size(config: FeatureConfig) -> int:
    """Return the transform's length: the window filled up with zeros to a power of two, which also narrows the bins."""
    return int(2 ** math.ceil(math.log2(window_samples(config))))


def n_frames(config: FeatureConfig) -> int:
    """Return the number of frames of one clip: one centred at each multiple of the hop, the clip's end included."""
    return 1 + clip_samples(config) // hop_samples(config)


def padding(config: FeatureConfig) -> int:
    """Return the zeros put before and after a waveform so that frame t is centred at sample t · hop."""
    return window_samples(config) // 2


@functools.lru_cache(maxsize=32)
def hann_window(config: FeatureConfig) -> Array:
    """Return the periodic Hann window, float32 (window_samples,)."""
    n = window_samples(config)
    return _constant(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n))


@functools.lru_cache(maxsize=32)
def mel_filters(config: FeatureConfig) -> Array:
    """Return the triangular filters, float32 (n_mels, fft_size // 2 + 1): mel energies = filters @ power spectrum."""
    bins = np.linspace(0, config.sample_rate / 2, fft_size(config) // 2 + 1)
    top = 2595 * math.log10(1 + config.sample_rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, config.n_mels + 2) / 2595) - 1)
    lower, centre, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - lower) / (centre - lower), (upper - bins) / (upper - centre)
    filters = np.maximum(0, np.minimum(rising, falling))
    # With many bands the low ones can fall between two bins; such a band takes both, weighed by their nearness, not nothing.
    empty = filters.sum(axis=1) == 0
    nearness = np.maximum(0, 1 - np.abs(bins - centre) / (bins[1] - bins[0]))
    return _constant(np.where(empty[:, None], nearness, filters))


@functools.lru_cache(maxsize=32)
def folded_dft(config: FeatureConfig) -> tuple[Array, Array]:
    """Return (cosines, sines), each float32 (window_samples // 2, fft_size // 2 + 1), with the window multiplied in.

    Row k stands for the samples k to the right and to the left of a frame's centre, where cosines are even and sines odd. So with
    `right` and `left` of shape (…, window_samples // 2), counted from the centre outward and both beginning with the centre itself,
    |(right + left) @ cosines|² + |(right - left) @ sines|² is the power spectrum. The frame's first sample is left out: its weight is 0.
    """
    half = window_samples(config) // 2
    phase = 2 * np.pi * np.outer(np.arange(half), np.arange(fft_size(config) // 2 + 1)) / fft_size(config)
    window = hann_window(config).astype(np.float64)[half:, None]
    cosines, sines = window * np.cos(phase), window * np.sin(phase)
    cosines[0] /= 2  # the centre is in both halves
    return _constant(cosines), _constant(sines)


def log_mel(waveforms: Array, config: FeatureConfig) -> Array:
    """Return the log-mel features of waveforms of shape (batch, n_samples): float32 (batch, n_mels, 1 + n_samples // hop).

    Samples are -1 to 1 at `config.sample_rate`; values are natural logarithms of mel energies.
    """
    padded = np.pad(waveforms.astype(np.float32, copy=False), ((0, 0), (padding(config), padding(config))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window_samples(config), axis=1)[:, :: hop_samples(config)]
    spectrum = np.fft.rfft(frames * hann_window(config), n=fft_size(config))
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    mel = np.matmul(mel_filters(config), power.swapaxes(1, 2))
    features: Array = np.log(mel + np.float32(LOG_FLOOR))
    return features


def _constant(values: np.ndarray[Any, np.dtype[np.float64]]) -> Array:
    """Return the values as float32 that nobody can write to, as they are shared through the caches."""
    constant = np.ascontiguousarray(values, np.float32)
    constant.setflags(write=False)
    return constant
