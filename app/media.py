"""Files on the client's side: which archive a file is, and a folder packed into one."""

import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from worker.archive_formats import HEAD_BYTES, MEDIA_TYPES, formats_of

_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can hold: one folder always makes the same bytes


def archive_type(path: Path) -> str:
    """Return the media type of an archive, told by its bytes. Raises ValueError when it is none that the service takes."""
    with path.open("rb") as source:
        found = formats_of(source.read(HEAD_BYTES))
    if not found:
        raise ValueError(f"{path} is neither a zip nor a tar nor a tar.gz")
    return MEDIA_TYPES[found[0]]


def folder_files(folder: Path) -> list[Path]:
    """Return the files below `folder` in a fixed order, without hidden ones. Raises ValueError when there are none."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not _hidden(path.relative_to(folder)))
    if not found:
        raise ValueError(f"{folder} holds no files")
    return found


def pack_folder(folder: Path, target: Path, *, on_file: Callable[[], None] = lambda: None) -> None:
    """Write `folder` as a zip, stored: pictures and sounds hardly shrink, and the service reads them sooner. Raises ValueError."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in folder_files(folder):
            entry = zip_entry(path.relative_to(folder).as_posix())
            entry.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(entry, "w") as sink:
                for piece in _pieces(source.fileno()):
                    sink.write(piece)
            on_file()


def zip_entry(name: str) -> zipfile.ZipInfo:
    """Return a member without time or owner: the same contents make the same archive, which the service stores once."""
    entry = zipfile.ZipInfo(name, _ZIP_EPOCH)
    entry.external_attr = 0o644 << 16
    return entry


def _pieces(descriptor: int) -> Iterator[bytes]:
    while piece := os.read(descriptor, 1 << 20):
        yield piece


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
