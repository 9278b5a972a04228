"""Attractors of iterated function systems: the source images of FractalDB (Kataoka et al. 2020, arXiv 2101.08515)."""

import numpy as np
from numpy.typing import NDArray

from models.formula.canvas import Floats, Pixels, colored, jitter, shifted

_MAPS = (2, 8)  # affine maps of a system, the upper end exclusive
_WALKERS, _STEPS, _SKIPPED = 64, 70, 10  # points of one picture: walkers × (steps - skipped)
_LEAST_FILL, _MOST_FILL = 0.15, 0.7  # of the cells; emptier and fuller attractors look alike
_TRIES = 200
_CHANGE = 0.1  # of every parameter, from picture to picture; FractalDB takes the same
_CHECK_SIDE = 16


def draw(random: np.random.Generator, items: int, side: int) -> Pixels:
    """Return `items` pictures, shape (items, side, side, 3), of one random system, each with its parameters a little changed."""
    maps = _system(random)
    return colored(shifted(_inks(random, jitter(random, items, maps, _CHANGE), side), random), random)


def _system(random: np.random.Generator) -> Floats:
    """Return affine maps, shape (maps, 6), whose attractor fills enough of the picture, not all of it; the last try if none does."""
    maps = _candidate(random)
    for _ in range(_TRIES):
        fill = float((_inks(random, maps[None], _CHECK_SIDE) > 0).mean())
        if _LEAST_FILL <= fill <= _MOST_FILL:
            return maps
        maps = _candidate(random)
    return maps


def _candidate(random: np.random.Generator) -> Floats:
    """Return random contractions: rotation, scale, rotation, so that no map stretches (Anderson and Farrell 2022, arXiv 2110.03091)."""
    count = int(random.integers(*_MAPS))
    first, second = random.uniform(-np.pi, np.pi, (2, count))
    major = random.uniform(0.3, 0.9, count)
    minor = major * random.uniform(0.2, 1.0, count) * random.choice([-1, 1], count)
    c1, s1, c2, s2 = np.cos(first), np.sin(first), np.cos(second), np.sin(second)
    linear = [c1 * major * c2 - s1 * minor * s2, -c1 * major * s2 - s1 * minor * c2]
    linear += [s1 * major * c2 + c1 * minor * s2, -s1 * major * s2 + c1 * minor * c2]
    offsets = random.uniform(-1, 1, (count, 2))
    return np.column_stack([*linear, offsets]).astype(np.float32)


def _inks(random: np.random.Generator, maps: Floats, side: int) -> Floats:
    """Return how densely each system's attractor covers each pixel, shape (n, side, side), 0..1, of maps, shape (n, count, 6)."""
    points = _orbit(random, maps)
    low, high = points.min(axis=1, keepdims=True), points.max(axis=1, keepdims=True)
    span = np.maximum((high - low).max(axis=2, keepdims=True), 1e-6)  # the aspect stays
    cells = ((points - (low + high) / 2) / span + 0.5) * (side - 1)
    column, row = np.rint(cells).astype(np.int64).transpose(2, 0, 1).clip(0, side - 1)
    flat = np.arange(len(maps))[:, None] * side * side + row * side + column
    counts = np.bincount(flat.ravel(), minlength=len(maps) * side * side).reshape(len(maps), side, side)
    dense = np.log1p(counts.astype(np.float32))
    inks: Floats = dense / np.maximum(dense.max(axis=(1, 2), keepdims=True), 1e-6)
    return inks


def _orbit(random: np.random.Generator, maps: Floats) -> NDArray[np.float32]:
    """Return the points of the chaos game, shape (n, points, 2); a map is taken as often as it keeps of the area."""
    n = len(maps)
    area = np.abs(maps[..., 0] * maps[..., 3] - maps[..., 1] * maps[..., 2]) + 0.02
    edges = np.cumsum(area / area.sum(axis=1, keepdims=True), axis=1)
    chosen = (random.random((n, _STEPS, _WALKERS), dtype=np.float32)[..., None] > edges[:, None, None, :-1]).sum(axis=3)
    taken = np.take_along_axis(maps[:, None], chosen.reshape(n, 1, -1, 1).repeat(6, axis=3), axis=2).reshape(n, _STEPS, _WALKERS, 6)
    x, y = np.zeros((2, n, _WALKERS), dtype=np.float32)
    orbit = np.empty((n, _STEPS, _WALKERS, 2), dtype=np.float32)
    for step in range(_STEPS):
        a, b, c, d, e, f = taken[:, step].transpose(2, 0, 1)
        x, y = a * x + b * y + e, c * x + d * y + f
        orbit[:, step, :, 0], orbit[:, step, :, 1] = x, y
    return orbit[:, _SKIPPED:].reshape(n, -1, 2)
