"""What a client makes of answers and failures, without a connection: shared by app/client.py and app/async_client.py."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import httpx2

from app.media import archive_type

Json = dict[str, Any]
OnBytes = Callable[[int], None]

CHUNK_BYTES: Final = 256 * 1024
BUSY_SECONDS: Final = 30.0  # how long, in all, a service that says "later" is waited for
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 60.0
_BROKEN_SECONDS = (0.2, 0.5, 1.0)  # pauses after a broken connection; then it is given up
_CONNECT_PAUSE_SECONDS = 0.5
_LATER = (429, 503)

TIMEOUT: Final = httpx2.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS)
QUOTE_TIMEOUT: Final = httpx2.Timeout(90.0, connect=_CONNECT_SECONDS)  # the service itself gives up after a minute
# The service sends a comment every few seconds; silence for this long is a dead connection.
STREAM_TIMEOUT: Final = httpx2.Timeout(30.0, connect=_CONNECT_SECONDS)


class ClientError(Exception):
    """Base of what a client raises on purpose."""


class RefusedError(ClientError):
    """The service answered with a problem (RFC 9457)."""

    def __init__(self, status: int, problem: Json, retry_after: float | None = None) -> None:
        """`problem` has at least a title; `retry_after` is in seconds, where the service named a time."""
        super().__init__(f"{problem.get('title', 'Refused')}: {problem.get('detail', '')}")
        self.status = status
        self.problem = problem
        self.retry_after = retry_after


class UnreachableError(ClientError):
    """Nothing answers at the address, or the connection broke."""

    def __init__(self, url: str, reason: str) -> None:
        """`reason` is the transport's own sentence."""
        super().__init__(f"no answer from {url}: {reason}")
        self.url = url


class Patience:
    """How often one call is tried again: after broken connections, and when the service says that it will do it later."""

    def __init__(self, busy_seconds: float, connect_seconds: float) -> None:
        """In all, so long is waited for a service that is busy, and for one that takes no connection."""
        self._busy_seconds = busy_seconds
        self._connect_until = time.monotonic() + connect_seconds
        self._pauses = iter(_BROKEN_SECONDS)

    def pause_after(self, error: ClientError) -> float | None:
        """Return for how many seconds to wait before the next try, None when there is to be none."""
        if isinstance(error, RefusedError):
            return self._pause_while_busy(error)
        if isinstance(error.__cause__, httpx2.ConnectError):
            return _CONNECT_PAUSE_SECONDS if time.monotonic() < self._connect_until else None
        return next(self._pauses, None)

    def _pause_while_busy(self, error: RefusedError) -> float | None:
        if error.status not in _LATER or error.retry_after is None or error.retry_after > self._busy_seconds:
            return None
        self._busy_seconds -= error.retry_after
        return error.retry_after


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn the transport's errors into UnreachableError."""
    try:
        yield
    except (httpx2.TransportError, httpx2.InvalidURL) as error:
        raise UnreachableError(url, str(error) or type(error).__name__) from error


def headers_of(api_key: str | None) -> dict[str, str]:
    """Return what every request says."""
    key = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return {"Accept": "application/json", "User-Agent": "synesthesia-client", **key}


def new_key() -> dict[str, str]:
    """Return the header that makes it safe to send the same request again."""
    return {"Idempotency-Key": uuid.uuid4().hex}


def archive_headers(archive: Path) -> dict[str, str]:
    """Return the headers of an archive that is sent as a body. Raises ValueError for any other file."""
    return {"Content-Type": archive_type(archive), "Content-Length": str(archive.stat().st_size)}


def stream_headers(last: str | None) -> dict[str, str]:
    """Return the headers that ask for events as they happen, after the event `last`."""
    return {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}


def present(params: Mapping[str, Any]) -> Json:
    """Return what has been said: parameters that are not None."""
    return {name: value for name, value in params.items() if value is not None}


def pieces(source: IO[bytes], on_bytes: OnBytes) -> Iterator[bytes]:
    """Yield a file piece by piece; `on_bytes` hears the size of each once it has been taken."""
    while piece := source.read(CHUNK_BYTES):
        yield piece
        on_bytes(len(piece))


def body_of(response: httpx2.Response) -> Json:
    """Return an answer's body, which has been read. Raises RefusedError where it is a problem."""
    raise_for_problem(response)
    found: Json = response.json() if response.content else {}
    return found


def raise_for_problem(response: httpx2.Response) -> None:
    """Raise RefusedError unless an answer, which has been read, is a success."""
    if response.is_success:
        return
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"title": response.reason_phrase or "Refused", "detail": response.text[:200]}
    raise RefusedError(response.status_code, problem, _seconds(response.headers.get("Retry-After")))


def event_of(message: httpx2.ServerSentEvent) -> Json | None:
    """Return what a message of an event stream carries, None for one that carries nothing."""
    found: Json | None = json.loads(message.data) if message.data else None
    return found


class Sent:
    """Counts what a try has sent, so that a bar goes back to where it was when the try has failed."""

    def __init__(self, on_bytes: OnBytes) -> None:
        """`on_bytes` hears sizes, and a negative one when they are taken back."""
        self._on_bytes = on_bytes
        self._bytes = 0

    def add(self, size: int) -> None:
        """Count a piece."""
        self._bytes += size
        self._on_bytes(size)

    def take_back(self) -> None:
        """Begin anew."""
        if self._bytes:
            self._on_bytes(-self._bytes)
        self._bytes = 0


def _seconds(text: str | None) -> float | None:
    """Return the seconds of a `Retry-After`; the service writes no dates there."""
    return float(text) if text is not None and text.isdecimal() and text.isascii() else None
