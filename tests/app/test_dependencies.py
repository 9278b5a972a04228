import asyncio
from pathlib import Path

import pytest
from starlette.requests import Request

from app.admission import OPEN
from app.dependencies import caller_of, require_disk, wants_events
from app.errors import NotAcceptableError
from worker.errors import StorageFullError
from worker.keys import Caller
from worker.settings import Settings


def request_with(**headers: str) -> Request:
    return Request({"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]})


@pytest.mark.parametrize(
    ("accept", "events"),
    [
        (None, False),
        ("*/*", False),
        ("application/json", False),
        ("application/*;q=0.5", False),
        ("text/event-stream", True),
        ("application/json, text/event-stream", True),
        (" TEXT/EVENT-STREAM ; q=1", True),
    ],
)
def test_who_wants_events(accept: str | None, events: bool) -> None:
    assert asyncio.run(wants_events(request_with(**({"accept": accept} if accept else {})))) is events


@pytest.mark.parametrize("accept", ["text/html", "text/*", "", ",", "event-stream"])
def test_other_types_can_t_be_made(accept: str) -> None:
    with pytest.raises(NotAcceptableError):
        asyncio.run(wants_events(request_with(accept=accept)))


def test_room_is_kept_for_running_jobs(tmp_path: Path) -> None:
    asyncio.run(require_disk(Settings(data_dir=tmp_path, min_free_fraction=0.0)))
    with pytest.raises(StorageFullError) as caught:
        asyncio.run(require_disk(Settings(data_dir=tmp_path, min_free_fraction=1.0)))
    assert caught.value.retry_after == 60
    assert str(tmp_path) not in caught.value.message


def test_the_caller_is_who_the_gate_found() -> None:
    assert caller_of(Request({"type": "http", "caller": OPEN})) == "open"
    assert caller_of(Request({"type": "http", "caller": Caller.of("key_1", "read", "ann")})) == "key_1"
