"""Removes what nobody will ask for: blobs that no row names, halves of blobs, archives that could not be read, copies that are not used.

A blob is published before the transaction that names it, so a process that is killed between the two leaves one that nothing leads to.
It looks like one that is about to be named, so it has to be old, and to have been without a name at an earlier look too: a machine that
slept between the two moments, and not the process, is then no danger. What a row names is never touched.
"""

import itertools
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from worker.database import Dataset, Job, Model, db_now, read, write
from worker.disk import is_scarce
from worker.settings import Settings
from worker.storage import get_storage, remove_old

_FOLDERS = ("uploads", "datasets", "artifacts")
_OURS = re.compile(r"(?:ds|mdl)_([0-9a-z]{20})(?:-\d+)?")  # what follows the folder in a key; the group is the sortable part of the id
_SCRATCH = "import-*"  # folders of artifacts on their way in
_UNUSED_SECONDS = 24 * 3600.0  # a fetched copy that no start of a job has asked for since can be fetched again
_LOOKED_AT = 200  # keys one sweep looks at
_REMOVED = 20  # blobs one sweep removes at most: each is some requests to an object store
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Stray:
    """A blob, or the half of one, that no row names."""

    key: str
    seconds: float
    """for which nothing has been written to it"""
    due: bool
    """whether that is long enough for it to go"""


class Collector:
    """Goes through the storage little by little, again and again."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is looked at yet."""
        self._settings = settings
        self._keys: Iterator[str] = iter(())
        self._suspects: set[str] = set()  # without a name in the walk before
        self._seen: set[str] = set()  # without a name in this walk

    def sweep(self) -> None:
        """Do a bounded piece of the work, or all of it where the disk is nearly full.

        Raises what the storage raises: DependencyError, UnavailableError without its library.
        """
        self._drop_failed_uploads()
        found = nameless(self._next_keys())
        self._seen.update(found)
        for key in [key for key in found if key in self._suspects][:_REMOVED]:
            self._remove_if_old(key)
        longest = max(_UNUSED_SECONDS, self._settings.job_seconds)
        get_storage().sweep(interrupted=self._settings.stray_seconds, unused=longest + self._settings.stray_seconds)
        remove_old(self._settings.scratch_dir.glob(_SCRATCH), _UNUSED_SECONDS)
        if is_scarce(self._settings):
            collect(self._settings)

    def _drop_failed_uploads(self) -> None:
        """A dataset that failed fails with the same archive again, which may be large. The row stays, with its reason."""
        ended = select(Job.dataset_id).where(Job.state == "failed", Job.finished_at < db_now() - self._settings.stray_seconds)
        failed = select(Dataset.id, Dataset.upload).where(Dataset.status == "failed", Dataset.upload.is_not(None), Dataset.id.in_(ended))
        with write() as session:
            found = session.execute(failed.limit(_REMOVED)).all()
            session.execute(update(Dataset).where(Dataset.id.in_([dataset_id for dataset_id, _ in found])).values(upload=None))
        for dataset_id, upload in found:  # after the row: a stray file is better than a lost one
            get_storage().delete(str(upload))
            _log.info("failed_upload_dropped", dataset=dataset_id)

    def _next_keys(self) -> list[str]:
        found = list(itertools.islice(self._keys, _LOOKED_AT))
        if not found:  # a walk is over
            self._suspects, self._seen = self._seen, set()
            self._keys = _walk()
            found = list(itertools.islice(self._keys, _LOOKED_AT))
        return found

    def _remove_if_old(self, key: str) -> None:
        if get_storage().age(key) > self._settings.stray_seconds:
            _remove(key)


def strays(settings: Settings) -> list[Stray]:
    """Return every blob that no row names now, the young ones too. Raises what the storage raises."""
    found = []
    walk = _walk()
    while keys := list(itertools.islice(walk, _LOOKED_AT)):
        ages = {key: get_storage().age(key) for key in nameless(keys)}
        found += [Stray(key, age, age > settings.stray_seconds) for key, age in ages.items()]
    return found


def collect(settings: Settings, *, pause: float = 5.0) -> list[Stray]:
    """Remove all that is due at once; return it. Looks twice, `pause` seconds apart, for what a process is about to name."""
    due = [stray for stray in strays(settings) if stray.due]
    if due:
        time.sleep(pause)
    left = set(nameless([stray.key for stray in due]))
    for key in left:
        _remove(key)
    return [stray for stray in due if stray.key in left]


def nameless(keys: list[str]) -> list[str]:
    """Return the keys that no row names, as far as they are of this database's time.

    What is older than its first row was made for another database: one that this one was set up in place of, by a mistake perhaps.
    """
    with read() as session:
        first, named = _first_id(session), _named(session, keys)
    return [key for key in keys if key not in named and first is not None and _id_of(key) > first]


def _remove(key: str) -> None:
    get_storage().delete(key)
    _log.info("stray_blob_removed", blob=key)


def _walk() -> Iterator[str]:
    """Yield the keys that this program makes; what else lies there is somebody else's."""
    for folder in _FOLDERS:
        for key in get_storage().keys(folder):
            if _OURS.fullmatch(key.partition("/")[2]):
                yield key


def _id_of(key: str) -> str:
    found = _OURS.fullmatch(key.partition("/")[2])
    assert found is not None, "the walk leaves others out"
    return found[1]


def _named(session: Session, keys: list[str]) -> set[str]:
    columns = (
        select(Dataset.upload).where(Dataset.upload.in_(keys)),
        select(Dataset.blob).where(Dataset.blob.in_(keys)),
        select(Model.blob).where(Model.blob.in_(keys), Model.deleted_at.is_(None)),  # the row of a deleted model still tells where it was
    )
    return {blob for names in columns for blob in session.scalars(names) if blob is not None}


def _first_id(session: Session) -> str | None:
    """Return the sortable part of the database's first id; None where it is empty."""
    first = [session.scalar(select(func.min(table.id))) for table in (Dataset, Job, Model)]
    return min((found.partition("_")[2] for found in first if found is not None), default=None)
