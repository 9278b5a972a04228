"""Runs the client (load.c) against a running server and reads what it recorded."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from prepare import clip
from servers import Running, pinned

_RECORD = np.dtype([("due", "f8"), ("sent", "f8"), ("done", "f8"), ("status", "i4"), ("bytes", "i4")])
_DRAIN_SECONDS = 5.0
LOST, UNSENT = 0, -1
Row = dict[str, Any]


@dataclass(frozen=True)
class Load:
    """What the client is to do. Rate 0 is a closed loop."""

    connections: int
    seconds: float
    rate: float = 0.0
    drain: float = _DRAIN_SECONDS
    core: int | None = None
    """the one that the client may use; None: any"""


def run(found: Running, work: Path, load: Load) -> Row:
    """Put a load on a server that is not frozen; return counts, percentiles (milliseconds) and processor seconds of both sides."""
    request = work / f"request-{os.getpid()}.bin"
    request.write_bytes(found.server.request(clip(0)))
    before = found.cpu_seconds()
    records, client = _client(found.port, work, request, load)
    server = found.cpu_seconds() - before
    return summary(records, load) | {"server_cpu": server, "client_cpu": client}


def probe_meanwhile(found: Running, work: Path, load: Load) -> "subprocess.Popen[bytes]":
    """Start asking after a server's health; `collect` returns what came of it."""
    request = work / f"probe-{os.getpid()}.bin"
    request.write_bytes(found.server.probe())
    return subprocess.Popen(_command(found.port, work, request, load), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def collect(process: "subprocess.Popen[bytes]", load: Load) -> Row:
    """Wait for the client and return its summary."""
    output, _ = process.communicate()
    return summary(np.frombuffer(output, _RECORD), load)


@contextlib.contextmanager
def awake(found: Running, work: Path, *, warm_seconds: float = 0.3, connections: int = 8) -> Iterator[None]:
    """Thaw a server for the block, after a short load that is not counted."""
    try:
        if not found.wake():
            print(f"  {found.server.name} does not answer any more", file=sys.stderr)
        run(found, work, Load(connections, warm_seconds, drain=2.0))
        yield
    finally:
        found.freeze()


def summary(records: "np.ndarray[Any, Any]", load: Load) -> Row:
    """Return what a run showed. Latencies are of answers with status 200, from when they were due."""
    answered = records[records["status"] == 200]
    latencies = np.sort(1000 * (answered["done"] - answered["due"]))
    inside = answered[answered["done"] <= load.seconds]
    statuses, counts = np.unique(records["status"], return_counts=True)
    percentiles = {f"p{q}": _percentile(latencies, q) for q in (50, 90, 99)}
    return {
        "rps": len(inside) / load.seconds,
        **percentiles,
        "max": float(latencies[-1]) if len(latencies) else None,
        "statuses": {int(status): int(count) for status, count in zip(statuses, counts, strict=True)},
        "within": {str(limit): int((latencies <= limit).sum()) / load.seconds for limit in (200, 1000, 2000)},
        "rate": load.rate,
        "connections": load.connections,
        "seconds": load.seconds,
    }


def _percentile(latencies: "np.ndarray[Any, Any]", q: float) -> float | None:
    return float(np.percentile(latencies, q)) if len(latencies) else None


def _command(port: int, work: Path, request: Path, load: Load) -> list[str]:
    parts = (work / "load", "127.0.0.1", port, request, load.connections, load.seconds, f"{load.rate:.6f}", load.drain)
    return [*pinned(load.core), *map(str, parts)]


def _client(port: int, work: Path, request: Path, load: Load) -> "tuple[np.ndarray[Any, Any], float]":
    done = subprocess.run(_command(port, work, request, load), check=True, capture_output=True)
    return np.frombuffer(done.stdout, _RECORD), float(done.stderr)
