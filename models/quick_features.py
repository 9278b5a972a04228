"""The log-mel features of models/features.py at serving speed: the same constants, scipy's vectorized transform, a clip at a time.

numpy's transform takes one frame after the other and needs 370 µs for the 101 frames of a second, scipy's takes 16 at once and needs 65.
Of scipy only the extension module is opened: `import scipy.fft` costs a serving process 0.3 s and 30 MB for a dozen other things.
"""

import functools
import importlib.machinery
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.config import FeatureConfig
from models.features import LOG_FLOOR, Array, clip_samples, fft_size, hann_window, hop_samples, mel_filters, n_frames, padding

_MODULE = "pypocketfft"
_GROUPS = 4  # of neighbouring bands: each is multiplied with the bins that it hears, a third of all products
Transform = Callable[[Array], np.ndarray[Any, np.dtype[np.complex64]]]


class QuickLogMel:
    """Waveforms, shape (batch, clip_samples), → log-mels, shape (batch, n_mels, n_frames), float32; safe in threads."""

    def __init__(self, config: FeatureConfig) -> None:
        """Raises ConfigError where the clip's length is open, ImportError where scipy is missing or another one than we know."""
        self._transform = transform()
        self._groups, self._window = _groups(mel_filters(config)), hann_window(config)
        self._samples, self._frames, self._hop = clip_samples(config), n_frames(config), hop_samples(config)
        self._padding, self._fft_size = padding(config), fft_size(config)
        self.shape = (config.n_mels, self._frames)
        """of one clip's features"""

    def __call__(self, waveforms: Sequence[Array] | Array) -> Array:
        """Return the features; the waveforms, each of shape (clip_samples,), may lie apart.

        One after the other: its frames then stay in the core's cache, which is worth a half.
        """
        features = np.empty((len(waveforms), *self.shape), np.float32)
        padded = np.zeros(self._samples + 2 * self._padding, np.float32)
        frames = np.zeros((self._frames, self._fft_size), np.float32)  # the zeros behind the window stay
        size = len(self._window)
        windows = np.lib.stride_tricks.sliding_window_view(padded, size)[:: self._hop]
        for waveform, target in zip(waveforms, features, strict=True):
            padded[self._padding : self._padding + self._samples] = waveform
            np.multiply(windows, self._window, out=frames[:, :size])
            parts = self._transform(frames).view(np.float32)  # real and imaginary, in turn
            np.square(parts, out=parts)
            power = (parts[:, 0::2] + parts[:, 1::2]).T
            for bands, bins, filters in self._groups:
                np.matmul(filters, power[bins], out=target[bands])
        features += np.float32(LOG_FLOOR)
        return np.log(features, out=features)


def _groups(filters: Array) -> list[tuple[slice, slice, Array]]:
    """Return bands, bins and filters, shape (bands, bins), of groups of bands, for filters of shape (n_mels, bins)."""
    groups = []
    for rows in np.array_split(np.arange(len(filters)), _GROUPS):
        heard = np.flatnonzero(filters[rows].any(axis=0))
        bands, bins = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(heard[0]), int(heard[-1]) + 1)
        groups.append((bands, bins, np.ascontiguousarray(filters[bands, bins])))
    return groups


@functools.cache
def transform() -> Transform:
    """Return the real Fourier transform of rows, (rows, n) → (rows, n // 2 + 1), complex64. Raises ImportError."""
    found = importlib.util.find_spec("scipy")
    if found is None or not found.submodule_search_locations:
        raise ImportError("scipy is not installed")
    folder = Path(found.submodule_search_locations[0]) / "fft" / "_pocketfft"
    files = [path for suffix in importlib.machinery.EXTENSION_SUFFIXES if (path := folder / f"{_MODULE}{suffix}").is_file()]
    if not files:
        raise ImportError(f"scipy has no {_MODULE}")
    loader = importlib.machinery.ExtensionFileLoader(_MODULE, str(files[0]))
    spec = importlib.util.spec_from_loader(_MODULE, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    real_transform = module.r2c

    def of_rows(rows: Array) -> np.ndarray[Any, np.dtype[np.complex64]]:
        """Return the spectra, shape (rows, n // 2 + 1), of rows of shape (rows, n)."""
        found: np.ndarray[Any, np.dtype[np.complex64]] = real_transform(rows, (1,), True, 0, None, 1)  # forward, unscaled, one thread
        return found

    return of_rows
