"""What a backup consists of, and where it lies: a folder, or one tar. The manifest is written last: what has none is not whole."""

import contextlib
import hashlib
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from models.errors import InputError
from worker.storage import make_durable, sync_folder

FORMAT = 1
DATABASE = "synesthesia.db"
SINGLE = ""  # the name of the one file of a blob that is no folder
_MANIFEST = "backup.json"
_BLOBS = "blobs"
_TAR = ".tar"
_MAX_MANIFEST = 2**30  # bytes; a file of a dataset or model takes some 120
_CHUNK = 2**20


class Facts(BaseModel):
    """By which a file is known again."""

    model_config = ConfigDict(frozen=True)

    size: int
    """bytes"""
    sha256: str


class BackupManifest(BaseModel):
    """What a backup holds."""

    model_config = ConfigDict(frozen=True)

    format: int
    created_at: str
    revision: str
    """of the database's schema"""
    database: Facts
    blobs: dict[str, dict[str, Facts]]
    """key → name of a file → what it is known by"""


class Sink(Protocol):
    """Takes the files of a backup."""

    def add(self, path: Path, name: str) -> Facts:
        """Copy a file under a name and return what it was while it was copied."""


class FolderSink:
    """A folder."""

    def __init__(self, root: Path) -> None:
        """Make the folder, for its owner alone: it will hold hashes of keys and what people have said."""
        root.mkdir(mode=0o700, parents=True)
        self._root = root

    def add(self, path: Path, name: str) -> Facts:
        """See Sink.add."""
        target = self._root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as source, target.open("wb") as sink:
            hashing = HashingReader(source)
            shutil.copyfileobj(hashing, sink, _CHUNK)
        sync_folder(target)
        return hashing.facts


class TarSink:
    """One tar."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        """`tar` is open for writing."""
        self._tar = tar

    def add(self, path: Path, name: str) -> Facts:
        """See Sink.add."""
        with path.open("rb") as source:
            info = self._tar.gettarinfo(arcname=name, fileobj=source)
            hashing = HashingReader(source)
            self._tar.addfile(info, hashing)
        return hashing.facts


class HashingReader:
    """Reads a file, and knows afterwards what has been read."""

    def __init__(self, source: IO[bytes]) -> None:
        """Nothing is read yet."""
        self._source = source
        self._hash = hashlib.sha256()
        self._size = 0

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        piece = self._source.read(size)
        self._hash.update(piece)
        self._size += len(piece)
        return piece

    @property
    def facts(self) -> Facts:
        """What has been read up to now."""
        return Facts(size=self._size, sha256=self._hash.hexdigest())


class Source:
    """The files of a backup, one by one; nothing but what is asked for is ever unpacked."""

    def __init__(self, root: Path, tar: tarfile.TarFile | None) -> None:
        """`tar` is the open one at `root`, where that is no folder."""
        self._root = root
        self._tar = tar

    @classmethod
    @contextlib.contextmanager
    def opened(cls, path: Path) -> Iterator[Self]:
        """Open a backup. Raises InputError for what is none."""
        if path.is_dir():
            yield cls(path, None)
            return
        try:
            tar = tarfile.open(path, "r:")  # noqa: SIM115 - closed below; the block must not lend its errors to the caller's
        except tarfile.TarError as error:
            raise InputError(f"{path} is neither a folder nor a tar") from error
        with tar:
            yield cls(path, tar)

    def manifest(self) -> BackupManifest:
        """Return what the backup holds. Raises InputError where it was not finished, or is not of this program."""
        try:
            with self._open(_MANIFEST) as file:
                found = BackupManifest.model_validate_json(file.read(_MAX_MANIFEST))
        except FileNotFoundError as error:
            raise InputError(f"{self._root} holds no {_MANIFEST}: it is no backup, or one that was not finished") from error
        except ValidationError as error:
            raise InputError(f"{_MANIFEST} of {self._root} can't be read: {error.errors()[0]['msg']}") from error
        if found.format != FORMAT:
            raise InputError(f"the backup has format {found.format}; this version reads {FORMAT}")
        return found

    def copy(self, name: str, target: Path, facts: Facts) -> bool:
        """Copy a file out; return whether it is there and what it was when it was saved."""
        try:
            with self._open(name) as source, target.open("wb") as sink:
                hashing = HashingReader(source)
                while hashing.facts.size <= facts.size and (piece := hashing.read(_CHUNK)):
                    sink.write(piece)
        except FileNotFoundError:
            return False
        return hashing.facts == facts

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[IO[bytes]]:
        """Open one file for reading. Raises FileNotFoundError; a link or device of that name counts as missing."""
        path = self._root / name
        if self._tar is None:
            if path.is_symlink() or not path.is_file():
                raise FileNotFoundError(name)
            with path.open("rb") as file:
                yield file
            return
        try:
            member = self._tar.getmember(name)
        except (KeyError, tarfile.TarError):
            member = None
        file_of = self._tar.extractfile(member) if member is not None and member.isreg() else None
        if file_of is None:
            raise FileNotFoundError(name)
        with file_of:
            yield file_of


@contextlib.contextmanager
def finished_at(target: Path) -> Iterator[Sink]:
    """Collect a backup that bears its name once it is whole; of one that breaks off nothing stays."""
    draft = target.with_name(f"{target.name}.part")
    discard(draft)
    try:
        if target.suffix == _TAR:
            draft.touch(mode=0o600)
            with tarfile.open(draft, "w", format=tarfile.PAX_FORMAT) as tar:
                yield TarSink(tar)
        else:
            yield FolderSink(draft)
        make_durable(draft)
        draft.rename(target)
        sync_folder(target.absolute().parent)
    finally:
        discard(draft)


def write_manifest(sink: Sink, manifest: BackupManifest, scratch: Path) -> None:
    """Add the manifest, which makes a backup whole."""
    path = scratch / _MANIFEST
    path.write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
    sink.add(path, _MANIFEST)


def name_of(key: str, file: str) -> str:
    """Return the name in a backup of one file of a blob. Raises InputError unless it is a plain name: a backup may come from anywhere."""
    if file != SINGLE and (file != PurePosixPath(file).name or file in (".", "..") or "\0" in file):
        raise InputError(f"the backup names a file {file[:100]!r}, which can't be one of a blob")
    return f"{_BLOBS}/{key}/{file}" if file != SINGLE else f"{_BLOBS}/{key}"


def discard(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
