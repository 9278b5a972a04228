"""Packed items → items of one size, ready for batches: clips of one length, pictures of one side.

Prepared once a job.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from PIL import Image

from models.audio import fit_clip, from_pcm16, to_pcm16
from models.config import FeatureConfig
from models.dataset import DTYPES, Items, PackedDataset
from models.errors import ConfigError
from models.features import clip_samples

Indices = Sequence[int] | np.ndarray[Any, np.dtype[np.int64]]
# Bytes prepared between two writes.
CHUNK_BYTES = 4 * 2**20


class PreparedItems:
    """All items of a dataset at one size: an array on disk of which `batch` gathers rows.

    Sounds: int16 (n, clip_samples). Pictures: uint8 (n, size, size, 3). Where the packed items have that size already, they are used as
    they lie; otherwise a file in `scratch` is written, which a second holder with the same dataset and configuration finds and takes.
    """

    def __init__(self, dataset: PackedDataset, config: FeatureConfig, scratch: Path) -> None:
        """`config` must be resolved; `scratch` must exist and hold some gigabytes for large datasets."""
        shape = item_shape(dataset, config)
        self.items: Items
        """(n, *item shape), read-only"""
        if lies_ready(dataset, config):
            self.items = dataset.data.reshape(len(dataset), *shape)
            return
        path = scratch / f"prepared-{_key(dataset, shape, config)}.bin"
        if not path.exists():
            _write(path, dataset, config, shape)
        self.items = np.asarray(np.memmap(path, DTYPES[dataset.modality], mode="r", shape=(len(dataset), *shape)))

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.items)

    def batch(self, indices: Indices) -> Items:
        """Return a copy of these items, in this order: int16 (batch, clip_samples) or uint8 (batch, size, size, 3)."""
        return self.items[np.asarray(indices, np.int64)]


def item_shape(dataset: PackedDataset, config: FeatureConfig) -> tuple[int, ...]:
    """Return the shape of one prepared item. Raises ConfigError where `config` is still "auto"."""
    if dataset.modality == "audio":
        return (clip_samples(config),)
    if isinstance(config.image_size, str):
        raise ConfigError("image_size is still auto: it is resolved when a job starts.", param="features.image_size")
    return (config.image_size, config.image_size, 3)


def lies_ready(dataset: PackedDataset, config: FeatureConfig) -> bool:
    """Tell whether every packed item has the shape (and rate) of a prepared one already, so that nothing is to be prepared."""
    shape = item_shape(dataset, config)
    if dataset.modality == "audio":
        return dataset.sample_rate == config.sample_rate and bool((np.diff(dataset.offsets) == shape[0]).all())
    return bool((dataset.shapes == shape[0]).all())


def prepare_items(dataset: PackedDataset, indices: Indices, config: FeatureConfig) -> Items:
    """Return these items at one size, prepared now: int16 (n, clip_samples) or uint8 (n, size, size, 3)."""
    prepare = _PREPARERS[dataset.modality]
    return np.stack([prepare(dataset, int(index), config) for index in indices])


def clip_batch(dataset: PackedDataset, indices: Indices, config: FeatureConfig) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return clips as float32 (batch, clip_samples), -1 to 1, at the configuration's sample rate."""
    return from_pcm16(np.stack([_clip(dataset, int(index), config) for index in indices]))


def picture_batch(dataset: PackedDataset, indices: Indices, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return pictures as uint8 (batch, size, size, 3)."""
    return np.stack([fit_picture(dataset.item(int(index)), size) for index in indices])


def fit_picture(pixels: Items, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the middle square of a picture of shape (height, width, 3), resized (antialiased bicubic) to (size, size, 3)."""
    height, width, _ = pixels.shape
    if height == width == size:
        return np.asarray(pixels, np.uint8)
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    picture = Image.fromarray(np.ascontiguousarray(pixels, np.uint8))
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)))


def _clip(dataset: PackedDataset, index: int, config: FeatureConfig) -> np.ndarray[Any, np.dtype[np.int16]]:
    samples = np.asarray(dataset.item(index), np.int16)
    if dataset.sample_rate != config.sample_rate:
        samples = to_pcm16(soxr.resample(from_pcm16(samples), dataset.sample_rate, config.sample_rate, quality="HQ"))
    return fit_clip(samples, clip_samples(config))


def _picture(dataset: PackedDataset, index: int, config: FeatureConfig) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return fit_picture(dataset.item(index), item_shape(dataset, config)[0])


_PREPARERS: dict[str, Callable[[PackedDataset, int, FeatureConfig], Items]] = {"audio": _clip, "image": _picture}


def _key(dataset: PackedDataset, shape: tuple[int, ...], config: FeatureConfig) -> str:
    """Name what a prepared file depends on."""
    parts = (str(dataset.directory.absolute()), len(dataset), len(dataset.data), shape, config.sample_rate, dataset.sample_rate)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _write(path: Path, dataset: PackedDataset, config: FeatureConfig, shape: tuple[int, ...]) -> None:
    """Prepare all items in chunks; the file gets its name when it is complete, so a killed job leaves no half of one to be taken."""
    chunk = max(1, CHUNK_BYTES // (int(np.prod(shape)) * np.dtype(DTYPES[dataset.modality]).itemsize))
    partial = path.with_suffix(f".{os.getpid()}.part")
    with partial.open("wb") as file:
        for start in range(0, len(dataset), chunk):
            indices = range(start, min(start + chunk, len(dataset)))
            file.write(prepare_items(dataset, indices, config).data)
    partial.replace(path)
