"""Many clients at once: predictions in a hurry, uploads that trickle, a stranger's endless upload, and one who asks for health."""

import asyncio
import contextlib
import json
import sys
import time
from urllib.parse import urlsplit

import httpx2

from tests.faults.invariants import Answers

_GIB2 = 2 * 2**30
_UPLOAD = "POST /datasets?name=big HTTP/1.1\r\nHost: x\r\nContent-Type: application/zip\r\n"
_PIECE = b"\0" * 65536
_TRICKLE_SECONDS = 0.5
_PROBE_SECONDS = 0.02


async def predict(url: str, key: str, sound: bytes, answers: Answers, end: float) -> None:
    """Ask for one prediction after another until `end` (time.monotonic)."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "audio/wav"}
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
        while time.monotonic() < end:
            answer = await client.post("/predict", content=sound, headers=headers)
            answers.take("predict", answer.status_code, answer.headers, answer.content)
            if answer.status_code == 503:
                await asyncio.sleep(float(answer.headers["retry-after"]))


async def trickle(url: str, key: str, answers: Answers, end: float) -> None:
    """Send an upload a byte at a time until it is refused or `end` has come."""
    head = f"{_UPLOAD}Authorization: Bearer {key}\r\nContent-Length: 1000000\r\n\r\n"
    reader, writer = await _connect(url)
    with contextlib.suppress(ConnectionError):
        writer.write(head.encode() + b"PK\x03\x04")
        answer = asyncio.create_task(_read_answer(reader))
        while time.monotonic() < end and not answer.done():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(_TRICKLE_SECONDS)
        if answer.done() and (found := answer.result()) is not None:
            answers.take("slow upload", *found)
        answer.cancel()
    writer.close()


async def stranger(url: str, answers: Answers) -> int:
    """Send 2 GB without a key; return how many bytes were taken before the connection was closed."""
    reader, writer = await _connect(url)
    sent = 0
    answer = asyncio.create_task(_read_answer(reader))
    with contextlib.suppress(ConnectionError):
        writer.write(f"{_UPLOAD}Content-Length: {_GIB2}\r\n\r\n".encode())
        while sent < _GIB2 and not answer.done():
            writer.write(_PIECE)
            await writer.drain()
            sent += len(_PIECE)
    found = await asyncio.wait_for(answer, 30)
    if found is not None:
        answers.take("stranger", *found)
    writer.close()
    return sent


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes] | None:
    """Read one answer; None where the connection ends without."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        return int(head[0].split()[1]), headers, await reader.readexactly(int(headers.get("content-length", "0")))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def probe(url: str, seconds: float) -> None:
    """Ask for health again and again, from a process of its own; print the latencies in milliseconds."""
    latencies: list[float] = []
    end = time.monotonic() + seconds
    with httpx2.Client(base_url=url, timeout=10) as client:
        while time.monotonic() < end:
            began = time.perf_counter()
            assert client.get("/healthz").status_code == 200
            latencies.append((time.perf_counter() - began) * 1000)
            time.sleep(_PROBE_SECONDS)
    print(json.dumps(latencies))  # noqa: T201 - a program's output


if __name__ == "__main__":
    probe(sys.argv[1], float(sys.argv[2]))
