"""`synesthesia serve`: broker, API processes and workers as one process tree.

    serve ─┬─ broker           valkey-server on a unix socket; absent where REDIS_URL is set
           ├─ api 1 … N        uvicorn, all on one listening socket that this process holds: a restart refuses no connection
           ├─ worker train     one job at a time; its trainers are processes of their own
           └─ worker data      reads archives, so that an upload never waits behind training

This process imports neither torch nor celery: it has one thread and stays small.
"""

import http.client
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.exposure import check_exposure
from app.tree import Part, Program, Signals, Tree
from models.errors import UnavailableError
from worker.embedded import Broker
from worker.errors import ConflictError
from worker.migrate import upgrade
from worker.processes import HostLock
from worker.settings import Settings

_STOP_SECONDS = 30.0  # trainers write a checkpoint meanwhile
_PROBE_SECONDS = 0.25
_READY_POLL_SECONDS = 0.05
_WATCH_SECONDS = 0.5
_HOPELESS_DEATHS = 5  # before the service was ever ready
_BACKLOG = 2048
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - looked for, not bound
QUEUES = ("train", "data")


@dataclass(frozen=True)
class Serving:
    """What `serve` tells other programs through serve.json in the data directory."""

    url: str
    pid: int

    @staticmethod
    def path(data_dir: Path) -> Path:
        """Return where it is written."""
        return data_dir / "serve.json"

    @classmethod
    def read(cls, data_dir: Path) -> "Serving | None":
        """Return what the serving process of `data_dir` wrote once it was ready, None where there is nothing to read."""
        try:
            found = json.loads(cls.path(data_dir).read_text())
            return cls(url=str(found["url"]), pid=int(found["pid"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def serve(settings: Settings, *, workers: int, report: Callable[[str], None]) -> int:
    """Run the service until it is told to stop; return the exit status. `report` receives sentences for people.

    Raises ConflictError when the data directory is being served already, UnavailableError when the address can't be had or a part
    does not start, ConfigError when the address needs a key and there is none.
    """
    check_exposure(settings)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = _hold(settings.data_dir)
    try:
        with Signals().installed() as signals, listen(settings.host, settings.port) as listener:
            upgrade()
            tree = Tree(_stages(settings, listener, workers), report)
            return _run(tree, signals, settings.data_dir, _address(listener), report)
    finally:
        Serving.path(settings.data_dir).unlink(missing_ok=True)
        lock.release()


def listen(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket; port 0 takes a free one. Raises UnavailableError."""
    try:
        family = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=socket.AddressFamily(family), backlog=_BACKLOG)
    except OSError as error:
        raise UnavailableError(
            f"can't listen on {host} port {port}: {error.strerror}", hint="stop what uses it, or choose another --port"
        ) from error


def _hold(data_dir: Path) -> HostLock:
    lock = HostLock(data_dir, "serve")
    if lock.acquire():
        return lock
    running = Serving.read(data_dir)
    where = f" at {running.url} by process {running.pid}" if running else ""
    raise ConflictError(f"{data_dir.absolute()} is being served already{where}", hint="stop that one, or choose another --data-dir")


def _stages(settings: Settings, listener: socket.socket, workers: int) -> list[list[Part]]:
    """Return the parts in the order of starting; they stop the other way round, so workers can still give messages back."""
    descriptor = listener.fileno()
    python = [sys.executable, "-m"]
    apis = [Program(f"api {number}", [*python, "app.server", "--fd", str(descriptor)], (descriptor,)) for number in range(1, workers + 1)]
    consumers = [Program(f"worker {queue}", [*python, "worker.celery_app", "--queues", queue, "--name", queue]) for queue in QUEUES]
    brokers: list[Part] = [] if settings.redis_url else [Broker(settings.data_dir)]
    return [brokers, [*apis, *consumers]]


def _run(tree: Tree, signals: Signals, data_dir: Path, address: tuple[str, int], report: Callable[[str], None]) -> int:
    began = time.monotonic()
    ready = False
    try:
        tree.start()
        while not signals.stops:
            signals.wait(_WATCH_SECONDS if ready else _READY_POLL_SECONDS)
            tree.check()
            if not ready and _answers(address):
                ready = True
                _announce(data_dir, address, time.monotonic() - began, report)
            if not ready and tree.worst_quick_deaths() >= _HOPELESS_DEATHS:
                raise UnavailableError("the service does not start; the messages above say why")
        report("stopping; once more to stop at once")
        return 0 if tree.stop(signals, _STOP_SECONDS) or signals.stops == 1 else 130
    finally:
        tree.kill()


def _announce(data_dir: Path, address: tuple[str, int], seconds: float, report: Callable[[str], None]) -> None:
    host, port = address
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    path = Serving.path(data_dir)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps({"url": url, "pid": os.getpid()}))
    draft.replace(path)
    report(
        f"Synesthesia answers at {url} after {seconds:.1f} s; documentation at {url}/docs, data in {data_dir.absolute()}; Ctrl-C stops it"
    )


def _address(listener: socket.socket) -> tuple[str, int]:
    """Return a host and port at which this machine reaches the listener."""
    host, port = listener.getsockname()[:2]
    return _WILDCARDS.get(host, host), port


def _answers(address: tuple[str, int]) -> bool:
    connection = http.client.HTTPConnection(*address, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
