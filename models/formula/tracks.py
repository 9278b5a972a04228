"""Bands that glide over time: curves from left to right, cut into stretches, beside patches of noise.

A label is a set of curves. Its pictures differ as one word differs from mouth to mouth: another pace, another height of all curves
(longer and shorter throats), other strengths, and the fine stripes of another pitch.
"""

import numpy as np

from models.formula.canvas import Floats, Pixels, colored, grid, shifted

_CURVES, _KNOTS, _BURSTS = (2, 5), 5, (0, 4)
_STRETCHES = 4  # of time, in each of which a curve may be silent
_PACE, _HEIGHT, _LIFT, _BEND = 0.25, 0.15, 0.05, 0.06  # of time; of height and its middle; of each knot
_STRIPED = 0.6  # share of pictures with the stripes of a pitch


def draw(random: np.random.Generator, items: int, side: int) -> Pixels:
    """Return `items` pictures, shape (items, side, side, 3), of one random set of curves."""
    time, height = _frames(random, items, side)
    inks = np.zeros((items, side, side), dtype=np.float32)
    for _ in range(int(random.integers(*_CURVES))):
        inks = np.maximum(inks, _curve(random, time, height))
    inks *= _stripes(random, items, side)
    for _ in range(int(random.integers(*_BURSTS))):
        inks = np.maximum(inks, _burst(random, time, height))
    return colored(shifted(inks, random), random)


def _frames(random: np.random.Generator, items: int, side: int) -> tuple[Floats, Floats]:
    """Return each picture's own time, shape (items, side), -1..1 within the word, and height, shape (items, side), -1..1."""
    place = np.linspace(-1, 1, side, dtype=np.float32)
    bend, scale, start = (random.uniform(-1, 1, (items, 1)).astype(np.float32) * reach for reach in (_PACE, _PACE, 0.15))
    time = (place * (1.1 + scale) + start) + bend * (1 - place**2)
    stretch, lift = random.uniform(-_HEIGHT, _HEIGHT, (items, 1)), random.normal(0, _LIFT, (items, 1))
    return time, (place * (1 + stretch) + lift).astype(np.float32)


def _curve(random: np.random.Generator, time: Floats, height: Floats) -> Floats:
    """Return one gliding band, shape (items, side, side): rows are heights, columns are times."""
    items = len(time)
    knots = (random.uniform(-0.9, 0.9) + np.cumsum(random.normal(0, 0.3, _KNOTS))).clip(-0.95, 0.95)
    bent = knots + random.normal(0, _BEND, (items, _KNOTS))
    middle = _smooth(bent.astype(np.float32), time)
    sounds = random.random(_STRETCHES) < 0.75
    sounds[random.integers(_STRETCHES)] = True
    level = np.where(sounds, random.uniform(0.5, 1.0, _STRETCHES), 0.0) * random.uniform(0.7, 1.3, (items, _STRETCHES))
    strength = _steps(level.astype(np.float32), time)
    width = np.float32(random.uniform(0.06, 0.16)) * random.uniform(0.8, 1.25, (items, 1, 1)).astype(np.float32)
    gap = (height[:, :, None] - middle[:, None, :]) / width
    inks: Floats = strength[:, None, :] * np.exp(-(gap**2))
    return inks.clip(0, 1)


def _burst(random: np.random.Generator, time: Floats, height: Floats) -> Floats:
    """Return one short patch of noise, shape (items, side, side), at a time and height of the label's own."""
    items, side = time.shape
    moment, middle = random.uniform(-0.9, 0.9, 2)
    length, reach = random.uniform(0.05, 0.25), random.uniform(0.2, 0.8)
    shape = np.exp(-(((time - moment) / length) ** 4))[:, None, :] * np.exp(-(((height - middle) / reach) ** 2))[:, :, None]
    grain = random.uniform(0.3, 1.0, (items, side, side)).astype(np.float32)
    inks: Floats = shape * grain * random.uniform(0.6, 1.0, (items, 1, 1)).astype(np.float32)
    return inks


def _stripes(random: np.random.Generator, items: int, side: int) -> Floats:
    """Return what a pitch leaves of each picture, shape (items, side, side), 0..1: equally spaced stripes that drift over time."""
    y, x = grid(side)
    count = random.uniform(3, side / 3, (items, 1, 1)).astype(np.float32)
    drift = random.normal(0, 0.1, (items, 1, 1)).astype(np.float32)
    depth = (random.random((items, 1, 1)) < _STRIPED) * random.uniform(0.2, 0.8, (items, 1, 1))
    wave = 0.5 + 0.5 * np.cos(np.pi * count * (y + 1) * (1 + drift * x))
    return (1 - depth * wave).astype(np.float32)


def _smooth(knots: Floats, time: Floats) -> Floats:
    """Return values, shape (items, side), between knots, shape (items, knots), eased from one to the next."""
    place = ((time + 1) / 2).clip(0, 1) * (knots.shape[1] - 1)
    left = np.minimum(place.astype(np.int64), knots.shape[1] - 2)
    share = place - left
    share = share * share * (3 - 2 * share)
    ends = np.take_along_axis(knots, left, axis=1), np.take_along_axis(knots, left + 1, axis=1)
    values: Floats = ends[0] + share * (ends[1] - ends[0])
    return values


def _steps(levels: Floats, time: Floats) -> Floats:
    """Return the level of the stretch that each time lies in, shape (items, side), 0 outside -1..1."""
    stretch = np.floor((time + 1) / 2 * levels.shape[1]).astype(np.int64)
    inside = (stretch >= 0) & (stretch < levels.shape[1])
    values: Floats = np.take_along_axis(levels, stretch.clip(0, levels.shape[1] - 1), axis=1) * inside
    return values.astype(np.float32)
