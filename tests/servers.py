"""Servers that are not ours, each a real one of the test's own: Redis on TCP, Postgres on a port of loopback."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.service import wait_until


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def process(command: list[str], log: Path, environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process in its own session, which is asked to end with the block and loses what it has started."""
    with log.open("ab") as sink:
        started = subprocess.Popen(command, stdout=sink, stderr=sink, env=environment, start_new_session=True)
    family: list[psutil.Process] = []
    try:
        yield started
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(started.pid).children(recursive=True)
        started.terminate()
        try:
            started.wait(40)
        finally:
            for left in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    left.kill()
            started.kill()


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    """A Redis that keeps its log in `folder`; gives its address."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--appendonly", "yes", "--save", ""]
    with process(command, folder / "redis.log"):
        wait_until(lambda: _accepts(port), 20)
        yield f"redis://127.0.0.1:{port}/0"


class Postgres:
    """A database server in a folder, which can be stopped and started; as root it runs under the package's user, which it insists on."""

    def __init__(self, folder: Path) -> None:
        """Make the cluster; nothing runs yet. `folder` must not exist."""
        self._folder = folder
        self._binaries = max(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")).parent
        self._as_user: list[str] = []
        self._port = free_port()
        self.url = f"postgresql+psycopg://synesthesia@127.0.0.1:{self._port}/postgres"
        folder.mkdir()
        if os.getuid() == 0:
            _give_to_postgres(folder)
            self._as_user = [shutil.which("setpriv") or "setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self._do("initdb", "-U", "synesthesia", "-A", "trust", "--no-sync")

    def start(self) -> None:
        """Return when queries are answered."""
        self._control("start", "-o", f"-p {self._port} -h 127.0.0.1 -k {self._folder}", "-l", str(self._folder / "log"))

    def stop(self) -> None:
        """End it as a crash does: no session is asked, and the next start has to recover."""
        self._control("stop", "-m", "immediate")

    def restart(self) -> None:
        """End it as a crash does and start it at once."""
        self._control("restart", "-m", "immediate", "-l", str(self._folder / "log"))

    def _control(self, what: str, *options: str) -> None:
        self._do("pg_ctl", what, "-w", "-t", "60", *options)

    def _do(self, program: str, *arguments: str) -> None:
        # The server inherits what pg_ctl has: with a pipe for its output, this would wait for the server's end.
        command = [*self._as_user, str(self._binaries / program), *arguments, "-D", str(self._folder / "data")]
        with (self._folder / "control.log").open("ab") as log:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder, check=False, timeout=90)
        assert done.returncode == 0, (self._folder / "control.log").read_text(errors="replace")[-2000:]


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """A running Postgres, which ends with the block."""
    server = Postgres(folder)
    server.start()
    try:
        yield server
    finally:
        with contextlib.suppress(AssertionError):  # it may be stopped already
            server.stop()


def _give_to_postgres(folder: Path) -> None:
    """Let the package's user own the folder, and reach it: pytest's folders are closed to others."""
    os.chown(folder, pwd.getpwnam("postgres").pw_uid, pwd.getpwnam("postgres").pw_gid)
    for parent in folder.parents[:4]:
        if parent not in (Path("/"), Path("/tmp")):
            parent.chmod(0o755)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
