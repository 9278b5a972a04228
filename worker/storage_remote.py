"""Blobs on an object store, through fsspec. Beside each blob `<key>` stands `<key>.seal`: its files' sizes and sha256, written last.

What is fetched is copied below a local folder, checked against the seal, and kept; a blob never changes under its key.
"""

import contextlib
import hashlib
import importlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import fsspec

from worker.errors import DependencyError
from worker.storage import ASIDE, blob_missing, checked_key, make_durable, remove_old, storage_errors

_SEAL = ".seal"
_APART = "single"  # folder of files that were fetched out of a folder: there, a folder need not be complete
_SINGLE = ""  # the seal's name for the one file of a file blob
_Seal = dict[str, dict[str, Any]]


class RemoteStorage:
    """See worker.storage.Storage; `cache` is the local folder of fetched copies."""

    def __init__(self, url: str, cache: Path) -> None:
        """Nothing is contacted yet. Raises ImportError without the URL's library, ValueError for a scheme that fsspec does not know."""
        self._fs, base = fsspec.core.url_to_fs(url)
        self._base = str(base).rstrip("/")
        self._cache = cache
        self._errors = _library_errors()

    def publish_file(self, path: Path, key: str) -> str:
        """See Storage.publish_file."""
        return self._publish({_SINGLE: path}, key)

    def publish_directory(self, source: Path, key: str) -> str:
        """See Storage.publish_directory."""
        return self._publish({path.name: path for path in sorted(source.iterdir())}, key)

    def fetch_file(self, blob: str) -> Path:
        """See Storage.fetch_file."""
        local = self._cache / checked_key(blob)
        if local.is_file():
            return _used(local)
        with storage_errors(blob, *self._errors):
            seal = self._read_seal(blob)
            if seal is not None:
                return self._fetch_single(blob, seal[_SINGLE], local)
            folder, _, name = blob.rpartition("/")
            seal = self._read_seal(folder) if folder else None
            if seal is None or name not in seal:
                raise blob_missing(blob)
            return self._fetch_single(blob, seal[name], self._cache / _APART / blob)

    def fetch_directory(self, blob: str) -> Path:
        """See Storage.fetch_directory."""
        local = self._cache / checked_key(blob)
        if local.is_dir():
            return _used(local)
        with storage_errors(blob, *self._errors):
            seal = self._read_seal(blob)
            if seal is None:
                raise blob_missing(blob)
            local.parent.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=self._cache))
            try:
                for name, facts in seal.items():
                    self._download(f"{blob}/{name}", facts, aside / name)
                make_durable(aside)
                with contextlib.suppress(OSError):  # another process was faster: its copy is as good
                    aside.rename(local)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        return local

    def delete(self, blob: str) -> None:
        """See Storage.delete. The seal goes first: without it the blob is not there."""
        with storage_errors(blob, *self._errors):
            for path in (self._path(checked_key(blob)) + _SEAL, self._path(blob)):
                with contextlib.suppress(FileNotFoundError):
                    self._fs.rm(path, recursive=True)
            for copy in (self._cache / blob, self._cache / _APART / blob):
                if copy.is_dir():
                    shutil.rmtree(copy, ignore_errors=True)
                copy.unlink(missing_ok=True)

    def keys(self, folder: str) -> list[str]:
        """See Storage.keys."""
        path = self._path(folder)
        with storage_errors(folder, *self._errors):
            self._fs.invalidate_cache(path)  # it keeps what it has listed once
            try:
                found = self._fs.ls(path, detail=False)
            except FileNotFoundError:
                return []
        names = {str(entry).rstrip("/").rpartition("/")[2].removesuffix(_SEAL) for entry in found}
        return [f"{folder}/{name}" for name in sorted(names) if name]

    def age(self, blob: str) -> float:
        """See Storage.age."""
        path = self._path(checked_key(blob))
        with storage_errors(blob, *self._errors):
            self._fs.invalidate_cache(path.rpartition("/")[0])
            files = [file for start in (path, path + _SEAL) for file in self._fs.find(start)]
            written = [self._fs.modified(file).timestamp() for file in files]
        return time.time() - max(written) if written else 0.0

    def sweep(self, *, interrupted: float, unused: float) -> None:
        """See Storage.sweep. What interrupted writes left on the object store itself are halves, which `keys` lists."""
        with storage_errors("the fetched copies"):
            remove_old(self._cache.glob(f"{ASIDE}*"), interrupted)
            for folder in self._cache.glob("[!.]*"):
                remove_old(folder.glob("*/*" if folder.name == _APART else "*"), unused)

    def _publish(self, files: dict[str, Path], key: str) -> str:
        checked_key(key)
        with storage_errors(key, *self._errors):
            seal: _Seal = {}
            for name, path in files.items():
                remote = self._path(f"{key}/{name}" if name else key)
                self._fs.makedirs(remote.rpartition("/")[0], exist_ok=True)
                self._fs.put_file(str(path), remote)
                seal[name] = {"size": path.stat().st_size, "sha256": _sha256(path)}
            self._fs.pipe_file(self._path(key) + _SEAL, json.dumps(seal).encode())
        return key

    def _read_seal(self, blob: str) -> _Seal | None:
        try:
            return dict(json.loads(self._fs.cat_file(self._path(blob) + _SEAL)))
        except FileNotFoundError:
            return None

    def _fetch_single(self, blob: str, facts: dict[str, Any], local: Path) -> Path:
        if local.is_file():
            return _used(local)
        local.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=self._cache))
        try:
            self._download(blob, facts, aside / "file")
            (aside / "file").replace(local)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return local

    def _download(self, key: str, facts: dict[str, Any], local: Path) -> None:
        try:
            self._fs.get_file(self._path(key), str(local))
        except FileNotFoundError as error:
            raise blob_missing(key) from error
        if local.stat().st_size != facts["size"] or _sha256(local) != facts["sha256"]:
            raise DependencyError(f"the storage gave {key} with other bytes than were put there", code="blob_damaged")

    def _path(self, key: str) -> str:
        return f"{self._base}/{key}"


def _used(local: Path) -> Path:
    """Return a fetched copy, which counts as new from now on. Raises FileNotFoundError where it has just been swept away."""
    os.utime(local)
    return local


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _library_errors() -> tuple[type[Exception], ...]:
    """Return the roots of what an S3 client raises beside OSErrors, where one is installed."""
    try:
        errors = importlib.import_module("botocore.exceptions")
    except ImportError:
        return ()
    return errors.BotoCoreError, errors.ClientError
