import asyncio
import io
import json
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app import streaming
from app.client import Client
from app.streaming import ASK_POLLS, MAX_STREAMS, EventStreams, tar_chunks, tar_size
from worker.errors import OverloadedError
from worker.pages import Page


def event(number: int, status: str | None = None) -> dict[str, Any]:
    kind = "message" if status is None else "status"
    return {"id": f"evt_{number:012d}", "type": kind, "message": "x", "data": {} if status is None else {"status": status}}


class Feed:
    """A job's events as the database would give them: each fetch is one entry of `pages`, then nothing."""

    def __init__(self, *pages: list[dict[str, Any]], ended: bool = False) -> None:
        self.pages = list(pages)
        self.ended = ended
        self.asked_after: list[str | None] = []
        self.asked_ended = 0

    def fetch(self, after: str | None) -> Page:
        self.asked_after.append(after)
        return Page(self.pages.pop(0) if self.pages else [], has_more=False)

    def has_ended(self) -> bool:
        self.asked_ended += 1
        return self.ended


def read(feed: Feed, *, after: str | None = None, most: int = 1000) -> list[str]:
    async def run() -> list[str]:
        found: list[str] = []
        stream = EventStreams().follow(feed.fetch(after), after, feed.fetch, feed.has_ended)
        async for text in stream:
            found.append(text)
            if len(found) >= most:
                break
        await stream.aclose()  # type: ignore[attr-defined]  # a generator
        return found

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "POLL_SECONDS", 0.001)


def test_events_come_in_order_until_the_terminal_one() -> None:
    feed = Feed([event(1)], [], [event(2, "running")], [event(3, "succeeded"), event(4)])
    retry, *messages = read(feed)
    assert retry == "retry: 2000\n\n"
    assert [json.loads(message.split("data: ")[1])["id"] for message in messages] == [event(n)["id"] for n in (1, 2, 3)]
    assert feed.asked_after == [None, event(1)["id"], event(1)["id"], event(2)["id"]]


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_every_terminal_state_ends_it(status: str) -> None:
    assert len(read(Feed([event(1, status)]))) == 2


def test_other_states_do_not_end_it() -> None:
    assert len(read(Feed([event(1, "paused"), event(2, "queued")], [event(3, "failed")]))) == 4


def test_one_who_has_seen_the_end_is_let_go() -> None:
    feed = Feed([], ended=True)
    assert read(feed, after="evt_9") == ["retry: 2000\n\n"]
    assert feed.asked_ended == 1


def test_what_was_written_before_the_end_is_not_lost() -> None:
    """The job ends between an empty fetch and the question whether it has ended: one more fetch follows the question."""
    feed = Feed([], [event(1), event(2, "succeeded")], ended=True)
    assert len(read(feed)) == 3


def test_a_silent_job_is_asked_now_and_then_and_the_reader_hears_a_comment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "HEARTBEAT_POLLS", 3 * ASK_POLLS)
    feed = Feed()
    assert read(feed, most=2)[1] == ": still here\n\n"
    assert feed.asked_ended == 3


def test_a_full_page_is_followed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "POLL_SECONDS", 60.0)
    pages = [Page([event(1)], has_more=True), Page([event(2, "failed")], has_more=False)]
    began = time.monotonic()

    async def run() -> int:
        return len([text async for text in EventStreams().follow(pages[0], None, lambda _: pages[1], lambda: False)])

    assert asyncio.run(run()) == 3
    assert time.monotonic() - began < 5


def test_streams_are_counted_also_when_the_reader_leaves() -> None:
    streams = EventStreams()

    async def run() -> None:
        feed = Feed()
        open_streams = [streams.follow(feed.fetch(None), None, feed.fetch, feed.has_ended) for _ in range(MAX_STREAMS)]
        for stream in open_streams:
            await anext(stream)
        with pytest.raises(OverloadedError):
            streams.require_room()
        await open_streams[0].aclose()  # type: ignore[attr-defined]  # a generator
        streams.require_room()
        for stream in open_streams:
            await stream.aclose()  # type: ignore[attr-defined]  # a generator
        assert streams._open == 0

    asyncio.run(run())


def test_a_live_feed_over_http(live: tuple[str, int], make_dataset: Callable[..., str]) -> None:
    from worker.database import write
    from worker.lease import add_status

    with Client("http://{}:{}".format(*live)) as client:
        job = str(client.post("/jobs", {"dataset": make_dataset()})["id"])
        seen: list[str] = []
        for found in client.events(job):
            seen.append(found["data"]["status"])
            with write() as session:
                add_status(session, job, "running" if len(seen) == 1 else "succeeded", "x")
        assert seen == ["queued", "running", "succeeded"]
        middle = client.get(f"/jobs/{job}/events", limit=1)["last_id"]
        assert [found["data"]["status"] for found in client.events(job, after=middle)] == ["running", "succeeded"]


@pytest.mark.parametrize("sizes", [[], [0], [1], [511, 512, 513], [2**20, 2**20 + 1]])
def test_a_tar_is_whole_and_as_long_as_promised(tmp_path: Path, sizes: list[int]) -> None:
    files = []
    for number, size in enumerate(sizes):
        files.append(tmp_path / f"file{number}")
        files[-1].write_bytes(bytes([number + 1]) * size)
    content = b"".join(tar_chunks(files))
    assert len(content) == tar_size(files)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert {member.name: member.size for member in tar} == {path.name: path.stat().st_size for path in files}
        assert all(tar.extractfile(path.name).read() == path.read_bytes() for path in files)  # type: ignore[union-attr]  # regular files
