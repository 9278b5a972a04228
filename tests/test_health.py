"""deploy/health.py, as Docker starts it: against a readiness address, and against a real worker behind a real broker."""

import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.embedded import Broker
from worker.settings import Settings

ROOT = Path(__file__).resolve().parents[1]


class _Readiness(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def readiness() -> Iterator[int]:
    """The port of a server that answers `GET /readyz`, and nothing else, with _Readiness.status."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Readiness) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def health(*arguments: str, **environment: str) -> int:
    command = [sys.executable, str(ROOT / "deploy" / "health.py"), *arguments]
    return subprocess.run(command, check=False, env=os.environ | environment, cwd=ROOT, capture_output=True, timeout=60).returncode


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_api_is_as_healthy_as_its_readiness(readiness: int, status: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Readiness, "status", status)
    # A proxy that somebody's Docker hands to every container must not be asked about this one.
    assert health("api", SYNESTHESIA_PORT=str(readiness), http_proxy="http://127.0.0.1:9") == code


def test_an_api_that_does_not_listen_is_not_healthy() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert health("api", SYNESTHESIA_PORT=str(unused.getsockname()[1])) == 1


def test_a_worker_is_healthy_while_it_answers_through_the_broker(settings: Settings) -> None:
    broker = Broker(settings.data_dir)
    broker.start()
    command = [sys.executable, "-m", "app.cli", "worker", "--queues", "data"]
    try:
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as worker:
            assert worker.stderr is not None
            assert any(" ready." in line for line in worker.stderr), "the worker ended"
            assert health("worker") == 0
            assert health("worker", "--name", "absent") == 1  # another worker's answer does not count
            worker.terminate()
            worker.communicate(timeout=60)
    finally:
        broker.stop()


def test_a_worker_without_a_broker_is_not_healthy(settings: Settings) -> None:
    assert health("worker") == 1
