"""The broker that comes along: found by its path alone, private, stubborn about starting, gone with its parent."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from models.errors import UnavailableError
from worker import embedded
from worker.embedded import Broker, broker_url, server_binary, socket_path, socket_url
from worker.settings import Settings


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    started = Broker(tmp_path)
    yield started
    started.kill()


def client(folder: Path) -> "redis.Redis":
    return redis.Redis(unix_socket_path=str(socket_path(folder)))


def test_the_address_follows_from_the_data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    assert socket_path(tmp_path) == tmp_path / "broker" / "broker.sock"
    monkeypatch.chdir(tmp_path)
    assert socket_path(Path("data")) == tmp_path / "data" / "broker" / "broker.sock"
    assert broker_url(Settings(data_dir=tmp_path)) == socket_url(tmp_path)
    assert broker_url(Settings(data_dir=tmp_path, redis_url="redis://elsewhere/0")) == "redis://elsewhere/0"


def test_a_long_path_gets_a_short_address(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    assert len(os.fsencode(socket_path(deep))) <= 107
    assert socket_path(deep) == socket_path(deep)
    assert socket_path(deep) != socket_path(tmp_path / ("e" * 120))


def test_it_starts_answers_and_stops(broker: Broker, tmp_path: Path) -> None:
    assert broker.exit_code() == 0
    assert not broker.alive()
    broker.start()
    assert broker.alive()
    assert broker.exit_code() is None
    assert client(tmp_path).config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert stat.S_IMODE((tmp_path / "broker").stat().st_mode) == 0o700
    assert stat.S_IMODE(socket_path(tmp_path).stat().st_mode) == 0o700
    broker.stop()
    assert not broker.alive()
    assert broker.exit_code() == 0


def test_no_port_is_open(broker: Broker, tmp_path: Path) -> None:
    broker.start()
    assert broker.pid is not None
    assert psutil.Process(broker.pid).net_connections("inet") == []


def test_messages_outlive_a_stop(broker: Broker, tmp_path: Path) -> None:
    broker.start()
    client(tmp_path).lpush("train", "message")
    broker.stop()
    broker.start()
    assert client(tmp_path).llen("train") == 1


def test_a_damaged_log_is_thrown_away(broker: Broker, tmp_path: Path) -> None:
    broker.start()
    client(tmp_path).lpush("train", "message")
    broker.stop()
    for path in (tmp_path / "broker" / "appendonlydir").glob("*.incr.aof"):
        path.write_bytes(b"*9\r\n$3\r\nnonsense" * 20)
    broker.start()
    assert broker.alive()
    assert client(tmp_path).llen("train") == 0


def test_a_server_left_behind_is_ended_first(broker: Broker, tmp_path: Path) -> None:
    broker.start()
    leftover = broker.pid
    assert leftover is not None
    second = Broker(tmp_path)
    second.start()
    try:
        assert second.alive()
        assert second.pid != leftover
        assert broker.exit_code() is not None
    finally:
        second.kill()


def test_it_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from worker.embedded import Broker; b = Broker(Path(sys.argv[1])); b.start(); "
    code += "print(b.pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
        assert not psutil.wait_procs([server], timeout=5)[1]


def test_somebody_elses_directory_is_not_used(broker: Broker, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "broker").symlink_to(tmp_path / "target")
    with pytest.raises(UnavailableError, match="belongs to somebody else"):
        broker.start()


def test_a_server_that_can_not_start_says_why(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    real = embedded._arguments
    monkeypatch.setattr(embedded, "_arguments", lambda path: [*real(path), "--maxmemory-policy", "whatever"])
    with pytest.raises(UnavailableError, match="did not start"):
        broker.start()
    assert broker.exit_code() not in (None, 0)


def test_no_server_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert server_binary().exists()
    monkeypatch.setattr(embedded, "_bundled_binary", lambda: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnavailableError) as raised:
        server_binary()
    assert raised.value.hint is not None
    assert "REDIS_URL" in raised.value.hint
