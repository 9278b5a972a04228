"""Closed curves whose radius is a sum of harmonics, one inside the other (after Kataoka et al. 2022, arXiv 2206.09132)."""

import numpy as np

from models.formula.canvas import Floats, Pixels, colored, grid, jitter, shifted, single

_HARMONICS = 7
_RINGS = (1, 5)
_CHANGE = 0.15
_TURN = 0.25  # radians either way, from picture to picture


def draw(random: np.random.Generator, items: int, side: int) -> Pixels:
    """Return `items` pictures, shape (items, side, side, 3), of one random family of curves."""
    rings = int(random.integers(*_RINGS))
    decay = np.arange(1, _HARMONICS + 1, dtype=np.float32) ** -random.uniform(0.5, 1.5)
    strength = jitter(random, items, (random.uniform(-0.5, 0.5, _HARMONICS) * decay).astype(np.float32), _CHANGE)
    phase = random.uniform(-np.pi, np.pi, _HARMONICS).astype(np.float32) + random.normal(0, _CHANGE, (items, _HARMONICS)).astype(np.float32)
    radii = np.sort(random.uniform(0.25, 0.95, rings)).astype(np.float32)
    width = float(random.uniform(0.04, 0.12))
    filled = bool(random.random() < 0.3)
    y, x = _turned(random, items, side, aspect=float(random.uniform(0.5, 1)))
    profile = _profile(np.arctan2(y, x), strength, phase)
    distance = single(np.hypot(x, y) / np.maximum(profile, 0.15))
    inks = _filled(distance, radii) if filled else _lines(distance, jitter(random, items, radii, _CHANGE / 2), width)
    return colored(shifted(inks, random), random)


def _turned(random: np.random.Generator, items: int, side: int, *, aspect: float) -> tuple[Floats, Floats]:
    """Return y and x, shapes (items, side, side), seen from a turned, squeezed frame."""
    y, x = grid(side)
    angle = random.uniform(-_TURN, _TURN, (items, 1, 1)).astype(np.float32)
    scale = random.uniform(0.85, 1.15, (items, 1, 1)).astype(np.float32)
    down, right = np.sin(angle) * x + np.cos(angle) * y, np.cos(angle) * x - np.sin(angle) * y
    return (down / (aspect * scale)).astype(np.float32), (right / scale).astype(np.float32)


def _profile(angle: Floats, strength: Floats, phase: Floats) -> Floats:
    """Return the relative radius at each angle, shape (items, side, side)."""
    total = np.ones_like(angle)
    for index in range(_HARMONICS):
        total += strength[:, index, None, None] * np.cos((index + 1) * angle + phase[:, index, None, None])
    return total


def _lines(distance: Floats, radii: Floats, width: float) -> Floats:
    """Return soft lines where `distance`, shape (items, side, side), is one of the item's radii, shape (items, rings)."""
    gaps = np.abs(distance[:, None] - radii[:, :, None, None]) / width
    inks: Floats = np.exp(-(gaps**2)).max(axis=1)
    return inks


def _filled(distance: Floats, radii: Floats) -> Floats:
    """Return alternating rings of ink and ground, shape (items, side, side)."""
    inside = (distance[:, None] < radii[None, :, None, None]).sum(axis=1)
    inks: Floats = (inside % 2).astype(np.float32)
    return inks
