"""The client of app/client.py for programs that await: the same methods, retries and errors."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import httpx2

from app.calls import (
    BUSY_SECONDS,
    CHUNK_BYTES,
    QUOTE_TIMEOUT,
    STREAM_TIMEOUT,
    TIMEOUT,
    Json,
    OnBytes,
    Patience,
    RefusedError,
    Sent,
    UnreachableError,
    archive_headers,
    body_of,
    event_of,
    headers_of,
    new_key,
    pieces,
    present,
    raise_for_problem,
    stream_headers,
    translated,
)
from app.client import is_end
from app.client_types import Dataset, Evaluation, Job, JobSpec, Model, Prediction
from app.environment import DEFAULT_URL
from worker.states import TERMINAL

T = TypeVar("T")
_RETRY_SECONDS = 0.2
_RETRY_FOR_SECONDS = 60.0


class AsyncClient:
    """One connection pool to one service, in one event loop. Every method raises RefusedError and UnreachableError."""

    def __init__(
        self, url: str = DEFAULT_URL, api_key: str | None = None, *, busy_seconds: float = BUSY_SECONDS, connect_seconds: float = 0.0
    ) -> None:
        """As app.client.Client takes them."""
        self.url = url.rstrip("/")
        self._waits = (busy_seconds, connect_seconds)
        with translated(self.url):
            self._http = httpx2.AsyncClient(base_url=self.url, headers=headers_of(api_key), timeout=TIMEOUT)

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def get(self, path: str, **params: Any) -> Json:
        """Return one resource."""
        return await self._send("GET", path, params=present(params))

    async def post(self, path: str, body: Json | None = None, **params: Any) -> Json:
        """Create or change something. The idempotency key makes a second try after a broken connection safe."""
        return await self._send("POST", path, params=present(params), json=body, headers=new_key())

    async def pages(self, path: str, *, limit: int | None = None, **params: Any) -> AsyncIterator[Json]:
        """Yield a list's rows in its order, at most `limit` of them, fetched page by page."""
        left = limit if limit is not None else -1
        after: str | None = None
        while left:
            page = await self.get(path, limit=min(left, 100) if left > 0 else 100, after=after, **params)
            for row in page["data"]:
                yield row
            left -= len(page["data"])
            after = page.get("last_id")
            if not page.get("has_more"):
                return

    async def dataset(self, dataset_id: str) -> Dataset:
        """Return a dataset."""
        return cast("Dataset", await self.get(f"/datasets/{dataset_id}"))

    async def job(self, job_id: str) -> Job:
        """Return a job."""
        return cast("Job", await self.get(f"/jobs/{job_id}"))

    async def model(self, model: str) -> Model:
        """Return a model by its id or an alias."""
        return cast("Model", await self.get(f"/models/{model}"))

    async def evaluation(self, model: str) -> Evaluation:
        """Return how a model did on each split."""
        return cast("Evaluation", await self.get(f"/models/{model}/evaluation"))

    async def create_job(self, spec: JobSpec) -> Job:
        """Queue a job."""
        return cast("Job", await self.post("/jobs", cast("Json", spec)))

    async def quote(self, spec: JobSpec) -> Json:
        """Return what a job would take; nothing is queued."""
        return await self._send("POST", "/jobs", params={"dry_run": "true"}, json=spec, timeout=QUOTE_TIMEOUT)

    async def upload_dataset(self, archive: Path, *, on_bytes: OnBytes = lambda _: None, **params: Any) -> Dataset:
        """Send an archive as the request's body, in pieces; see app.client.Client.upload_dataset."""
        headers = archive_headers(archive) | new_key()
        sent = Sent(on_bytes)

        async def send() -> Dataset:
            sent.take_back()
            with translated(self.url):
                content = _read(archive, sent.add)
                response = await self._http.post("/datasets", params=present(params), content=content, headers=headers)
            return cast("Dataset", body_of(response))

        return await self._patiently(send)

    async def predict(self, sound: Path, **params: Any) -> Prediction:
        """Return what the model hears in one file."""
        files = {"file": (sound.name, await asyncio.to_thread(sound.read_bytes))}
        return cast("Prediction", await self._send("POST", "/predict", params=present(params), files=files))

    async def download(self, path: str, target: Path, *, on_bytes: OnBytes = lambda _: None) -> int:
        """Write a file of the service to `target`, which appears only when it is complete; return its size in bytes."""
        draft = target.with_name(target.name + ".part")
        size = 0
        with translated(self.url):
            async with self._http.stream("GET", path, headers={"Accept": "*/*"}) as response:
                await _check(response)
                with draft.open("wb") as sink:
                    async for piece in response.aiter_bytes(CHUNK_BYTES):
                        size += await asyncio.to_thread(sink.write, piece)
                        on_bytes(len(piece))
        draft.replace(target)
        return size

    async def events(self, job_id: str, *, after: str | None = None) -> AsyncIterator[Json]:
        """Yield a job's events as they happen, to the terminal one; a broken stream is taken up where it broke."""
        last = after
        broken_since: float | None = None
        while True:
            try:
                async for event in self._stream(job_id, last):
                    yield event
                    last, broken_since = str(event["id"]), None
                    if is_end(event):
                        return
                if (await self.job(job_id))["status"] in TERMINAL:
                    return
            except UnreachableError:
                broken_since = broken_since or time.monotonic()
                if time.monotonic() - broken_since > _RETRY_FOR_SECONDS:
                    raise
            await asyncio.sleep(_RETRY_SECONDS)

    async def wait(self, job_id: str, *, on_change: Callable[[Job], None] = lambda _: None) -> Job:
        """Return a job once it has ended, well or not; `on_change` hears its states on the way. `asyncio.timeout` bounds it."""
        while True:
            job = await self.job(job_id)
            on_change(job)
            if job["status"] in TERMINAL:
                return job
            await asyncio.sleep(0.5)

    async def wait_dataset(self, dataset_id: str, *, on_change: Callable[[Dataset], None] = lambda _: None) -> Dataset:
        """Return the dataset once it is ready or failed; `on_change` hears every state on the way."""
        while True:
            dataset = await self.dataset(dataset_id)
            on_change(dataset)
            if dataset["status"] != "processing":
                return dataset
            await asyncio.sleep(0.3)

    async def _stream(self, job_id: str, last: str | None) -> AsyncIterator[Json]:
        request: Json = {"headers": stream_headers(last), "timeout": STREAM_TIMEOUT}
        with translated(self.url):
            async with self._http.stream("GET", f"/jobs/{job_id}/events", **request) as response:
                await _check(response)
                async for message in httpx2.EventSource(response):
                    event = event_of(message)
                    if event is not None:
                        yield event

    async def _send(self, method: str, path: str, **request: Any) -> Json:
        async def send() -> Json:
            with translated(self.url):
                response = await self._http.request(method, path, **request)
            return body_of(response)

        return await self._patiently(send)

    async def _patiently(self, send: Callable[[], Awaitable[T]]) -> T:
        patience = Patience(*self._waits)
        while True:
            try:
                return await send()
            except (UnreachableError, RefusedError) as error:
                pause = patience.pause_after(error)
                if pause is None:
                    raise
            await asyncio.sleep(pause)


async def _read(archive: Path, on_bytes: OnBytes) -> AsyncIterator[bytes]:
    """Yield a file piece by piece, without holding up the loop."""
    with archive.open("rb") as source:
        parts = pieces(source, on_bytes)
        while piece := await asyncio.to_thread(next, parts, b""):
            yield piece


async def _check(response: httpx2.Response) -> None:
    if not response.is_success:
        await response.aread()
    raise_for_problem(response)
