"""Vectors that rankings have computed, kept on the local disk: the next ranking of the same clips is quick, a restarted one goes on.

One file each, named by a hash of all it depends on; complete or absent. What lies there can be computed again, so the oldest go when
there is too much of it.
"""

import hashlib
import json
import os
import time
import zipfile
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from models.transferability import Embedded, Statistics

_MOST_BYTES = 512 * 2**20
_MOST_SECONDS = 7 * 24 * 3600.0
_VECTORS = "vectors"  # beside it lie layers, whose names have a number before them
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile)  # numpy's answers to damaged files
_log = structlog.get_logger(__name__)


class KeptEmbeddings:
    """The vectors in one folder."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made when something is first kept."""
        self._folder = folder

    def find(self, key: str) -> dict[Statistics, Embedded] | None:
        """Return what was kept under `key`, None where nothing usable was. What is found counts as new."""
        path = self._path(key)
        try:
            # Opened here: numpy leaves a file that it can't read open.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            found = _unflattened(arrays)
            os.utime(path)
        except FileNotFoundError:
            return None
        except _UNREADABLE:
            _log.warning("embeddings_damaged", file=path.name)
            path.unlink(missing_ok=True)
            return None
        return found

    def keep(self, key: str, found: dict[Statistics, Embedded]) -> None:
        """Write what was computed, and remove what is too old or too much. A full disk keeps nothing and is no error."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._write(self._path(key), found)
        except OSError as error:
            _log.warning("embeddings_not_kept", reason=error.strerror)
        self.sweep()

    def sweep(self) -> None:
        """Remove files that nobody has read for a week, and the oldest beyond half a gigabyte; halves that a killed process left too."""
        left = _MOST_BYTES
        for age, size, path in sorted(_described(self._folder)):
            left -= size
            if left < 0 or age > _MOST_SECONDS:
                path.unlink(missing_ok=True)

    def _write(self, path: Path, found: dict[Statistics, Embedded]) -> None:
        draft = path.with_suffix(f".{os.getpid()}.part")
        try:
            with draft.open("wb") as file:
                np.savez(file, allow_pickle=False, **_flattened(found))
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)  # half a file on a full disk is room that others lack

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.npz"


def key_of(*parts: object) -> str:
    """Return the name of what depends on `parts`, which JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _described(folder: Path) -> list[tuple[float, int, Path]]:
    """Return age in seconds, size in bytes and path of each file; another process may remove some meanwhile."""
    found = []
    for path in folder.glob("*"):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        found.append((time.time() - status.st_mtime, status.st_size, path))
    return found


def _flattened(found: dict[Statistics, Embedded]) -> dict[str, NDArray[np.float32]]:
    arrays = {}
    for statistics, embedded in found.items():
        arrays[f"{statistics}/{_VECTORS}"] = embedded.vectors
        arrays |= {f"{statistics}/{number}/{name}": vectors for number, (name, vectors) in enumerate(embedded.layers.items())}
    return arrays


def _unflattened(arrays: dict[str, NDArray[np.float32]]) -> dict[Statistics, Embedded]:
    kinds: tuple[Statistics, ...] = ("source", "target")
    found = {}
    for statistics in kinds:
        parts = {name.removeprefix(f"{statistics}/"): array for name, array in arrays.items() if name.startswith(f"{statistics}/")}
        if parts:
            vectors = parts.pop(_VECTORS)
            found[statistics] = Embedded(vectors, {name.partition("/")[2]: array for name, array in parts.items()})
    return found
