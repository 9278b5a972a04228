"""A client of the service over HTTP, for the command line and the demo: requests, uploads, pages, and event streams that resume."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import httpx2

from app.media import archive_type
from worker.states import TERMINAL

Json = dict[str, Any]
OnBytes = Callable[[int], None]

DEFAULT_URL = "http://127.0.0.1:8000"
_CHUNK_BYTES = 256 * 1024
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 60.0
_QUOTE_READ_SECONDS = 90.0  # the service itself gives up after a minute
_STREAM_READ_SECONDS = 30.0  # the service sends a comment every few seconds; silence for this long is a dead connection
_RETRY_SECONDS = (0.2, 0.5, 1.0)
_RETRY_FOR_SECONDS = 60.0  # how long a service that has gone away is waited for, in the middle of something


class ClientError(Exception):
    """Base of what this module raises on purpose."""


class RefusedError(ClientError):
    """The service answered with a problem (RFC 9457)."""

    def __init__(self, status: int, problem: Json) -> None:
        """`problem` has at least a title."""
        super().__init__(f"{problem.get('title', 'Refused')}: {problem.get('detail', '')}")
        self.status = status
        self.problem = problem


class UnreachableError(ClientError):
    """Nothing answers at the address, or the connection broke."""

    def __init__(self, url: str, reason: str) -> None:
        """`reason` is the transport's own sentence."""
        super().__init__(f"no answer from {url}: {reason}")
        self.url = url


class Client:
    """One connection pool to one service. Every method raises RefusedError and UnreachableError."""

    def __init__(self, url: str = DEFAULT_URL, api_key: str | None = None) -> None:
        """`api_key` is sent as a bearer token."""
        self.url = url.rstrip("/")
        headers = {"Accept": "application/json", "User-Agent": "synesthesia-cli"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        timeout = httpx2.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS)
        with self._translated():
            self._http = httpx2.Client(base_url=self.url, headers=headers, timeout=timeout)

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
        """Return one resource. A connection that breaks is tried again: reading changes nothing."""
        return self._patiently(lambda: self._send("GET", path, params=_present(params)))

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

    def post(self, path: str, body: Json | None = None, **params: Any) -> Json:
        """Create or change something. The idempotency key makes a second try after a broken connection safe."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        return self._patiently(lambda: self._send("POST", path, params=_present(params), json=body, headers=headers))

    def quote(self, body: Json) -> Json:
        """Return what a job would take, as `POST /jobs` would be given it; nothing is queued."""
        timeout = httpx2.Timeout(_QUOTE_READ_SECONDS, connect=_CONNECT_SECONDS)
        return self._patiently(lambda: self._send("POST", "/jobs", params={"dry_run": "true"}, json=body, timeout=timeout))

    def upload_dataset(self, archive: Path, *, on_bytes: OnBytes = lambda _: None, **params: Any) -> Json:
        """Send an archive as the request's body, in pieces; `on_bytes` hears the size of each. Raises ValueError for any other file."""
        headers = {
            "Content-Type": archive_type(archive),
            "Content-Length": str(archive.stat().st_size),
            "Idempotency-Key": uuid.uuid4().hex,
        }
        with archive.open("rb") as source:
            content = _pieces(source, on_bytes)
            return self._send("POST", "/datasets", params=_present(params), content=content, headers=headers)

    def generate_dataset(self, generator: str, **config: Any) -> Json:
        """Ask for pictures by formula; `config` are the request's other fields."""
        return self.post("/datasets", {"generator": generator, **_present(config)})

    def transferability(self, dataset: str, candidates: Sequence[str] | None = None) -> Json:
        """Start a ranking of sources for a dataset, of all that there are where none is named; return its job."""
        return self.post("/transferability", {"dataset": dataset} | ({"candidates": list(candidates)} if candidates else {}))

    def predict(self, sound: Path, **params: Any) -> Json:
        """Return what the model hears in one file."""
        files = {"file": (sound.name, sound.read_bytes())}
        return self._patiently(lambda: self._send("POST", "/predict", params=_present(params), files=files))

    def predict_archive(self, archive: Path, **params: Any) -> Iterator[Json]:
        """Yield what the model hears in each file of an archive, or its error, as they are made. Raises ValueError for any other file."""
        headers = {
            "Content-Type": archive_type(archive),
            "Content-Length": str(archive.stat().st_size),
            "Accept": "application/x-ndjson",
        }
        with self._translated(), archive.open("rb") as source:
            content = _pieces(source, lambda _: None)
            with self._http.stream("POST", "/predict/batch", params=_present(params), content=content, headers=headers) as response:
                _raise_for_problem(response)
                for row in map(json.loads, response.iter_lines()):
                    if row["object"] != "done":
                        yield row

    def download(self, path: str, target: Path, *, on_bytes: OnBytes = lambda _: None) -> int:
        """Write a file of the service to `target`, which appears only when it is complete; return its size in bytes."""
        draft = target.with_name(target.name + ".part")
        size = 0
        with self._translated(), self._http.stream("GET", path, headers={"Accept": "*/*"}) as response:
            _raise_for_problem(response)
            with draft.open("wb") as sink:
                for piece in response.iter_bytes(_CHUNK_BYTES):
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
                    if event["type"] == "status" and event["data"].get("status") in TERMINAL:
                        return
                if self.get(f"/jobs/{job_id}")["status"] in TERMINAL:
                    return
            except UnreachableError:
                broken_since = broken_since or time.monotonic()
                if time.monotonic() - broken_since > _RETRY_FOR_SECONDS:
                    raise
            time.sleep(_RETRY_SECONDS[0])

    def wait_dataset(self, dataset_id: str, *, on_change: Callable[[Json], None] = lambda _: None, poll_seconds: float = 0.3) -> Json:
        """Return the dataset once it is ready or failed; `on_change` hears every state on the way."""
        while True:
            dataset = self.get(f"/datasets/{dataset_id}")
            on_change(dataset)
            if dataset["status"] != "processing":
                return dataset
            time.sleep(poll_seconds)

    def _stream(self, job_id: str, last: str | None) -> Iterator[Json]:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
        timeout = httpx2.Timeout(_STREAM_READ_SECONDS, connect=_CONNECT_SECONDS)
        with self._translated(), self._http.stream("GET", f"/jobs/{job_id}/events", headers=headers, timeout=timeout) as response:
            _raise_for_problem(response)
            for message in httpx2.EventSource(response):
                if message.data:
                    yield json.loads(message.data)

    def _send(self, method: str, path: str, **request: Any) -> Json:
        with self._translated():
            response = self._http.request(method, path, **request)
        _raise_for_problem(response)
        found: Json = response.json() if response.content else {}
        return found

    def _patiently(self, send: Callable[[], Json]) -> Json:
        """Try again while connections break, which they do when the service restarts; one that refuses to connect at once is not there."""
        for pause in (*_RETRY_SECONDS, None):
            try:
                return send()
            except UnreachableError as error:
                if pause is None or isinstance(error.__cause__, httpx2.ConnectError):
                    raise
                time.sleep(pause)
        raise AssertionError("the last round returns or raises")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            raise UnreachableError(self.url, str(error) or type(error).__name__) from error


def _present(params: Json) -> Json:
    return {name: value for name, value in params.items() if value is not None}


def _pieces(source: IO[bytes], on_bytes: OnBytes) -> Iterator[bytes]:
    while piece := source.read(_CHUNK_BYTES):
        yield piece
        on_bytes(len(piece))


def _raise_for_problem(response: httpx2.Response) -> None:
    if response.is_success:
        return
    response.read()
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"title": response.reason_phrase or "Refused", "detail": response.text[:200]}
    raise RefusedError(response.status_code, problem)
