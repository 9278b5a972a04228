"""What the tests of app/ share: the application in process and behind a real socket, and what every problem must look like."""

import contextlib
import json
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog
import uvicorn
from starlette.requests import Request
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message

from app.problems import TITLES
from models.config import Modality
from tests.golden_rig import spoil
from worker.settings import Settings

LABELS = ("no", "yes", "stop")
PROBLEM_MEMBERS = {"type", "title", "status", "detail", "instance", "code", "request_id", "hint", "errors"}
_LEAKS = re.compile(r"Traceback|File \"|site-packages|\.py\b|sqlite|SELECT |INSERT |/tmp/|/home/|/root/|/work/")


def check_problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """Assert all that holds for every error, and return its body."""
    assert response.status_code == status, response.text
    return check_problem_parts(status, {name.lower(): value for name, value in response.headers.items()}, response.content, code)


def check_problem_parts(status: int, headers: dict[str, str], content: bytes, code: str) -> dict[str, Any]:
    """As `check_problem`, for an answer that was read by other means."""
    assert headers["content-type"] == "application/problem+json", content
    body: dict[str, Any] = json.loads(content)
    assert (body["status"], body["code"]) == (status, code), body
    assert body["title"] == TITLES[code]
    assert body["type"] == f"/problems#{code}"
    assert body["request_id"] == headers["x-request-id"]
    assert body["detail"]
    extra = {"error"} if body["instance"].startswith("/v2") else set()  # where the inference protocol's clients look
    assert set(body) <= PROBLEM_MEMBERS | extra
    assert all(body[name] == body["detail"] for name in extra)
    assert all(set(error) == {"pointer", "detail"} for error in body.get("errors", []))
    assert not _LEAKS.search(content.decode()), content
    assert (status in (429, 503, 507)) == ("retry-after" in headers)
    assert int(headers.get("retry-after", "1")) >= 1
    assert (status == 401) == ("www-authenticate" in headers)
    return body


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep log lines off the terminal: tracebacks drawn for people would hold up the event loop for seconds."""
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def app(settings: Settings) -> ASGIApp:
    """The whole application on a data directory of its own."""
    from app.main import create_app

    return create_app(settings)


@pytest.fixture
def client(app: ASGIApp) -> Iterator[TestClient]:
    """A client of the application in process, between its start and its end."""
    with TestClient(app) as client:
        yield client


@pytest.fixture
def live(app: ASGIApp) -> Iterator[tuple[str, int]]:
    """Host and port of the application behind uvicorn, in a thread."""
    with serving(app) as address:
        yield address


@contextlib.contextmanager
def serving(app: ASGIApp, **options: Any) -> Iterator[tuple[str, int]]:
    """Serve `app` on a free port of loopback; `options` are uvicorn's."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=2, **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_until(lambda: server.started, what="the server to start")
        yield listener.getsockname()
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def wait_until(condition: Callable[[], object], *, seconds: float = 20.0, what: str = "it") -> None:
    """Wait for `condition`; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.01)


def exchange(address: tuple[str, int], *pieces: bytes, pause: float = 0.0, seconds: float = 10.0) -> tuple[int, dict[str, str], bytes]:
    """Send raw bytes, with a pause between pieces, and return status, headers and body of the first answer."""
    with socket.create_connection(address, timeout=seconds) as connection:
        with contextlib.suppress(ConnectionError):  # the service may answer and close before all is sent
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
        return read_answer(connection)


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read one answer that has a Content-Length."""
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(65536)
        assert chunk, f"the connection ended after {received!r}"
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        chunk = connection.recv(65536)
        assert chunk, "the body ended early"
        body += chunk
    return int(status_line.split()[1]), headers, body


def request_of(chunks: Iterable[bytes], headers: dict[str, str] | None = None, **scope: Any) -> Request:
    """Return a request whose body comes in `chunks`."""
    pending = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages: Iterator[Message] = iter([*pending, {"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Message:
        return next(messages)

    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    return Request({"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": raw, **scope}, receive)


@pytest.fixture(scope="session")
def speech_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a speech model with random weights. Tests that change them copy them first."""
    return write_speech_artifact(tmp_path_factory.mktemp("artifact"))


def write_speech_artifact(folder: Path, *, seed: int = 2) -> Path:
    """Write the files of a speech model with random weights into `folder`, and return it."""
    from models.artifact import save_artifact
    from models.config import FeatureConfig, ModelManifest, NetworkConfig, Normalization
    from models.evaluation import evaluation_document
    from models.network import build_network

    config = NetworkConfig(
        modality="audio",
        architecture="resnet_tiny",
        labels=LABELS,
        features=FeatureConfig(clip_seconds=0.5, image_size=28),
        normalization=Normalization(mean=(-4.0,) * 40, std=(3.0,) * 40),
    )
    save_artifact(folder, build_network(config, seed=seed), manifest=ModelManifest(network=config), evaluation=evaluation_document({}))
    return folder


@pytest.fixture
def spoiled_artifact(speech_artifact: Path, tmp_path: Path) -> Path:
    """A speech model that answers 0.05 otherwise than its golden clips say."""
    spoil(Path(shutil.copytree(speech_artifact, tmp_path / "spoiled")), 0.05)
    return tmp_path / "spoiled"


@pytest.fixture
def make_model(settings: Settings, speech_artifact: Path) -> Callable[..., str]:
    """Add a speech model, or the row of an image model; return its id."""
    from models.manifest import read_manifest
    from worker import aliases, registry
    from worker.database import new_id, write
    from worker.storage import get_storage, new_scratch

    def make(*, modality: Modality = "audio", name: str | None = None, alias: str | None = None, artifact: Path = speech_artifact) -> str:
        model_id = new_id("mdl")
        folder = new_scratch("test")
        shutil.copytree(artifact, folder, dirs_exist_ok=True)
        manifest = read_manifest(folder)
        manifest = manifest.model_copy(update={"network": manifest.network.model_copy(update={"modality": modality})})
        size = sum(path.stat().st_size for path in folder.iterdir())
        blob = get_storage().publish_directory(folder, f"artifacts/{model_id}")
        with write() as session:
            registry.add_model(
                session, manifest=manifest, evaluation={"splits": {}}, blob=blob, size_bytes=size, model_id=model_id, name=name
            )
            if alias:
                aliases.point_alias(session, alias, model_id)
        return model_id

    return make


@pytest.fixture
def make_dataset(settings: Settings) -> Callable[..., str]:
    """Add the row of a dataset; return its id."""
    from worker.database import Dataset, new_id, now, write

    def make(*, status: str = "ready", modality: Modality = "audio", name: str = "digits") -> str:
        with write() as session:
            row = Dataset(
                id=new_id("ds"), name=name, modality=modality, status=status, upload_format="zip", sha256="0" * 64, size_bytes=1,
                summary={"labels": ["no", "yes"], "items": 2}, created_at=now(session),
            )  # fmt: skip
            session.add(row)
            return row.id

    return make
