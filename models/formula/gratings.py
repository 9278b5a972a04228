"""Waves in windows: a few gratings, each with its own direction, pitch, chirp and place, as the first stages of seeing look for."""

import numpy as np

from models.formula.canvas import Floats, Pixels, colored, grid, jitter, shifted

_WAVES = (1, 5)
_CHANGE = 0.12
_PARAMETERS = 8  # y, x, height, width, direction, cycles, chirp, strength


def draw(random: np.random.Generator, items: int, side: int) -> Pixels:
    """Return `items` pictures, shape (items, side, side, 3), of one random set of gratings."""
    waves = int(random.integers(*_WAVES))
    lower = np.array([-0.7, -0.7, 0.25, 0.25, -np.pi, 1.0, -1.5, 0.5])
    upper = np.array([0.7, 0.7, 0.9, 0.9, np.pi, 6.0, 1.5, 1.0])
    chosen = random.uniform(lower, upper, (waves, _PARAMETERS)).astype(np.float32)
    varied = jitter(random, items, chosen, _CHANGE)
    inks = np.zeros((items, side, side), dtype=np.float32)
    for wave in range(waves):
        inks += _wave(varied[:, wave], random.uniform(-np.pi, np.pi, items).astype(np.float32), side)
    return colored(shifted((0.5 + 0.5 * inks).clip(0, 1), random), random)


def _wave(parameters: Floats, phase: Floats, side: int) -> Floats:
    """Return one grating a picture, shape (items, side, side), -1..1, of parameters, shape (items, 8); its phase is the item's own."""
    y0, x0, height, width, direction, cycles, chirp, strength = parameters.T[:, :, None, None]
    y, x = grid(side)
    along = np.cos(direction) * x + np.sin(direction) * y
    window = np.exp(-(((y - y0) / height) ** 2) - ((x - x0) / width) ** 2)
    inks: Floats = strength * window * np.sin(np.pi * (cycles + chirp * along) * along + phase[:, None, None])
    return inks
