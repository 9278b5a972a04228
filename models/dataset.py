"""Packed datasets: every item decoded once, one after another in one file that is read through the page cache.

manifest.json   format, modality, sample rate, label and group names, the ingester's summary
data.bin        int16 samples (sounds) or uint8 RGB pixels (pictures)
offsets.npy     int64 (n + 1,): where each item begins in data.bin, in elements
shapes.npy      int32 (n, 2): height and width of each picture; zeros for sounds
labels.npy      int32 (n,);  splits.npy uint8 (n,), index in SPLITS;  groups.npy int32 (n,), -1 for none
"""

import io
import json
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from models.config import SPLITS, Modality, Split
from models.errors import DatasetError
from models.files import write_durably

Items = np.ndarray[Any, np.dtype[np.int16 | np.uint8]]
Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]
FORMAT = 1
DTYPES: dict[Modality, type[np.int16] | type[np.uint8]] = {"audio": np.int16, "image": np.uint8}


class PackedWriter:
    """Writes a packed dataset item by item; memory stays flat. Use as a context manager; `finish` makes it complete."""

    def __init__(self, directory: Path, modality: Modality, *, sample_rate: int | None) -> None:
        """`directory` must exist; `sample_rate` in Hz for sounds, None for pictures."""
        self.directory, self.modality, self.sample_rate = directory, modality, sample_rate
        self._offsets, self._shapes = array("q", [0]), array("i")
        self._data = (directory / "data.bin").open("wb", buffering=2**20)

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the data file, finished or not."""
        self._data.close()

    def append(self, item: Items) -> int:
        """Add int16 samples of shape (n,) or uint8 pixels of shape (height, width, 3); return the item's index.

        Raises ValueError on any other type or shape.
        """
        fits = item.ndim == 1 if self.modality == "audio" else item.ndim == 3 and item.shape[2] == 3
        if item.dtype != DTYPES[self.modality] or not fits or not item.size:
            raise ValueError(f"an item of {self.modality} can't be {item.dtype} of shape {item.shape}")
        self._data.write(np.ascontiguousarray(item).data)
        self._offsets.append(self._offsets[-1] + item.size)
        self._shapes.extend(item.shape[:2] if item.ndim == 3 else (0, 0))
        return len(self._offsets) - 2

    def stored(self) -> tuple[Items, np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.int32]]]:
        """Return data, offsets and shapes of all items so far, as PackedDataset names them; the data is mapped, not read."""
        self._data.flush()
        data = _map_items(self.directory / "data.bin", self.modality)
        return data, np.array(self._offsets, np.int64), np.array(self._shapes, np.int32).reshape(-1, 2)

    def finish(
        self,
        *,
        labels: Sequence[str],
        item_labels: Sequence[int],
        item_splits: Sequence[Split],
        item_groups: Sequence[int],
        group_names: Sequence[str],
        summary: dict[str, Any],
    ) -> None:
        """Write what belongs to the items, each sequence in the order of `append`, and make all of it durable.

        Raises ValueError when a sequence has not one entry an item, or points beyond the names.
        """
        n_items = len(self._offsets) - 1
        if not len(item_labels) == len(item_splits) == len(item_groups) == n_items:
            raise ValueError(f"{n_items} items, but {len(item_labels)} labels, {len(item_splits)} splits, {len(item_groups)} groups")
        arrays: dict[str, np.ndarray[Any, np.dtype[Any]]] = {
            "offsets": np.array(self._offsets, np.int64),
            "shapes": np.array(self._shapes, np.int32).reshape(-1, 2),
            "labels": np.array(item_labels, np.int32),
            "splits": np.array([SPLITS.index(split) for split in item_splits], np.uint8),
            "groups": np.array(item_groups, np.int32),
        }
        _check_range(arrays["labels"], 0, len(labels))
        _check_range(arrays["groups"], -1, len(group_names))
        manifest: dict[str, Any] = {"format": FORMAT, "modality": self.modality, "sample_rate": self.sample_rate, "items": n_items}
        manifest |= {"labels": list(labels), "groups": list(group_names), "summary": summary}
        self._data.flush()
        os.fsync(self._data.fileno())
        self._data.close()
        for name, values in arrays.items():
            write_durably(self.directory / f"{name}.npy", _npy(values))
        write_durably(self.directory / "manifest.json", json.dumps(manifest, ensure_ascii=False, indent=1).encode())


@dataclass(frozen=True)
class PackedDataset:
    """A packed dataset, memory-mapped: opening it reads some bytes an item, not the items."""

    directory: Path
    modality: Modality
    sample_rate: int | None
    """Hz; None for pictures"""
    labels: tuple[str, ...]
    group_names: tuple[str, ...]
    summary: dict[str, Any]
    item_labels: np.ndarray[Any, np.dtype[np.int32]]
    """(n,)"""
    item_splits: np.ndarray[Any, np.dtype[np.uint8]]
    """(n,), index in SPLITS"""
    item_groups: np.ndarray[Any, np.dtype[np.int32]]
    """(n,), index in `group_names`, -1 for none"""
    offsets: np.ndarray[Any, np.dtype[np.int64]]
    """(n + 1,), in elements of `data`"""
    shapes: np.ndarray[Any, np.dtype[np.int32]]
    """(n, 2), height and width of pictures"""
    data: Items
    """All items end to end, read-only."""

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Map the dataset in `directory`. Raises DatasetError (dataset_damaged) when it is incomplete or contradicts itself."""
        try:
            manifest = json.loads((directory / "manifest.json").read_bytes())
            arrays = {
                name: np.load(directory / f"{name}.npy", allow_pickle=False) for name in ("labels", "splits", "groups", "offsets", "shapes")
            }
            modality: Literal["audio", "image"] = manifest["modality"]
            data = _map_items(directory / "data.bin", modality)
            if not (_complete(manifest, arrays) and _within(manifest, arrays) and _end_to_end(arrays, modality, len(data))):
                raise DatasetError("The packed dataset's files do not fit together.", code="dataset_damaged")
            names = {"labels": tuple(manifest["labels"]), "group_names": tuple(manifest["groups"]), "summary": manifest["summary"]}
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:  # EOFError: numpy's answer to an empty file
            raise DatasetError(f"The packed dataset can't be opened: {error}", code="dataset_damaged") from error
        items = {f"item_{name}": arrays.pop(name) for name in ("labels", "splits", "groups")}
        return cls(directory=directory, modality=modality, sample_rate=manifest["sample_rate"], data=data, **names, **items, **arrays)

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.item_labels)

    @property
    def grey(self) -> bool:
        """Whether every picture is grey, as the ingester found."""
        return bool(self.summary.get("grey", False))

    def item(self, index: int) -> Items:
        """Return one item without copying: int16 (n_samples,) or uint8 (height, width, 3), read-only."""
        flat = self.data[self.offsets[index] : self.offsets[index + 1]]
        return flat if self.modality == "audio" else flat.reshape(*self.shapes[index], 3)

    def indices(self, split: Split) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the indices of a split's items, shape (n,), ascending."""
        return np.flatnonzero(self.item_splits == SPLITS.index(split))

    def durations(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return seconds an item, shape (n,); zeros for pictures."""
        return np.diff(self.offsets) / self.sample_rate if self.sample_rate else np.zeros(len(self))


def _map_items(path: Path, modality: Modality) -> Items:
    """Map data.bin; an empty file can't be mapped."""
    if path.stat().st_size == 0:
        return np.empty(0, DTYPES[modality])
    return np.asarray(np.memmap(path, DTYPES[modality], mode="r"))


def _complete(manifest: dict[str, Any], arrays: Arrays) -> bool:
    """Return whether every array has an entry an item, and offsets one more."""
    n_items = manifest["items"]
    lengths = {name: n_items + 1 if name == "offsets" else n_items for name in arrays}
    whole = all(values.dtype.kind in "iu" and len(values) == lengths[name] for name, values in arrays.items())
    return manifest["format"] == FORMAT and whole


def _within(manifest: dict[str, Any], arrays: Arrays) -> bool:
    """Return whether labels, splits and groups point at names that there are."""
    ranges = {"labels": (0, len(manifest["labels"])), "splits": (0, len(SPLITS)), "groups": (-1, len(manifest["groups"]))}
    return all(((arrays[name] >= low) & (arrays[name] < end)).all() for name, (low, end) in ranges.items())


def _end_to_end(arrays: Arrays, modality: Modality, n_elements: int) -> bool:
    """Return whether the items, none of them empty, fill the data file from its first element to its last; pictures by their shapes."""
    offsets, sizes = arrays["offsets"], np.diff(arrays["offsets"])
    if offsets[0] != 0 or offsets[-1] != n_elements or not (sizes > 0).all():
        return False
    shapes = arrays["shapes"].astype(np.int64)
    return modality == "audio" or bool((shapes > 0).all() and (3 * shapes.prod(axis=1) == sizes).all())


def _check_range(values: np.ndarray[Any, Any], lowest: int, end: int) -> None:
    if values.size and not lowest <= values.min() <= values.max() < end:
        raise ValueError(f"an index outside {lowest} to {end - 1}")


def _npy(values: np.ndarray[Any, Any]) -> bytes:
    sink = io.BytesIO()
    np.save(sink, values, allow_pickle=False)
    return sink.getvalue()
