"""A job's checkpoints: one file each, complete or absent, checked by hash when read.

The file's name holds the step and the beginning of its sha256, so that a torn or damaged file is known without a second one beside it.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import structlog
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from models.files import write_durably
from worker.storage import sync_folder

_KEPT = 2  # the newest, and the one before in case the newest is damaged
_DIGEST = 32  # hexadecimal digits in the name: 128 bits
_META = "meta"
_log = structlog.get_logger(__name__)

Tensors = dict[str, torch.Tensor]


class Checkpoints:
    """The checkpoints in one folder."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made; what an interrupted save left there is removed."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.part"):
            leftover.unlink()

    def save(self, step: int, tensors: Tensors, meta: dict[str, Any]) -> None:
        """Write a checkpoint durably, then remove all but the newest two. A full disk raises OSError and leaves the older ones."""
        data = save(tensors, {_META: json.dumps(meta)})
        digest = hashlib.sha256(data).hexdigest()[:_DIGEST]
        path = self._folder / f"{step:09d}-{digest}.safetensors"
        draft = path.with_suffix(".part")
        try:
            write_durably(draft, data)
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)  # half a file on a full disk is room that the next one lacks
            raise
        sync_folder(self._folder)  # a rename survives a power cut only then (fsync(2))
        for old in self._newest_first()[_KEPT:]:
            old.unlink()

    def load(self) -> tuple[Tensors, dict[str, Any]] | None:
        """Return the newest intact checkpoint as `save` got it; damaged ones are removed on the way. None without any."""
        for path in self._newest_first():
            found = _read(path)
            if found is not None:
                return found
            _log.warning("checkpoint_damaged", file=path.name)
            path.unlink()
        return None

    def _newest_first(self) -> list[Path]:
        return sorted(self._folder.glob("*.safetensors"), reverse=True)


def _read(path: Path) -> tuple[Tensors, dict[str, Any]] | None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:_DIGEST]
    if digest != path.stem.partition("-")[2]:
        return None
    try:
        with safe_open(path, framework="pt") as archive:
            tensors = {key: archive.get_tensor(key) for key in archive.keys()}  # noqa: SIM118 - it is no dictionary
            return tensors, json.loads((archive.metadata() or {})[_META])
    except (SafetensorError, KeyError, ValueError):
        return None
