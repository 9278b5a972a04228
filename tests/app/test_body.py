import asyncio
import time
from collections.abc import Iterable

import pytest
from starlette.types import Message, Receive

from app.body import LINGER_BYTES, MULTIPART_ALLOWANCE, SMALL_REST, GuardedBody, body_limit
from app.errors import BodyTimeoutError, BodyTooLargeError, MalformedError, RequestError, UnsupportedTypeError
from worker.settings import Settings


def receive_of(chunks: Iterable[bytes], *, pause: float = 0.0, ends: bool = True) -> Receive:
    pending = iter(chunks)

    async def receive() -> Message:
        await asyncio.sleep(pause)
        chunk = next(pending, None)
        if chunk is None and not ends:
            await asyncio.Event().wait()  # a client that is silent for ever
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    return receive


async def read_all(body: GuardedBody) -> bytes:
    found = b""
    while True:
        message = await body()
        found += message["body"]
        if not message["more_body"]:
            return found


@pytest.mark.parametrize(
    ("method", "path", "setting", "allowance"),
    [
        ("POST", "/datasets", "max_archive_bytes", MULTIPART_ALLOWANCE),
        ("POST", "/models", "max_archive_bytes", MULTIPART_ALLOWANCE),
        ("POST", "/predict", "max_sound_bytes", MULTIPART_ALLOWANCE),
        ("POST", "/embeddings", "max_sound_bytes", MULTIPART_ALLOWANCE),
        ("POST", "/predict/batch", "max_batch_bytes", MULTIPART_ALLOWANCE),
        ("POST", "/v2/models/digits/infer", "max_inference_bytes", 0),
        ("POST", "/v2/models/digits/versions/1/infer", "max_inference_bytes", 0),
        ("POST", "/v2/models/digits/ready", "max_json_bytes", 0),
        ("POST", "/v2/models/a/b/infer", "max_json_bytes", 0),
        ("GET", "/v2/models/digits/infer", "max_json_bytes", 0),
        ("POST", "/jobs", "max_json_bytes", 0),
        ("PUT", "/aliases/x", "max_json_bytes", 0),
        ("GET", "/datasets", "max_json_bytes", 0),
        ("PUT", "/datasets", "max_json_bytes", 0),
        ("POST", "/nowhere", "max_json_bytes", 0),
    ],
)
def test_only_uploads_may_be_large(method: str, path: str, setting: str, allowance: int) -> None:
    settings = Settings()
    assert body_limit(settings, method, path) == getattr(settings, setting) + allowance


def test_a_body_up_to_the_limit_passes_and_one_byte_more_is_refused() -> None:
    assert asyncio.run(read_all(GuardedBody(receive_of([b"12345", b"67890"]), 10, 5.0, {}))) == b"1234567890"
    with pytest.raises(BodyTooLargeError, match="11 bytes or more"):
        asyncio.run(read_all(GuardedBody(receive_of([b"12345", b"678901"]), 10, 5.0, {})))


@pytest.mark.parametrize(
    ("headers", "refusal"),
    [
        ({}, None),
        ({b"content-length": b"0"}, None),
        ({b"content-length": b"10"}, None),
        ({b"content-length": b"11"}, BodyTooLargeError),
        ({b"content-length": b"9" * 19}, BodyTooLargeError),
        ({b"content-length": b"1" * 5000}, MalformedError),
        ({b"content-length": b"-1"}, MalformedError),
        ({b"content-length": b"+1"}, MalformedError),
        ({b"content-length": b"1e3"}, MalformedError),
        ({b"content-length": b""}, MalformedError),
        ({b"content-length": "٣".encode()}, MalformedError),
        ({b"transfer-encoding": b"chunked"}, None),
        ({b"content-length": b"3", b"content-encoding": b"Identity"}, None),
        ({b"content-length": b"3", b"content-encoding": b"gzip"}, UnsupportedTypeError),
    ],
)
def test_headers_are_judged_before_the_body_is_read(headers: dict[bytes, bytes], refusal: type[RequestError] | None) -> None:
    async def never() -> Message:
        raise AssertionError("the body was read")

    body = GuardedBody(never, 10, 5.0, headers)
    if refusal is None:
        body.judge()
    else:
        with pytest.raises(refusal):
            body.judge()


def test_a_silent_client_is_given_up() -> None:
    began = time.monotonic()
    with pytest.raises(BodyTimeoutError, match="only 2 bytes"):
        asyncio.run(read_all(GuardedBody(receive_of([b"ab"], ends=False), 10, 0.1, {})))
    assert 0.05 < time.monotonic() - began < 2.0


def test_a_trickle_is_given_up_although_each_byte_comes_in_time() -> None:
    with pytest.raises(BodyTimeoutError):
        asyncio.run(read_all(GuardedBody(receive_of([b"x"] * 1000, pause=0.02), 10**6, 0.2, {})))


def test_a_large_body_has_more_time() -> None:
    # 40 kB bring 0.8 s beyond the grace of 0.1 s; the eight pauses take 0.2 s together.
    assert len(asyncio.run(read_all(GuardedBody(receive_of([b"x" * 5000] * 8, pause=0.025), 10**6, 0.1, {})))) == 40_000


def test_the_service_s_own_slowness_does_not_count() -> None:
    async def slow_reader() -> bytes:
        body = GuardedBody(receive_of([b"ab", b"cd"]), 10, 0.1, {})
        first = (await body())["body"]
        await asyncio.sleep(0.2)
        return first + await read_all(body)

    assert asyncio.run(slow_reader()) == b"abcd"


def test_the_rest_is_large_until_it_has_come() -> None:
    async def story() -> list[bool]:
        body = GuardedBody(receive_of([b"x" * SMALL_REST] * 2), 10**6, 5.0, {b"content-length": str(2 * SMALL_REST).encode()})
        seen = [body.rest_is_large]
        await body()
        seen.append(body.rest_is_large)
        await read_all(body)
        return [*seen, body.rest_is_large]

    assert asyncio.run(story()) == [True, False, False]


def test_a_chunked_body_counts_as_large_until_it_ends() -> None:
    body = GuardedBody(receive_of([]), 10**6, 5.0, {b"transfer-encoding": b"chunked"})
    assert body.rest_is_large
    asyncio.run(read_all(body))
    assert not body.rest_is_large


def test_draining_ends_with_enough_bytes_or_enough_time() -> None:
    received: list[int] = []

    async def endless() -> Message:
        received.append(65536)
        return {"type": "http.request", "body": b"x" * 65536, "more_body": True}

    asyncio.run(GuardedBody(endless, 10, 5.0, {}).drain())
    assert sum(received) == LINGER_BYTES
    began = time.monotonic()
    asyncio.run(GuardedBody(receive_of([], ends=False), 10, 5.0, {}).drain())
    assert 0.9 < time.monotonic() - began < 3.0
