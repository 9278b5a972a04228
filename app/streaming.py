"""Answers that are made while they are sent: a job's events as they happen, a model's files as one tar."""

import asyncio
import io
import json
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from worker.errors import OverloadedError
from worker.pages import Page
from worker.states import TERMINAL

EVENT_STREAM = "text/event-stream"
POLL_SECONDS = 0.3
ASK_POLLS = 10  # empty polls between two looks at the job itself, 3 s
HEARTBEAT_POLLS = 50  # empty polls between two comments, 15 s: proxies cut connections that are silent for 30 to 60 s
MAX_STREAMS = 200  # of one process: each asks the database three times a second
RETRY_MILLISECONDS = 2000  # a browser waits this long before it comes back with Last-Event-ID
_CHUNK_BYTES = 2**20
_AS_THEY_ARE: Mapping[str, bytes] = {}

Fetch = Callable[[str | None], Page]


class EventStreams:
    """Counts and writes the event streams of one process."""

    def __init__(self) -> None:
        """None is open yet."""
        self._open = 0

    def require_room(self) -> None:
        """Raise OverloadedError where another stream would be one too many."""
        if self._open >= MAX_STREAMS:
            raise OverloadedError(
                f"{self._open} event streams are open, no more are served", retry_after=30, hint="ask for the list of events instead"
            )

    async def follow(self, page: Page, after: str | None, fetch: Fetch, has_ended: Callable[[], bool]) -> AsyncIterator[str]:
        """Yield server-sent events until the job has ended; `page` is what `fetch(after)` gave.

        `fetch` returns the events after an id. `has_ended` tells whether the job is in a terminal state; it is asked when
        there is nothing new, for a reader who has the terminal event already.
        """
        self._open += 1
        try:
            async for text in _follow(page, after, fetch, has_ended):
                yield text
        finally:
            self._open -= 1


async def _follow(page: Page, after: str | None, fetch: Fetch, has_ended: Callable[[], bool]) -> AsyncIterator[str]:
    yield f"retry: {RETRY_MILLISECONDS}\n\n"
    empty_polls = 0
    ended = False
    while True:
        for event in page.data:
            after = event["id"]
            yield _as_text(event)
            if event["type"] == "status" and event["data"].get("status") in TERMINAL:
                return
        if ended and not page.data:
            return
        empty_polls = 0 if page.data else empty_polls + 1
        if empty_polls and empty_polls % HEARTBEAT_POLLS == 0:
            yield ": still here\n\n"
        if empty_polls % ASK_POLLS == 1:
            # Asked before the next fetch: what was written up to the end is then in that fetch.
            ended = await asyncio.to_thread(has_ended)
        if not ended and not page.has_more:
            await asyncio.sleep(POLL_SECONDS)
        page = await asyncio.to_thread(fetch, after)


def _as_text(event: dict[str, Any]) -> str:
    # The form of the HTML standard, 9.2.6. JSON has no raw line break, so one data line holds it.
    return f"id: {event['id']}\nevent: {event['type']}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n"


def tar_size(files: Sequence[Path], instead: Mapping[str, bytes] = _AS_THEY_ARE) -> int:
    """Return the bytes of `tar_chunks(files, instead)`."""
    return sum(tarfile.BLOCKSIZE + _padded(_size(path, instead)) for path in files) + 2 * tarfile.BLOCKSIZE


def tar_chunks(files: Sequence[Path], instead: Mapping[str, bytes] = _AS_THEY_ARE) -> Iterator[bytes]:
    """Yield an uncompressed tar of `files`, flat, without a copy on the disk; `instead` is the content of those that it names."""
    for path in files:
        entry = tarfile.TarInfo(path.name)
        entry.size, entry.mtime = _size(path, instead), int(path.stat().st_mtime)
        yield entry.tobuf(tarfile.USTAR_FORMAT)
        with io.BytesIO(instead[path.name]) if path.name in instead else path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
        yield b"\0" * (_padded(entry.size) - entry.size)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def _size(path: Path, instead: Mapping[str, bytes]) -> int:
    return len(instead[path.name]) if path.name in instead else path.stat().st_size


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
