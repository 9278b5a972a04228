"""Noise with a spectrum of its own: every picture is new noise, the label is which directions and scales it has."""

import numpy as np

from models.formula.canvas import Floats, Pixels, colored, jitter

_BANDS = (1, 4)
_CHANGE = 0.1


def draw(random: np.random.Generator, items: int, side: int) -> Pixels:
    """Return `items` pictures, shape (items, side, side, 3), of one random texture."""
    bands = int(random.integers(*_BANDS))
    lower, upper = np.array([0.0, 2.0, 0.15, 0.2, 0.5]), np.array([np.pi, side / 3, 1.2, 0.6, 1.0])
    chosen = random.uniform(lower, upper, (bands, 5)).astype(np.float32)  # direction, cycles, spread of direction, of octaves, strength
    threshold, soft = random.uniform(-0.7, 0.7), random.uniform(0.2, 2.0)
    noise = np.fft.rfft2(random.standard_normal((items, side, side), dtype=np.float32))
    field = np.fft.irfft2(noise * _spectrum(jitter(random, items, chosen, _CHANGE), side), s=(side, side)).astype(np.float32)
    field /= np.maximum(field.std(axis=(1, 2), keepdims=True), 1e-6)
    inks: Floats = 1 / (1 + np.exp(-(field - threshold) / soft * 2))
    return colored(inks.astype(np.float32), random)


def _spectrum(bands: Floats, side: int) -> Floats:
    """Return the amplitude at each frequency, shape (items, side, side // 2 + 1), of bands, shape (items, bands, 5)."""
    fy, fx = np.meshgrid(np.fft.fftfreq(side, 1 / side), np.fft.rfftfreq(side, 1 / side), indexing="ij")
    angle, cycles = np.arctan2(fy, fx), np.maximum(np.hypot(fy, fx), 1e-6)
    amplitude = np.zeros((len(bands), side, side // 2 + 1), dtype=np.float32)
    for direction, middle, spread, octaves, strength in bands.transpose(1, 2, 0)[..., None, None]:
        turn = np.abs((angle - direction + np.pi / 2) % np.pi - np.pi / 2)  # a direction and its opposite are one
        amplitude += strength * np.exp(-((turn / spread) ** 2) - (np.log2(cycles / middle) / octaves) ** 2)
    return amplitude
