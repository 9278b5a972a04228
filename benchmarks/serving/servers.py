"""Servers that run: how each is started and stopped, and what its processes cost.

All that are being compared run at once, and all but the one under load are stopped by SIGSTOP, so that runs can be interleaved without
paying for a start each time. A server's processes are found by a mark in their environment, as frameworks detach theirs.
"""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from contestants import CORES, Server, form
from prepare import HERE, ROOT, clip, peers_python

MARK = "SERVING_BENCHMARK"
_START_SECONDS = 120.0
_POLL_SECONDS = 0.02
_STOP_SECONDS = 6.0
_WAKE_SECONDS = 20.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Running:
    """A server that answers."""

    server: Server
    port: int
    process: subprocess.Popen[bytes]
    mark: str
    log: Path
    started_seconds: float = 0.0
    """from the start of the process to the first answered prediction"""

    def members(self) -> list[int]:
        """Return the pids of all its processes."""
        return [pid for pid in _pids() if self.mark.encode() in _environment(pid)]

    def cpu_seconds(self) -> float:
        """Return the processor time that its processes have used so far."""
        return sum(_cpu_seconds(pid) for pid in self.members())

    def memory(self) -> dict[str, int]:
        """Return bytes: the largest process's resident set, and all processes together with shared pages counted once."""
        sizes = [found for pid in self.members() if (found := _memory(pid))]
        return {"largest_rss": max(rss for rss, _ in sizes), "total_pss": sum(pss for _, pss in sizes), "processes": len(sizes)}

    def freeze(self) -> None:
        """Take all its processes off the processors."""
        for pid in self.members():
            _signal(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        for pid in self.members():
            _signal(pid, signal.SIGCONT)

    def wake(self) -> bool:
        """Thaw it and return whether it answers again: proxies that were stopped too may take their backends for dead at first."""
        self.thaw()
        deadline = time.monotonic() + _WAKE_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.answer(clip(0))[0] == 200:
                    return True
            time.sleep(_POLL_SECONDS)
        return False

    def answer(self, data: bytes) -> tuple[int, bytes]:
        """Return status and body of one prediction. Raises OSError or HTTPException where there is none."""
        kind, body = form(data) if self.server.multipart else ("audio/wav", data)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", self.server.path, body, {"Content-Type": kind})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def stop(self) -> None:
        """End it: politely, then not."""
        self.thaw()
        members = self.members()
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_STOP_SECONDS)
        for pid in {*members, *self.members()}:
            if self.mark.encode() in _environment(pid):  # a pid may have become another's meanwhile
                _signal(pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def running(servers: Sequence[Server], work: Path) -> Iterator[list[Running]]:
    """Give the servers, each answering and frozen; peers that do not start are reported and left out. Ours share one service."""
    ours = [server for server in servers if server.ours]
    others = [server for server in servers if not server.ours]
    started: list[Running] = []
    pool = ThreadPoolExecutor(CORES)
    try:
        # Several at once, as most of a framework's start is waiting.
        for future in [pool.submit(_start_frozen, server, work, started) for server in (*ours[:1], *others)]:
            future.result()
        hosts = [one for one in started if one.server.ours]
        twins = [replace(one, server=server) for one in hosts for server in ours[1:]]
        yield sorted((*started, *twins), key=lambda one: servers.index(one.server))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for one in started:
            one.stop()


def _start_frozen(server: Server, work: Path, started: list[Running]) -> None:
    try:
        found = start(server, work)
    except TimeoutError as error:
        if server.ours:
            raise SystemExit(f"{server.name} {error}") from error
        print(f"  {server.name} {error}", file=sys.stderr)
        return
    started.append(found)
    found.freeze()
    print(f"  {server.name}: answers", file=sys.stderr)


def start(server: Server, work: Path, *, data: str = "data", alone: bool = False, core: int | None = None) -> Running:
    """Start a server and wait for its first prediction. `alone` is our API process without the rest. Raises TimeoutError.

    `core` is the one that all its processes have to do with; None: any.
    """
    port = _free_port()
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    log = work / "logs" / f"{server.framework}-{server.variant}.log"
    log.parent.mkdir(exist_ok=True)
    command = _our_command(server, work / data, port, alone=alone) if server.ours else _peer_command(server, work, port)
    began = time.monotonic()
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [*pinned(core), *command],
            env=environment(work, mark),
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    found = Running(server, port, process, mark, log)
    try:
        _wait(found, began + _START_SECONDS)
    except BaseException:
        found.stop()
        raise
    found.started_seconds = time.monotonic() - began
    return found


def pinned(core: int | None) -> list[str]:
    """Return what stands before a command that has to do with one core."""
    return [] if core is None else ["taskset", "--cpu-list", str(core)]


def _wait(found: Running, deadline: float) -> None:
    data = clip(0)
    while time.monotonic() < deadline and found.process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if found.answer(data)[0] == 200:
                return
        time.sleep(_POLL_SECONDS)
    words = " / ".join(found.log.read_text(errors="replace").splitlines()[-3:])
    raise TimeoutError(f"gives no prediction: {words[-400:]}")


def _our_command(server: Server, data: Path, port: int, *, alone: bool) -> list[str]:
    part = ["api"] if alone else ["serve", "--workers", str(server.processes)]
    return [sys.executable, "-m", "app.cli", *part, "--host", "127.0.0.1", "--port", str(port), "--data-dir", str(data)]


def _peer_command(server: Server, work: Path, port: int) -> list[str]:
    script = HERE / "peers" / f"{server.framework.removesuffix('_peer')}.py"
    if not script.exists():
        script = script.with_name(f"{server.framework}_peer.py")
    options = ["--variant", server.variant, "--port", str(port), "--artifact", str(work / "artifact")]
    return [str(peers_python(work)), str(script), *options]


WAIT_SECONDS = "0.1"  # what an operator sets whose callers give up after 200 ms; the default of 2 suits slower models


def environment(work: Path, mark: str) -> dict[str, str]:
    """Return the environment: no settings of a service, none of the threads that somebody chose for this shell."""
    dropped = ("SYNESTHESIA_", "OMP_", "MKL_", "RAY_", "BENTOML_", "DATABASE_URL", "REDIS_URL", "BLOB_URL", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    own = {
        "SYNESTHESIA_PREDICT_WAIT_SECONDS": WAIT_SECONDS,
        "PYTHONPATH": f"{ROOT}:{HERE / 'peers'}",
        MARK: mark,
        "PEER_PYTHON": str(peers_python(work)),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    path = f"{peers_python(work).parent}:{kept.get('PATH', '')}"
    return kept | own | {"PATH": path, "BENTOML_HOME": str(work / "bentoml"), "RAY_USAGE_STATS_ENABLED": "0"}


def fresh_data(work: Path, name: str) -> Path:
    """Return a copy of the data directory, for a service beside the one that is being measured."""
    target = work / name
    shutil.rmtree(target, ignore_errors=True)
    # Sockets of a broker that ran there are no files to copy.
    shutil.copytree(work / "data", target, ignore=lambda folder, names: [n for n in names if (Path(folder) / n).is_socket()])
    return target


def url_of(found: Running) -> str:
    """Return where it listens."""
    return urllib.parse.urlunsplit(("http", f"127.0.0.1:{found.port}", "", "", ""))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit())


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # gone, or not ours
        return b""


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _memory(pid: int) -> tuple[int, int] | None:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    sizes = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines[1:] if line.endswith("kB")}
    return (sizes["Rss:"], sizes["Pss:"]) if "Rss:" in sizes else None


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
