"""What `serve` does before and around the tree; the whole of it runs in the journeys."""

import json
import os
import socket
import sys
from pathlib import Path

import pytest

from app import serve as module
from app.serve import QUEUES, Serving, listen, serve
from models.errors import ConfigError, UnavailableError
from tests.app.conftest import serving
from worker.errors import ConflictError
from worker.processes import HostLock
from worker.settings import Settings


def refuse_reports(sentence: str) -> None:
    raise AssertionError(sentence)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", ""])
def test_an_address_that_strangers_reach_needs_a_key(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match="there is no key"):
        serve(Settings(host=host, data_dir=tmp_path / "data"), workers=1, report=refuse_reports)
    assert not (tmp_path / "data").exists()


def test_one_data_directory_has_one_service(tmp_path: Path) -> None:
    lock = HostLock(tmp_path, "serve")
    assert lock.acquire()
    settings = Settings(port=0, data_dir=tmp_path)
    with pytest.raises(ConflictError, match="is being served already"):
        serve(settings, workers=1, report=refuse_reports)
    Serving.path(tmp_path).write_text(json.dumps({"url": "http://127.0.0.1:8000", "pid": 7}))
    with pytest.raises(ConflictError, match=r"at http://127\.0\.0\.1:8000 by process 7"):
        serve(settings, workers=1, report=refuse_reports)
    lock.release()


def test_a_port_that_is_taken_is_a_clear_error_and_frees_the_directory(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings(port=port, data_dir=tmp_path)
        with pytest.raises(UnavailableError, match=f"port {port}: Address already in use"):
            serve(settings, workers=1, report=refuse_reports)
    lock = HostLock(tmp_path, "serve")
    assert lock.acquire(), "the directory can be served by another attempt of the same process"
    lock.release()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_listening(host: str) -> None:
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with listen(host, 0) as listener, socket.create_connection(listener.getsockname()[:2], timeout=5):
        assert listener.getsockname()[1] > 0


@pytest.mark.parametrize("host", ["not a host", "192.0.2.7", "host.invalid"])
def test_an_address_that_is_not_ours(host: str) -> None:
    with pytest.raises(UnavailableError, match="can't listen on"):
        listen(host, 0)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"url": "x"}', '{"url": "x", "pid": "y"}', '{"url": "x", "pid": null}', "\xff"]
)
def test_a_file_that_says_nothing_is_no_service(tmp_path: Path, content: str) -> None:
    assert Serving.read(tmp_path) is None
    Serving.path(tmp_path).write_bytes(content.encode("latin-1"))
    assert Serving.read(tmp_path) is None


def test_the_announcement_can_be_read(tmp_path: Path) -> None:
    said: list[str] = []
    module._announce(tmp_path, ("::1", 8000), 1.25, said.append)
    assert Serving.read(tmp_path) == Serving("http://[::1]:8000", os.getpid())
    assert "http://[::1]:8000 after 1.2 s" in said[0]
    module._announce(tmp_path, ("127.0.0.1", 1), 0.0, said.append)
    assert Serving.read(tmp_path) == Serving("http://127.0.0.1:1", os.getpid())
    assert [path.name for path in tmp_path.iterdir()] == ["serve.json"]


def test_the_parts(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as listener:
        stages = module._stages(Settings(data_dir=tmp_path), listener, 2)
        names = [[part.name for part in stage] for stage in stages]
        assert names == [["broker"], ["api 1", "api 2", *(f"worker {queue}" for queue in QUEUES)]]
        elsewhere = module._stages(Settings(data_dir=tmp_path, redis_url="redis://127.0.0.1"), listener, 1)
        assert elsewhere[0] == []


def test_an_answer_is_told_from_silence(app: object, settings: Settings) -> None:
    with serving(app) as address:  # type: ignore[arg-type]  # the fixture's ASGI application
        assert module._answers(address)
    assert not module._answers(address)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not module._answers(silent.getsockname())


def test_the_wildcard_is_reached_by_loopback() -> None:
    with listen("0.0.0.0", 0) as listener:
        assert module._address(listener)[0] == "127.0.0.1"


def test_a_service_that_can_t_start_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that die at once: after a few deaths the reason is left to the messages above, and nothing keeps running."""
    said: list[str] = []
    monkeypatch.setenv("SYNESTHESIA_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(module, "upgrade", lambda: None)
    monkeypatch.setattr(module, "_stages", lambda *_: [[module.Program("api 1", [sys.executable, "-c", "raise SystemExit(3)"])]])
    with pytest.raises(UnavailableError, match="does not start"):
        serve(Settings(port=0, data_dir=tmp_path), workers=1, report=said.append)
    assert said[0].startswith("api 1 ended with status 3")
    assert not Serving.path(tmp_path).exists()
