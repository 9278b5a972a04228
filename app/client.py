"""A client of the service, for programs, the command line and the demo: requests, uploads, pages, and event streams that resume.

    with Client("http://127.0.0.1:8000") as client:
        job = client.wait(client.create_job({"dataset": "ds_…"})["id"])

app/async_client.py has the same methods to be awaited; app/client_types.py describes what they return.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
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
    ClientError,
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
from app.client_types import Dataset, Evaluation, Job, JobSpec, Model
from app.environment import DEFAULT_URL
from worker.states import TERMINAL

__all__ = ["Client", "ClientError", "Json", "OnBytes", "RefusedError", "UnreachableError"]

T = TypeVar("T")
_RETRY_SECONDS = 0.2
_RETRY_FOR_SECONDS = 60.0  # how long a service that has gone away is waited for, in the middle of something


class Client:
    """One connection pool to one service. Every method raises RefusedError and UnreachableError."""

    def __init__(
        self, url: str = DEFAULT_URL, api_key: str | None = None, *, busy_seconds: float = BUSY_SECONDS, connect_seconds: float = 0.0
    ) -> None:
        """`api_key` is sent as a bearer token.

        A call that the service puts off (429, 503) is sent again when it said so, for `busy_seconds` in all. A service that takes no
        connection is waited for `connect_seconds`; a connection that breaks is made anew three times.
        """
        self.url = url.rstrip("/")
        self._waits = (busy_seconds, connect_seconds)
        with translated(self.url):
            self._http = httpx2.Client(base_url=self.url, headers=headers_of(api_key), timeout=TIMEOUT)

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def closed(self) -> bool:
        """Whether the connections have been closed: from then on every method raises RuntimeError."""
        return self._http.is_closed

    def get(self, path: str, **params: Any) -> Json:
        """Return one resource."""
        return self._send("GET", path, params=present(params))

    def post(self, path: str, body: Json | None = None, **params: Any) -> Json:
        """Create or change something. The idempotency key makes a second try after a broken connection safe."""
        return self._send("POST", path, params=present(params), json=body, headers=new_key())

    def pages(self, path: str, *, limit: int | None = None, **params: Any) -> Iterator[Json]:
        """Yield a list's rows in its order, at most `limit` of them, fetched page by page."""
        left = limit if limit is not None else -1
        after: str | None = None
        while left:
            page = self.get(path, limit=min(left, 100) if left > 0 else 100, after=after, **params)
            yield from page["data"]
            left -= len(page["data"])
            after = page.get("last_id")
            if not page.get("has_more"):
                return

    def dataset(self, dataset_id: str) -> Dataset:
        """Return a dataset."""
        return cast("Dataset", self.get(f"/datasets/{dataset_id}"))

    def job(self, job_id: str) -> Job:
        """Return a job."""
        return cast("Job", self.get(f"/jobs/{job_id}"))

    def model(self, model: str) -> Model:
        """Return a model by its id or an alias."""
        return cast("Model", self.get(f"/models/{model}"))

    def evaluation(self, model: str) -> Evaluation:
        """Return how a model did on each split."""
        return cast("Evaluation", self.get(f"/models/{model}/evaluation"))

    def create_job(self, spec: JobSpec) -> Job:
        """Queue a job."""
        return cast("Job", self.post("/jobs", cast("Json", spec)))

    def quote(self, body: Json) -> Json:
        """Return what a job would take, as `POST /jobs` would be given it; nothing is queued."""
        return self._send("POST", "/jobs", params={"dry_run": "true"}, json=body, timeout=QUOTE_TIMEOUT)

    def upload_dataset(self, archive: Path, *, on_bytes: OnBytes = lambda _: None, **params: Any) -> Json:
        """Send an archive as the request's body, in pieces. Raises ValueError for any other file.

        `on_bytes` hears the size of each piece, and minus all of them when the connection broke and they are sent again.
        """
        headers = archive_headers(archive) | new_key()
        sent = Sent(on_bytes)

        def send() -> Json:
            sent.take_back()
            with archive.open("rb") as source, translated(self.url):
                content = pieces(source, sent.add)
                return body_of(self._http.post("/datasets", params=present(params), content=content, headers=headers))

        return self._patiently(send)

    def generate_dataset(self, generator: str, **config: Any) -> Json:
        """Ask for pictures by formula; `config` are the request's other fields."""
        return self.post("/datasets", {"generator": generator, **present(config)})

    def transferability(self, dataset: str, candidates: Sequence[str] | None = None) -> Json:
        """Start a ranking of sources for a dataset, of all that there are where none is named; return its job."""
        return self.post("/transferability", {"dataset": dataset} | ({"candidates": list(candidates)} if candidates else {}))

    def predict(self, sound: Path, **params: Any) -> Json:
        """Return what the model hears in one file."""
        return self._send("POST", "/predict", params=present(params), files={"file": (sound.name, sound.read_bytes())})

    def predict_archive(self, archive: Path, **params: Any) -> Iterator[Json]:
        """Yield what the model hears in each file of an archive, or its error, as they are made. Raises ValueError for any other file."""
        headers = archive_headers(archive) | {"Accept": "application/x-ndjson"}
        with translated(self.url), archive.open("rb") as source:
            content = pieces(source, lambda _: None)
            with self._http.stream("POST", "/predict/batch", params=present(params), content=content, headers=headers) as response:
                _check(response)
                for row in map(json.loads, response.iter_lines()):
                    if row["object"] != "done":
                        yield row

    def download(self, path: str, target: Path, *, on_bytes: OnBytes = lambda _: None) -> int:
        """Write a file of the service to `target`, which appears only when it is complete; return its size in bytes."""
        draft = target.with_name(target.name + ".part")
        size = 0
        with translated(self.url), self._http.stream("GET", path, headers={"Accept": "*/*"}) as response:
            _check(response)
            with draft.open("wb") as sink:
                for piece in response.iter_bytes(CHUNK_BYTES):
                    size += sink.write(piece)
                    on_bytes(len(piece))
        draft.replace(target)
        return size

    def events(self, job_id: str, *, after: str | None = None) -> Iterator[Json]:
        """Yield a job's events as they happen, to the terminal one; a broken stream is taken up where it broke."""
        last = after
        broken_since: float | None = None
        while True:
            try:
                for event in self._stream(job_id, last):
                    yield event
                    last, broken_since = str(event["id"]), None
                    if is_end(event):
                        return
                if self.get(f"/jobs/{job_id}")["status"] in TERMINAL:
                    return
            except UnreachableError:
                broken_since = broken_since or time.monotonic()
                if time.monotonic() - broken_since > _RETRY_FOR_SECONDS:
                    raise
            time.sleep(_RETRY_SECONDS)

    def wait(self, job_id: str, *, on_change: Callable[[Job], None] = lambda _: None, seconds: float | None = None) -> Job:
        """Return a job once it has ended, well or not; `on_change` hears its states on the way. Raises TimeoutError after `seconds`."""
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            job = self.job(job_id)
            on_change(job)
            if job["status"] in TERMINAL:
                return job
            if until is not None and time.monotonic() > until:
                raise TimeoutError(f"job {job_id} is still {job['status']} after {seconds:g} s")
            time.sleep(0.5)

    def wait_dataset(self, dataset_id: str, *, on_change: Callable[[Json], None] = lambda _: None, poll_seconds: float = 0.3) -> Json:
        """Return the dataset once it is ready or failed; `on_change` hears every state on the way."""
        while True:
            dataset = self.get(f"/datasets/{dataset_id}")
            on_change(dataset)
            if dataset["status"] != "processing":
                return dataset
            time.sleep(poll_seconds)

    def _stream(self, job_id: str, last: str | None) -> Iterator[Json]:
        request: Json = {"headers": stream_headers(last), "timeout": STREAM_TIMEOUT}
        with translated(self.url), self._http.stream("GET", f"/jobs/{job_id}/events", **request) as response:
            _check(response)
            for message in httpx2.EventSource(response):
                event = event_of(message)
                if event is not None:
                    yield event

    def _send(self, method: str, path: str, **request: Any) -> Json:
        def send() -> Json:
            with translated(self.url):
                response = self._http.request(method, path, **request)
            return body_of(response)

        return self._patiently(send)

    def _patiently(self, send: Callable[[], T]) -> T:
        """Try again while connections break, which they do when the service restarts, and while the service is busy."""
        patience = Patience(*self._waits)
        while True:
            try:
                return send()
            except (UnreachableError, RefusedError) as error:
                pause = patience.pause_after(error)
                if pause is None:
                    raise
            time.sleep(pause)


def is_end(event: Json) -> bool:
    """Whether an event is a job's last."""
    return event["type"] == "status" and event["data"].get("status") in TERMINAL


def _check(response: httpx2.Response) -> None:
    if not response.is_success:
        response.read()
    raise_for_problem(response)
