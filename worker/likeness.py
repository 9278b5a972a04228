"""Near-duplicates among packed items: the same recording or photograph in another encoding, level, size or place in its clip.

Exact duplicates are found by their digest while they are read; this pass comes after. Each item becomes a small print that loudness,
brightness, size and small shifts don't touch; prints that share a part of their 64-bit hash (multi-index hashing, Norouzi et al. 2012) are
compared, and what is nearly equal is held against the items themselves. Looking too alike is common (every "1" of a handwriting set), so
only the last step decides.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.config import Modality
from models.dataset import Items

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
SIDE = 16  # a print has SIDE x SIDE numbers: brightness by place, or energy by band and time
_HASH_BITS = 64
_BANDS = 4  # of the hash; two items are compared where one band is equal
_FARTHEST = 10  # bits of the hash in which near-duplicates differ at most: 2 after JPEG, 4 after Opus, up to 8 where an item is smooth
_NEIGHBORS = 64  # in one band's order; a crowd of like items (blank scans) must not cost the square of its size
_MOST_CANDIDATES = 1_000_000  # of a band
_MOST_PAIRS = 10_000  # the most alike, that are held against the items themselves: two seconds
# Correlation of two prints from which the items themselves are asked, and of the items from which they count as the same. Photographs
# saved anew as JPEG 50 correlate at 0.995, digits written by two people at up to 0.993; sounds through MP3, Opus or a telephone's 8 kHz
# at 0.98, and two takes of one word by one speaker hardly above 0.9.
_ALIKE: dict[Modality, float] = {"image": 0.99, "audio": 0.96}
_SAME: dict[Modality, float] = {"image": 0.992, "audio": 0.95}
_CHUNK_BYTES = 16 * 2**20
_FRAME_SECONDS = 0.05
_HERTZ = (100.0, 3800.0)  # what a telephone leaves of a voice
_FLOOR = 1e-4  # of the loudest band: what is 40 dB below it is noise, which encoders change freely
_FAINT = 1.0  # deviation in grey levels, or in int16 steps, below which an item is blank and like any other blank one
_THUMBNAIL = 32  # pixels a side


@dataclass(frozen=True)
class Stored:
    """Packed items as PackedDataset names them, complete or still growing."""

    modality: Modality
    data: Items
    offsets: Ints
    """(n + 1,)"""
    shapes: NDArray[np.int32]
    """(n, 2)"""
    sample_rate: int | None = None
    """Hz"""

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.offsets) - 1

    def item(self, index: int) -> NDArray[Any]:
        """Return one item: int16 (n_samples,) or uint8 (height, width, 3)."""
        flat = self.data[self.offsets[index] : self.offsets[index + 1]]
        return flat if self.modality == "audio" else flat.reshape(*self.shapes[index], 3)


def near_duplicates(stored: Stored) -> list[tuple[int, int]]:
    """Return (later, earlier) positions of items that are nearly the same: for each later one the first that it repeats, ascending."""
    prints = _PRINTERS[stored.modality](stored)
    known = np.flatnonzero(prints.any(axis=1))
    if len(known) < 2:
        return []
    pairs = known[candidate_pairs(_hashes(prints[known]))]
    likeness = _correlations(prints, pairs)
    order = np.argsort(-likeness, kind="stable")[:_MOST_PAIRS]
    earliest: dict[int, int] = {}
    for one, other in pairs[order[likeness[order] >= _ALIKE[stored.modality]]].tolist():
        if one < earliest.get(other, other) and _COMPARERS[stored.modality](stored, one, other) >= _SAME[stored.modality]:
            earliest[other] = one
    return sorted(earliest.items())


def candidate_pairs(hashes: NDArray[np.uint64]) -> Ints:
    """Return the places of pairs, shape (pairs, 2), the lower first, whose 64-bit hashes share one of four bands and differ in few bits.

    Sorted by a band, equal ones stand side by side; each is compared with those that follow it, up to a number.
    """
    width = _HASH_BITS // _BANDS
    found = [_pairs_by_top(_rotated(hashes, band * width), width) for band in range(_BANDS)]
    # One number a pair, sorted: numpy's own `unique` takes ten times as long for numbers, and more for rows.
    numbers = np.sort(np.concatenate(found))
    one, other = np.divmod(numbers[np.diff(numbers, prepend=-1) > 0], max(1, len(hashes)))
    return np.stack([one, other], axis=1)


def _pairs_by_top(hashes: NDArray[np.uint64], width: int) -> Ints:
    """Return pairs of which the `width` highest bits are equal and few of the others differ, shape (pairs,): lower place · n + higher."""
    order = np.argsort(hashes, kind="stable")
    values = hashes[order]
    keys = values >> np.uint64(_HASH_BITS - width)
    alive, found, count = np.arange(len(order)), [np.empty(0, np.int64)], 0
    for step in range(1, _NEIGHBORS + 1):
        alive = alive[alive + step < len(order)]
        alive = alive[keys[alive] == keys[alive + step]]
        if not len(alive) or count > _MOST_CANDIDATES:
            break
        close = alive[np.bitwise_count(values[alive] ^ values[alive + step]) <= _FARTHEST]
        one, other = order[close], order[close + step]
        found.append(np.minimum(one, other) * len(order) + np.maximum(one, other))
        count += len(close)
    return np.concatenate(found)


def _correlations(prints: NDArray[np.int8], pairs: Ints) -> Floats:
    """Return the correlation of the prints of each pair, shape (pairs,)."""
    norms = np.concatenate([np.linalg.norm(prints[part].astype(np.float32), axis=1) for part in _chunks(np.arange(len(prints)), 4096)])
    result = np.zeros(len(pairs), np.float32)
    for part in _chunks(np.arange(len(pairs)), 4096):
        first, second = pairs[part].T
        products = np.einsum("nd,nd->n", prints[first].astype(np.float32), prints[second].astype(np.float32))
        result[part] = products / (norms[first] * norms[second])
    return result


def _rotated(hashes: NDArray[np.uint64], bits: int) -> NDArray[np.uint64]:
    """Return hashes, shape (n,), with another band at the top."""
    if not bits:
        return hashes
    rotated: NDArray[np.uint64] = (hashes << np.uint64(bits)) | (hashes >> np.uint64(_HASH_BITS - bits))
    return rotated


def _hashes(prints: NDArray[np.int8]) -> NDArray[np.uint64]:
    """Return 64-bit hashes, shape (n,), of prints, shape (n, SIDE²): which of the slowest waves in them lie above their median."""
    size = np.arange(SIDE)
    waves = np.cos(np.pi * (size[None] + 0.5) * size[:, None] / SIDE).astype(np.float32)  # the discrete cosine transform
    rows, columns = np.mgrid[:SIDE, :SIDE]
    slowest = np.argsort((rows + columns).ravel(), kind="stable")[1 : _HASH_BITS + 1]  # the first is the mean, which prints lack
    basis = np.einsum("ua,vb->uvab", waves, waves).reshape(SIDE * SIDE, SIDE * SIDE)[slowest]
    result = np.empty(len(prints), np.uint64)
    for part in np.array_split(np.arange(len(prints)), -(-len(prints) // 8192)):
        strengths = prints[part].astype(np.float32) @ basis.T
        above = strengths > np.median(strengths, axis=1, keepdims=True)
        result[part] = np.packbits(above, axis=1).view(">u8")[:, 0]
    return result


def _print_pictures(stored: Stored) -> NDArray[np.int8]:
    """Return prints, shape (n, SIDE²): brightness of the green channel, which is most of what the eye calls brightness."""
    prints = np.zeros((len(stored), SIDE * SIDE), np.int8)
    for shape in np.unique(stored.shapes, axis=0):
        places = np.flatnonzero((stored.shapes == shape).all(axis=1))
        height, width = (int(side) for side in shape)
        down, across = _shrinking(height, SIDE), _shrinking(width, SIDE)
        for part in _chunks(places, height * width * 4):
            green = np.stack([stored.item(int(index))[:, :, 1] for index in part]).astype(np.float32)
            prints[part] = _quantized(np.matmul(np.matmul(down, green), across.T).reshape(len(part), -1))
    return prints


def _print_sounds(stored: Stored) -> NDArray[np.int8]:
    """Return prints, shape (n, SIDE²): log energy by band and frame about the moment at which half of the energy has passed."""
    rate = stored.sample_rate or 1
    frame = round(_FRAME_SECONDS * rate)
    bands = _bands(frame, rate)
    window = np.hanning(frame).astype(np.float32)
    prints = np.zeros((len(stored), SIDE * SIDE), np.int8)
    for part in _chunks(np.arange(len(stored)), SIDE * frame * 8):
        frames = np.stack([_excerpt(stored.item(int(index)), SIDE * frame) for index in part]).reshape(len(part), SIDE, frame)
        faint = frames.std(axis=(1, 2)) < _FAINT
        energy = np.square(np.abs(np.fft.rfft(frames * window, axis=2))).astype(np.float32) @ bands.T
        logs = np.log(energy / np.maximum(energy.max(axis=(1, 2), keepdims=True), 1e-9) + _FLOOR)
        prints[part] = np.where(faint[:, None], np.int8(0), _quantized(logs.reshape(len(part), -1), least=0.0))
    return prints


def _chunks(places: Ints, bytes_each: int) -> Iterator[Ints]:
    size = max(1, _CHUNK_BYTES // bytes_each)
    return (places[start : start + size] for start in range(0, len(places), size))


def _quantized(values: Floats, least: float = _FAINT) -> NDArray[np.int8]:
    """Return prints of values, shape (n, SIDE²), less their mean, at a scale of their own; zeros where they hardly vary."""
    values = values - values.mean(axis=1, keepdims=True)
    largest = np.abs(values).max(axis=1, keepdims=True)
    varies = values.std(axis=1, keepdims=True) > least
    return np.where(varies, np.rint(values * 127 / np.maximum(largest, 1e-9)), 0).astype(np.int8)


@functools.lru_cache(maxsize=256)
def _shrinking(size: int, target: int) -> Floats:
    """Return the matrix (target, size) that takes means over equal stretches, parts of pixels included."""
    edges = np.linspace(0, size, target + 1)
    pixels = np.arange(size)
    covered = np.clip(np.minimum(pixels + 1, edges[1:, None]) - np.maximum(pixels, edges[:-1, None]), 0, None)
    matrix: Floats = (covered / covered.sum(axis=1, keepdims=True)).astype(np.float32)
    return matrix


def _bands(frame: int, rate: int) -> Floats:
    """Return the matrix (SIDE, bins) that sums bins into bands of equal width on a logarithmic scale; each has one bin at least."""
    hertz = np.fft.rfftfreq(frame, 1 / rate)
    edges = np.geomspace(_HERTZ[0], min(_HERTZ[1], rate / 2), SIDE + 1)
    inside = (hertz >= edges[:-1, None]) & (hertz < edges[1:, None])
    nearest = np.abs(hertz - np.sqrt(edges[:-1] * edges[1:])[:, None]).argmin(axis=1)
    inside[np.arange(SIDE), nearest] = True
    return inside.astype(np.float32)


def _excerpt(samples: NDArray[np.int16], size: int) -> Floats:
    """Return `size` samples about the moment at which half of a sound's energy has passed; silence beyond its ends."""
    passed = np.cumsum(np.square(samples, dtype=np.float32), dtype=np.float64)
    start = int(np.searchsorted(passed, passed[-1] / 2)) - size // 2
    excerpt = np.zeros(size, np.float32)
    begin, end = max(0, start), min(len(samples), start + size)
    excerpt[begin - start : end - start] = samples[begin:end]
    return excerpt


def _compare_pictures(stored: Stored, one: int, other: int) -> float:
    """Return the correlation of two pictures' colors, both shrunk to one size."""
    small = []
    for index in (one, other):
        pixels = stored.item(index).astype(np.float32)
        down, across = (_shrinking(side, _THUMBNAIL) for side in pixels.shape[:2])
        thumbnail = np.matmul(np.matmul(down, pixels.transpose(2, 0, 1)), across.T).ravel()
        small.append((thumbnail - thumbnail.mean()) / max(1e-6, float(thumbnail.std())))
    return float(np.mean(small[0] * small[1]))


def _compare_sounds(stored: Stored, one: int, other: int) -> float:
    """Return the highest correlation of two sounds' samples over all shifts between them."""
    excerpts = [_excerpt(stored.item(index), round(SIDE * _FRAME_SECONDS * (stored.sample_rate or 1))) for index in (one, other)]
    size = 1 << (2 * len(excerpts[0]) - 1).bit_length()
    spectra = [np.fft.rfft(excerpt, size) for excerpt in excerpts]
    correlation = np.fft.irfft(spectra[0] * spectra[1].conj(), size)
    return float(correlation.max() / max(1e-9, float(np.linalg.norm(excerpts[0]) * np.linalg.norm(excerpts[1]))))


_PRINTERS: dict[Modality, Callable[[Stored], NDArray[np.int8]]] = {"image": _print_pictures, "audio": _print_sounds}
_COMPARERS: dict[Modality, Callable[[Stored, int, int], float]] = {"image": _compare_pictures, "audio": _compare_sounds}
