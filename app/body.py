"""The body of a request as the layers below receive it: counted against its limit, given up when it comes too slowly."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping

from starlette.types import Message, Receive

from app.errors import BodyTimeoutError, BodyTooLargeError, MalformedError, UnsupportedTypeError
from worker.settings import Settings

BODY_RATE = 50_000  # bytes a second that a body must reach on average after its first `body_seconds`
MULTIPART_ALLOWANCE = 64 * 1024  # bytes of boundaries, part headers and small fields around one file
SMALL_REST = 64 * 1024  # what a server has in its buffers anyway: no reason to close the connection
LINGER_BYTES = 256 * 1024  # of a refused body are read and dropped, so that the client gets to read the answer
LINGER_SECONDS = 1.0


# What may be larger than JSON, by method and address. Everything else is a description, and small.
_LARGE: Mapping[tuple[str, str], Callable[[Settings], int]] = {
    ("POST", "/datasets"): lambda settings: settings.max_archive_bytes + MULTIPART_ALLOWANCE,
    ("POST", "/models"): lambda settings: settings.max_archive_bytes + MULTIPART_ALLOWANCE,
    ("POST", "/predict"): lambda settings: settings.max_sound_bytes + MULTIPART_ALLOWANCE,
    ("POST", "/embeddings"): lambda settings: settings.max_sound_bytes + MULTIPART_ALLOWANCE,
    ("POST", "/spectrograms"): lambda settings: settings.max_sound_bytes + MULTIPART_ALLOWANCE,
    ("POST", "/explanations"): lambda settings: settings.max_sound_bytes + MULTIPART_ALLOWANCE,
    ("POST", "/predict/batch"): lambda settings: settings.max_batch_bytes + MULTIPART_ALLOWANCE,
}
_TENSORS = re.compile(r"/v2/models/[^/]+(?:/versions/[^/]+)?/infer")  # addresses with names in them


def body_limit(settings: Settings, method: str, path: str) -> int:
    """Return the most bytes that the body of such a request may have."""
    limit = _LARGE.get((method, path))
    if limit is not None:
        return limit(settings)
    if method == "POST" and _TENSORS.fullmatch(path):
        return settings.max_inference_bytes
    return settings.max_json_bytes


class GuardedBody:
    """An ASGI `receive` that raises BodyTooLargeError and BodyTimeoutError into whoever reads the body."""

    def __init__(self, receive: Receive, limit: int, grace_seconds: float, headers: Mapping[bytes, bytes]) -> None:
        """`limit` in bytes; the client may keep us waiting `grace_seconds` and a second more for every BODY_RATE bytes."""
        self._receive = receive
        self._limit = limit
        self._grace = grace_seconds
        self._headers = headers
        self._waited = 0.0  # seconds spent waiting for the client; our own slowness does not count
        self._size = 0
        self._unread = self._announced()
        self._complete = False

    @property
    def rest_is_large(self) -> bool:
        """Whether so much is still to come that the connection is better closed than read on."""
        return not self._complete and self._unread > SMALL_REST

    def judge(self) -> None:
        """Judge the body by its headers. Raises BodyTooLargeError, UnsupportedTypeError, MalformedError."""
        declared = self._headers.get(b"content-length")
        if declared is not None and not _is_length(declared):
            raise MalformedError("Content-Length is not a number of bytes", code="header_invalid")
        if self._unread > self._limit:
            raise self._too_large(self._unread)
        if self._headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise UnsupportedTypeError("compressed bodies are not taken", hint="send the body without Content-Encoding")

    async def __call__(self) -> Message:
        """Return the next ASGI message."""
        if self._complete:
            return await self._receive()  # waits for the client to leave
        message = await self._wait()
        self._count(message)
        if self._size > self._limit:
            raise self._too_large(self._size)
        return message

    async def drain(self) -> None:
        """Read and drop a little of what is left: a socket closed with unread bytes takes the answer with it (RFC 9112, 9.6)."""
        begun = self._size
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while not self._complete and self._size - begun < LINGER_BYTES:
                    self._count(await self._receive())
        except TimeoutError:
            return

    def _announced(self) -> int:
        """Return the bytes announced; the limit where a chunked body announces nothing."""
        declared = self._headers.get(b"content-length", b"")
        if _is_length(declared):
            return int(declared)
        return self._limit if b"transfer-encoding" in self._headers else 0

    def _count(self, message: Message) -> None:
        size = len(message.get("body", b""))
        self._size += size
        self._unread = max(0, self._unread - size)
        self._complete = message["type"] != "http.request" or not message.get("more_body", False)

    async def _wait(self) -> Message:
        allowed = self._grace + self._size / BODY_RATE
        began = time.monotonic()
        try:
            async with asyncio.timeout(max(allowed - self._waited, 0.0)):
                return await self._receive()
        except TimeoutError:
            raise BodyTimeoutError(
                f"only {self._size} bytes of the body came in {allowed:.1f} s",
                hint=f"a body may take {self._grace:g} s plus its size at {BODY_RATE // 1000} kB/s",
            ) from None
        finally:
            self._waited += time.monotonic() - began

    def _too_large(self, size: int) -> BodyTooLargeError:
        return BodyTooLargeError(
            f"the body has {size} bytes or more; this address takes {self._limit}", hint="GET /limits lists all limits"
        )


def _is_length(declared: bytes) -> bool:
    return declared.isdigit() and len(declared) < 20  # more digits are no length, and slow to convert
