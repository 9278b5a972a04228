"""Blobs: uploads, packed datasets and artifacts, on the local disk or behind any fsspec URL.

A blob is named by a relative key, and is there whole or not at all. On the local disk that is a rename of what has been made durable;
on an object store, whose folders can't be renamed, a blob counts once its seal (sizes and checksums of its files) has been written.
"""

import contextlib
import errno
import functools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

from models.errors import UnavailableError
from worker.errors import DependencyError, StorageFullError
from worker.settings import Settings, get_settings

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the last: a limit on the size of files, of the process or the file system
_MAX_KEY = 200  # what the columns that hold references take
ASIDE = ".aside-"  # names below a root that are being written or deleted


class Storage(Protocol):
    """Where blobs lie. Every method raises StorageFullError on a full disk, DependencyError when the storage fails otherwise."""

    def publish_file(self, path: Path, key: str) -> str:
        """Make the file at `path` the blob `key` and return its reference. The file may be moved away."""

    def publish_directory(self, source: Path, key: str) -> str:
        """Make the files in `source` (no folders below it) the blob `key` and return its reference. The folder may be moved away."""

    def fetch_file(self, blob: str) -> Path:
        """Return a local path of a file blob, or of one file `<blob>/<name>` of a directory blob. Not to be written to."""

    def fetch_directory(self, blob: str) -> Path:
        """Return a local folder with the files of a directory blob, complete. Not to be written to."""

    def delete(self, blob: str) -> None:
        """Remove a blob; one that is not there is fine."""

    def keys(self, folder: str) -> list[str]:
        """Return the keys that lie directly below `folder`, halves of blobs among them."""

    def age(self, blob: str) -> float:
        """Return for how many seconds nothing has been written to a blob or the half of one; 0 where there is neither."""

    def sweep(self, *, interrupted: float, unused: float) -> None:
        """Remove what interrupted writes left `interrupted` seconds ago, and local copies that nobody fetched for `unused` seconds."""


class LocalStorage:
    """Blobs below a folder of this machine; what is fetched is the blob itself."""

    def __init__(self, root: Path) -> None:
        """`root` is made when it is first written to."""
        self._root = root

    def publish_file(self, path: Path, key: str) -> str:
        """See Storage.publish_file."""
        with storage_errors(key):
            self._take(path, key, lambda aside: shutil.copyfile(path, aside))
        return key

    def publish_directory(self, source: Path, key: str) -> str:
        """See Storage.publish_directory."""
        with storage_errors(key):
            self._take(source, key, lambda aside: shutil.copytree(source, aside))
        return key

    def fetch_file(self, blob: str) -> Path:
        """See Storage.fetch_file."""
        return self._existing(blob)

    def fetch_directory(self, blob: str) -> Path:
        """See Storage.fetch_directory."""
        return self._existing(blob)

    def delete(self, blob: str) -> None:
        """See Storage.delete. Renamed first, so that a crash leaves no half of a blob under its name."""
        target = self._root / checked_key(blob)
        aside = self._root / f"{ASIDE}{os.urandom(8).hex()}"
        with storage_errors(blob):
            try:
                target.rename(aside)
            except FileNotFoundError:
                return
            _remove(aside)

    def keys(self, folder: str) -> list[str]:
        """See Storage.keys."""
        with storage_errors(folder):
            return [f"{folder}/{path.name}" for path in (self._root / folder).glob("*")]

    def age(self, blob: str) -> float:
        """See Storage.age."""
        with storage_errors(blob):
            return age_of(self._root / checked_key(blob))

    def sweep(self, *, interrupted: float, unused: float) -> None:  # noqa: ARG002 - what is fetched is the blob itself
        """See Storage.sweep."""
        with storage_errors("its folder"):
            remove_old(self._root.glob(f"{ASIDE}*"), interrupted)

    def _existing(self, blob: str) -> Path:
        path = self._root / checked_key(blob)
        if not path.exists():
            raise blob_missing(blob)
        return path

    def _take(self, source: Path, key: str, copy: Callable[[Path], object]) -> None:
        """Bring `source` to its place: by one rename where it lies on the same file system, else by a copy made beside it first."""
        target = self._root / checked_key(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.stat().st_dev == target.parent.stat().st_dev:
            _move(source, target)
        else:
            aside = self._root / f"{ASIDE}{os.urandom(8).hex()}"
            try:
                copy(aside)
                _move(aside, target)
            except OSError:
                _remove(aside)  # on a full disk it is room that the next one lacks
                raise
        for folder in (target.parent, *target.parent.parents):
            sync_folder(folder)
            if folder == self._root:
                break


def checked_key(key: str) -> str:
    """Return `key`. Raises ValueError unless it is a plain relative path: keys are made by this program, never by a client."""
    parts = key.split("/")
    if len(key) > _MAX_KEY or PurePosixPath(key).is_absolute() or any(part in ("", ".", "..") or part.startswith(ASIDE) for part in parts):
        raise ValueError(f"{key[:_MAX_KEY]!r} is no key of a blob")
    if not all(character.isascii() and (character.isalnum() or character in "-_./") for character in key):
        raise ValueError(f"{key!r} has characters that a key may not have")
    return key


LOST_CODES = ("blob_missing", "blob_damaged")  # of DependencyErrors that mean one blob, and not the storage


def blob_missing(blob: str) -> DependencyError:
    """Return the error for a reference that leads nowhere: the database knows a blob that the storage has lost."""
    return DependencyError(f"the storage has no {blob}", code="blob_missing", retry_after=60)


@contextlib.contextmanager
def storage_errors(what: str, *others: type[Exception]) -> Iterator[None]:
    """Turn OSErrors (and `others`, a client library's own) into StorageFullError and DependencyError."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFullError(f"the disk is full: {what} could not be written", retry_after=60) from error
        raise DependencyError(f"the storage failed at {what}: {error.strerror or type(error).__name__}") from error
    except others as error:
        raise DependencyError(f"the storage failed at {what}: {type(error).__name__}") from error


def make_durable(path: Path) -> None:
    """Flush a file, or the files of a folder and the folder itself, to the disk."""
    if path.is_dir():
        for inner in path.iterdir():
            make_durable(inner)
    sync_folder(path)


def sync_folder(path: Path) -> None:
    """Flush one file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def age_of(path: Path) -> float:
    """Return the seconds since a file, or a folder or one of its files, was written; 0 where there is none."""
    written = [found for found in map(_written_at, (path, *path.glob("*"))) if found is not None]
    return time.time() - max(written) if written else 0.0


def remove_old(paths: Iterable[Path], seconds: float) -> None:
    """Remove files and folders that nobody has written to for so long. Another process may do the same."""
    for path in paths:
        if age_of(path) > seconds:
            with contextlib.suppress(FileNotFoundError):
                _remove(path)


def new_scratch(prefix: str) -> Path:
    """Return a fresh local folder on the data directory's disk; whoever asked removes it. Raises StorageFullError, DependencyError."""
    folder = get_settings().scratch_dir
    with storage_errors("a scratch folder"):
        folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=folder))


@functools.cache
def get_storage() -> Storage:
    """Return the process's storage. Raises UnavailableError when the URL's library is not installed."""
    return _build(get_settings())


def _build(settings: Settings) -> Storage:
    url = settings.resolved_blob_url
    scheme, separator, path = url.partition("://")
    if not separator or scheme == "file":
        return LocalStorage(Path(path or scheme).absolute())
    from worker.storage_remote import RemoteStorage  # noqa: PLC0415 - fsspec is not paid for where blobs are local

    try:
        return RemoteStorage(url, settings.scratch_dir / "fetched")
    except ImportError as error:
        raise UnavailableError(
            f"storage at {scheme}:// needs a library that is not installed: {error.name or error}", hint="pip install 'synesthesia[s3]'"
        ) from error
    except ValueError as error:
        raise UnavailableError(f"storage at {scheme}:// is not known", hint="file:// and s3:// are") from error


def _move(path: Path, target: Path) -> None:
    """Make a file or folder durable and give it its name, on one file system."""
    os.utime(path)  # the age of a blob counts from here
    make_durable(path)
    if target.is_dir():  # an earlier start published the same key and died before its row was written
        shutil.rmtree(target)
    path.replace(target)


def _written_at(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
