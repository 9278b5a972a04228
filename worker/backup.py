"""Saves a service while it runs: a copy of the database, and every blob that this copy names, hashed as it is copied.

Blobs never change once they are published, so the database comes first and the blobs after it. Those that are deleted in between
are missing then, rightly: a second, newer copy of the database names them no more, and takes the place of the first.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from models.errors import UnavailableError
from worker.backup_files import DATABASE, FORMAT, SINGLE, BackupManifest, Facts, Sink, finished_at, name_of, write_manifest
from worker.database import now, read
from worker.errors import ConflictError, DependencyError
from worker.pages import rfc3339
from worker.settings import Settings, get_settings
from worker.storage import LOST_CODES, get_storage, new_scratch, storage_errors

Progress = Callable[[int, int | None], None]
"""Takes how many blobs are done, and of how many"""
_ROUNDS = 5  # copies of the database, while others go on deleting
_NAMED = (
    "SELECT upload, sha256, '' FROM datasets WHERE upload IS NOT NULL",
    "SELECT blob, NULL, NULL FROM datasets WHERE blob IS NOT NULL",
    "SELECT blob, sha256, 'model.safetensors' FROM models WHERE deleted_at IS NULL",
)


@dataclass(frozen=True)
class BackedUp:
    """What has been saved."""

    blobs: int
    size_bytes: int
    lost: dict[str, str]
    """key of a blob that the database names → why it could not be saved"""


@dataclass(frozen=True)
class _Named:
    """A blob as the database knows it."""

    key: str
    sha256: str | None
    """of one of its files, where the database keeps it"""
    file: str | None
    """the name of that file"""


def back_up(target: Path, progress: Progress) -> BackedUp:
    """Save everything to `target`: one tar where its name ends in .tar, else a folder. The service goes on meanwhile.

    Raises ConflictError where `target` exists, UnavailableError for another database than SQLite, StorageFullError, DependencyError.
    """
    database = sqlite_path(get_settings())
    if target.exists():
        raise ConflictError(f"{target} exists; a backup overwrites nothing")
    scratch = new_scratch("backup")
    try:
        with storage_errors(target.name), finished_at(target) as sink:
            copy = scratch / DATABASE
            saved, lost = _save_blobs(database, copy, sink, progress)
            facts = sink.add(copy, DATABASE)
            with read() as session:
                made = rfc3339(now(session)) or ""
            manifest = BackupManifest(format=FORMAT, created_at=made, revision=_revision_of(copy), database=facts, blobs=saved)
            write_manifest(sink, manifest, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    size = facts.size + sum(facts.size for files in saved.values() for facts in files.values())
    return BackedUp(len(saved), size, lost)


def sqlite_path(settings: Settings) -> Path:
    """Return the database's file. Raises UnavailableError where it is none."""
    scheme, _, path = settings.resolved_database_url.partition(":///")
    if not scheme.startswith("sqlite") or not path:
        raise UnavailableError(
            "only an SQLite database is saved and restored by this command",
            hint="for Postgres: pg_dump --format custom, and then the blobs; docs/operations.md tells how",
        )
    return Path(path)


def _save_blobs(database: Path, copy: Path, sink: Sink, progress: Progress) -> tuple[dict[str, dict[str, Facts]], dict[str, str]]:
    """Copy the database and what it names until both agree; return what was saved, and what is lost."""
    saved: dict[str, dict[str, Facts]] = {}
    lost: dict[str, str] = {}
    for _ in range(_ROUNDS):
        _copy_database(database, copy)
        named = _named_in(copy)
        before = set(lost)
        lost = _add_blobs([blob for blob in named if blob.key not in saved], saved, sink, progress)
        if lost.keys() <= before:  # nothing, or what a newer copy names still: that is really lost
            break
    keys = {blob.key for blob in named}
    return {key: files for key, files in saved.items() if key in keys}, lost


def _add_blobs(blobs: list[_Named], saved: dict[str, dict[str, Facts]], sink: Sink, progress: Progress) -> dict[str, str]:
    """Copy blobs into the backup, and into `saved`; return those that can't be had, each with the reason."""
    lost: dict[str, str] = {}
    of = len(saved) + len(blobs)
    progress(len(saved), of)
    for blob in blobs:
        try:
            files = {name: sink.add(path, name_of(blob.key, name)) for name, path in _files_of(blob.key)}
        except (DependencyError, FileNotFoundError) as error:
            if isinstance(error, DependencyError) and error.code not in LOST_CODES:
                raise
            lost[blob.key] = "missing"
            continue
        if blob.file is not None and (blob.file not in files or files[blob.file].sha256 != blob.sha256):
            lost[blob.key] = "damaged"
            continue
        saved[blob.key] = files
        progress(len(saved) + len(lost), of)
    return lost


def _files_of(key: str) -> Iterable[tuple[str, Path]]:
    """Return name and place of each file of a blob."""
    if key.startswith("uploads/"):
        return [(SINGLE, get_storage().fetch_file(key))]
    return [(path.name, path) for path in sorted(get_storage().fetch_directory(key).iterdir())]


def _copy_database(database: Path, copy: Path) -> None:
    """Copy the database as of one moment; writers are not held up. The copy is one file, without a log beside it."""
    copy.unlink(missing_ok=True)
    with closing(sqlite3.connect(database, timeout=30)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")
        if target.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
            raise DependencyError("the database is damaged: its copy does not pass the integrity check")


def _named_in(copy: Path) -> list[_Named]:
    with closing(sqlite3.connect(copy)) as connection:
        return [_Named(*row) for query in _NAMED for row in connection.execute(query)]


def _revision_of(copy: Path) -> str:
    with closing(sqlite3.connect(copy)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])
