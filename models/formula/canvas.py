"""From shapes to pictures: what all families of formula images share - tint, background, noise, and drawing by blobs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
_GRAIN = 0.12  # deviation of a pixel's brightness, of 1, at most
_SHIFT = 0.08  # of the side
_TINT_DISTANCE = 0.35  # least distance of ink and ground, of 1: a picture that can't be seen teaches nothing


def colored(shapes: Floats, random: np.random.Generator) -> Pixels:
    """Return pictures, shape (n, side, side, 3), of inks, shape (n, side, side), 0 for none to 1 for full.

    Each picture has its own ink, its own ground (a color that changes linearly over the picture) and its own grain: what a label's
    pictures share is the shape alone.
    """
    n, side = shapes.shape[:2]
    ink, ground = _tints(n, random)
    slope = random.uniform(-0.15, 0.15, (n, 2, 3)).astype(np.float32)
    place = np.linspace(-1, 1, side, dtype=np.float32)
    grounds = ground[:, None, None, :] + place[:, None, None] * slope[:, None, None, 0] + place[None, :, None] * slope[:, None, None, 1]
    pictures = grounds + shapes[..., None] * (ink[:, None, None, :] - grounds)
    strength = random.uniform(0, _GRAIN, (n, 1, 1, 1)).astype(np.float32)
    return pixels_of(pictures + strength * random.standard_normal((n, side, side, 1), dtype=np.float32))


def grey(shapes: Floats) -> Pixels:
    """Return pictures, shape (n, side, side, 3), of inks, shape (n, side, side): white on black."""
    return pixels_of(shapes[..., None].repeat(3, axis=3))


def pixels_of(pictures: Floats) -> Pixels:
    """Return pictures, shape (n, side, side, 3), 0 to 1, as bytes of the same shape."""
    pixels: Pixels = (pictures.clip(0, 1) * 255).round().astype(np.uint8)
    return pixels


def shifted(shapes: Floats, random: np.random.Generator) -> Floats:
    """Return the inks, shape (n, side, side), each moved by up to a twelfth of its side either way; the edge is drawn out."""
    n, side = shapes.shape[:2]
    reach = max(1, round(side * _SHIFT))
    padded = np.pad(shapes, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))
    down, right = random.integers(0, 2 * reach + 1, (2, n))
    return np.ascontiguousarray(windows[np.arange(n), down, right])


def single(values: NDArray[Any]) -> Floats:
    """Return the numbers, any shape, in single precision, in which pictures are drawn."""
    return np.asarray(values, dtype=np.float32)


def grid(side: int) -> tuple[Floats, Floats]:
    """Return y and x of every pixel, shapes (side, side), from -1 to 1; y grows downwards."""
    place = np.linspace(-1, 1, side, dtype=np.float32)
    y, x = np.meshgrid(place, place, indexing="ij")
    return y, x


def jitter(random: np.random.Generator, n: int, values: Floats, share: float) -> Floats:
    """Return n variants of `values`, shape (n, *values.shape), each number changed by up to `share` of itself either way."""
    return values * random.uniform(1 - share, 1 + share, (n, *values.shape)).astype(np.float32)


def _tints(n: int, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Return ink and ground, shapes (n, 3), that can be told apart."""
    ink, ground = random.uniform(0, 1, (2, n, 3)).astype(np.float32)
    close = np.linalg.norm(ink - ground, axis=1) < _TINT_DISTANCE
    ground[close] = 1 - np.round(ink[close])  # the far corner of the color cube
    return ink, ground
