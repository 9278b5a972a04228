"""Many sounds in one request: each its own answer or its own problem, in order, one after another beside single predictions."""

import asyncio
import collections
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import EXPECTED, translate
from app.hearing import Options
from app.lanes import Lanes
from app.predictors import Predictors
from app.uploads import Upload
from models.errors import DatasetError, MediaContentError, SynesthesiaError
from worker.archive_rules import Archive, refuse
from worker.archives import limits_of, open_archive
from worker.errors import OverloadedError
from worker.settings import Settings

MAX_BATCHES = 4  # at once in one process: half of its uploads, so that datasets still come in
MAX_BATCH_FILES = 1000  # answered in one piece, which is held in memory while the client waits; as a stream there may be more
# Between the tries of one sound while single predictions take all there is: some 6 s together, then the sound gets that problem.
_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
_REASONS = {
    "file_too_large": ("The file is larger than a sound may be.", "audio_too_large"),
    "file_damaged": ("The file is damaged in the archive.", "media_unreadable"),
}

Describe = Callable[[SynesthesiaError], dict[str, Any]]


@dataclass(frozen=True)
class File:
    """One file of a batch."""

    name: str | None
    content: bytes | SynesthesiaError
    """its bytes, or why there are none"""


class Batches:
    """The batches of one process."""

    def __init__(self, predictors: Predictors, lanes: Lanes) -> None:
        """None is running."""
        self._predictors = predictors
        self._lanes = lanes
        self._running = 0

    @contextlib.contextmanager
    def room(self) -> Iterator[None]:
        """Count a batch while the block runs. Raises OverloadedError above MAX_BATCHES."""
        if self._running >= MAX_BATCHES:
            raise OverloadedError(f"{self._running} batches are running, no more are taken at once", retry_after=10)
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    async def answers(
        self, files: Iterator[File], model: str, options: Options, describe: Describe
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield an answer a file, in order: a prediction, or an error whose `error` is what `describe` makes of it.

        A file is read when a lane is free for it, so memory holds as many as are being predicted, however many there are.
        """
        running: collections.deque[asyncio.Task[dict[str, Any]]] = collections.deque()
        index = 0
        try:
            while True:
                while running and (len(running) >= self._lanes.count or running[0].done()):
                    yield await running[0]
                    running.popleft()
                file = await self._next(files)
                if file is None:
                    break
                running.append(asyncio.create_task(self._answer(file, index, model, options, describe)))
                running[-1].add_done_callback(lambda _: self._lanes.give_back())  # also when it is cancelled before it begins
                index += 1
            while running:
                yield await running[0]
                running.popleft()
        finally:
            for task in running:
                task.cancel()

    async def _next(self, files: Iterator[File]) -> File | None:
        """Take a lane, and return the next file for it; without one the lane is free again."""
        file = None
        await self._lanes.take()
        try:
            file = await asyncio.to_thread(next, files, None)
        finally:
            if file is None:
                self._lanes.give_back()
        return file

    async def _answer(self, file: File, index: int, model: str, options: Options, describe: Describe) -> dict[str, Any]:
        place = {"name": file.name, "index": index}
        try:
            if isinstance(file.content, SynesthesiaError):
                raise file.content
            return {**await self._predict(model, file.content, options), **place}
        except EXPECTED as error:  # a dependency that fails is told for each file too
            return {"object": "error", **place, "error": describe(translate(error))}

    async def _predict(self, model: str, data: bytes, options: Options) -> dict[str, Any]:
        for pause in _PAUSES:
            try:
                return await self._predictors.predict(model, data, options)
            except OverloadedError:
                await asyncio.sleep(pause)
        return await self._predictors.predict(model, data, options)


def files_of(upload: Upload, archive_format: str | None, settings: Settings, most: int) -> Iterator[File]:
    """Return the files of a batch, read one by one; an archive is opened and its directory checked at once. Blocks.

    Raises DatasetError (archive_*), for more than `most` files too.
    """
    if archive_format is None:
        return _parts(upload.path, upload.names, upload.sizes, settings.max_sound_bytes)
    limits = dataclasses.replace(limits_of(settings), max_member_bytes=settings.max_sound_bytes)
    archive = open_archive(upload.path, archive_format, limits)
    if len(archive.members) > most:
        raise refuse(
            "archive_too_many_members", f"the archive holds {len(archive.members)} files, {most} are answered at once",
            hint="ask for Accept: text/event-stream or application/x-ndjson, which answer file by file",
        )  # fmt: skip
    return _members(archive)


def _parts(path: Path, names: tuple[str | None, ...], sizes: tuple[int, ...], largest: int) -> Iterator[File]:
    """Yield the files that lie one behind the other at `path`."""
    with path.open("rb") as source:
        for name, size in zip(names, sizes, strict=True):
            if size > largest:
                source.seek(size, 1)
                yield File(name, _unusable("file_too_large"))
            else:
                yield File(name, source.read(size))


def _members(archive: Archive) -> Iterator[File]:
    """Yield an archive's files; where it turns out to break a rule, what is left gets that problem."""
    left = collections.deque(member.name for member in archive.members)
    try:
        for content in archive.contents():
            name = left.popleft()
            yield File(name, content.data if content.reason is None else _unusable(content.reason))
    except DatasetError as error:
        for name in left:
            yield File(name, error)


def _unusable(reason: str) -> MediaContentError:
    message, code = _REASONS[reason]
    return MediaContentError(message, code=code)
