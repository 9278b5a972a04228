"""Brings a backup back: every file by its hash, the database last, so that a service never starts on half of one.

What the database names and the backup has lost is marked in it: datasets as failed, their unfinished jobs too, models as deleted.
"""

import json
import shutil
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from models.errors import InputError
from worker.backup import Progress, sqlite_path
from worker.backup_files import DATABASE, SINGLE, BackupManifest, Facts, Source, name_of
from worker.errors import ConflictError
from worker.migrate import newest_revision, upgrade
from worker.processes import HostLock
from worker.settings import Settings, get_settings
from worker.states import TERMINAL
from worker.storage import checked_key, get_storage, new_scratch, storage_errors, sync_folder

_REPLACED = "replaced"
_STALE = ("locks", "serve.json", "serve.lock")  # of processes that are gone


@dataclass(frozen=True)
class Restored:
    """What has been brought back."""

    blobs: int
    created_at: str
    """when the backup was made"""
    lost: list[str]
    """keys of blobs that the database names and that are missing or damaged"""
    datasets: list[str]
    """ids of those that failed for that"""
    models: list[str]
    """ids of those that were taken out for that"""


def restore(source: Path, progress: Progress, *, force: bool = False) -> Restored:
    """Bring a backup back into the data directory, which no service may use meanwhile.

    The directory has to be empty, unless `force`: then what is there is moved aside, into a folder below it. Raises ConflictError
    otherwise, InputError for what is no whole backup, UnavailableError for another database than SQLite, StorageFullError.
    """
    settings = get_settings()
    database = sqlite_path(settings)
    with Source.opened(source) as files:
        manifest = files.manifest()
        if manifest.revision > newest_revision():
            raise InputError(f"the backup is of a newer version (schema {manifest.revision}; this one has {newest_revision()})")
        _require_room(settings, force=force)
        lock = HostLock(settings.lock_dir, "keeper")  # held while any part of a service runs here
        if not lock.acquire():
            raise ConflictError(f"a service uses {settings.data_dir}; stop it first")
        try:
            if force:
                _move_aside(settings.data_dir)
            found = _bring_back(files, manifest, database, progress)
        finally:
            lock.release()
    upgrade()
    return found


def _require_room(settings: Settings, *, force: bool) -> None:
    if not force and settings.data_dir.exists() and _contents(settings.data_dir):
        raise ConflictError(f"{settings.data_dir} is not empty", hint="--force moves what is there aside")


def _contents(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.name not in _STALE and not path.name.startswith(f"{_REPLACED}-")]


def _move_aside(folder: Path) -> None:
    """Move all that lies in the data directory into a folder below it, to be removed by hand once nobody misses it."""
    found = _contents(folder)
    if found:
        aside = folder / f"{_REPLACED}-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 1000:03d}"
        aside.mkdir(mode=0o700)
        for path in found:
            path.rename(aside / path.name)


def _bring_back(files: Source, manifest: BackupManifest, database: Path, progress: Progress) -> Restored:
    scratch = new_scratch("restore")
    try:
        with storage_errors("the data directory"):
            copy = scratch / DATABASE
            if not files.copy(DATABASE, copy, manifest.database):
                raise InputError("the backup's database is missing or damaged: its hash is not the one it was saved with")
            blobs = _bring_blobs(files, manifest, scratch, progress)
            lost, datasets, models = _mark_lost(copy, set(blobs))
            database.parent.mkdir(parents=True, exist_ok=True)
            sync_folder(copy)
            shutil.move(copy, database)
            sync_folder(database.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Restored(len(blobs), manifest.created_at, lost, datasets, models)


def _bring_blobs(files: Source, manifest: BackupManifest, scratch: Path, progress: Progress) -> list[str]:
    """Publish every blob whose files are all what they were; return their keys."""
    whole = []
    for number, (key, expected) in enumerate(manifest.blobs.items(), 1):
        _check_key(key)
        path = scratch / "blob"
        if _copy_blob(files, key, expected, path):
            publish = get_storage().publish_file if SINGLE in expected else get_storage().publish_directory
            publish(path, key)
            whole.append(key)
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        progress(number, len(manifest.blobs))
    return whole


def _copy_blob(files: Source, key: str, expected: dict[str, Facts], path: Path) -> bool:
    """Copy a blob to `path`, a file or a folder; return whether it is whole."""
    if SINGLE in expected:
        return files.copy(name_of(key, SINGLE), path, expected[SINGLE])
    path.mkdir()
    return all(files.copy(name_of(key, name), path / name, facts) for name, facts in expected.items())


def _check_key(key: str) -> None:
    try:
        checked_key(key)
    except ValueError as error:
        raise InputError(f"the backup is not of this program: {error}") from error


def _mark_lost(copy: Path, whole: set[str]) -> tuple[list[str], list[str], list[str]]:
    """Mark in a database what is missing of what it names; return the blobs, and the ids of datasets and models."""
    with closing(sqlite3.connect(copy)) as connection:
        named = connection.execute(
            "SELECT 'dataset', id, blob FROM datasets WHERE blob IS NOT NULL UNION ALL "
            "SELECT 'dataset', id, upload FROM datasets WHERE upload IS NOT NULL UNION ALL "
            "SELECT 'model', id, blob FROM models WHERE deleted_at IS NULL"
        ).fetchall()
        gone = [(kind, row_id, blob) for kind, row_id, blob in named if blob not in whole]
        datasets = sorted({row_id for kind, row_id, _ in gone if kind == "dataset"})
        models = sorted({row_id for kind, row_id, _ in gone if kind == "model"})
        _fail_datasets(connection, datasets)
        connection.executemany("UPDATE models SET deleted_at = ? WHERE id = ?", [(time.time(), model) for model in models])
        connection.executemany("DELETE FROM aliases WHERE model_id = ?", [(model,) for model in models])
        connection.commit()
    return sorted(blob for _, _, blob in gone), datasets, models


def _fail_datasets(connection: sqlite3.Connection, datasets: Iterable[str]) -> None:
    """Let datasets be failed, and what has not ended of the jobs that would read them."""
    message = "its files are missing in the backup that the service was restored from"
    error = json.dumps({"code": "blob_missing", "message": message, "param": None})
    states = ", ".join(f"'{state}'" for state in TERMINAL)
    for dataset in datasets:
        change = "UPDATE datasets SET status = 'failed', blob = NULL, upload = NULL, error = ? WHERE id = ?"
        connection.execute(change, (error, dataset))
        jobs = connection.execute(f"SELECT id FROM jobs WHERE dataset_id = ? AND state NOT IN ({states})", (dataset,)).fetchall()  # noqa: S608 - our own names
        for (job,) in jobs:
            ended = "UPDATE jobs SET state = 'failed', owner = NULL, lease_until = NULL, finished_at = ?, error = ? WHERE id = ?"
            connection.execute(ended, (time.time(), error, job))
            event = "INSERT INTO events (job_id, created_at, level, type, message, data) VALUES (?, ?, 'error', 'status', ?, ?)"
            connection.execute(event, (job, time.time(), f"the dataset is lost: {message}", json.dumps({"status": "failed"})))
