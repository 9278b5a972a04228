"""The rows of the table: each function measures one and returns its raw rows."""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import load
import servers
from check import check_answers
from contestants import NOOPS, SERVERS, Server
from finetune import peer_training, training
from load import Load, Row, awake
from prepare import HERE, ROOT, peers_python
from servers import Running

CLIENTS = 64
_MOST_CLIENTS = 1024  # in flight at once, where the rate is given
_PROBES = 20.0  # questions after the health a second
OURS = "ours"
TUTORIAL = "FastAPI + torch, as in tutorials"


@dataclass(frozen=True)
class Plan:
    """What was asked for on the command line."""

    work: Path
    runs: int
    seconds: float
    overload_seconds: float
    results: Path
    peers: str

    def kept(self, row: str) -> list[Row]:
        """Return the raw rows that a run before this one, or earlier in it, wrote."""
        path = self.results / f"{row}.json"
        return [found for found in json.loads(path.read_text())["rows"] if found["row"] == row] if path.exists() else []

    def servers(self, chosen: Sequence[Server]) -> list[Server]:
        """Return those that are asked for; ours and the floor always."""
        return [server for server in chosen if server.ours or server is NOOPS[0] or self.peers in server.name]


def throughput(plan: Plan) -> list[Row]:
    """S1, and S4 and S9 with the same servers: 64 clients, then one, then the memory that is left in use."""
    rows: list[Row] = []
    with servers.running(plan.servers(SERVERS), plan.work) as found:
        rows += [{"row": "check", **row} for row in check_answers(found, plan.work)]
        for number, one in _interleaved(found, plan.runs):
            with awake(one, plan.work):
                rows.append(_row("S1", one, number, load.run(one, plan.work, Load(CLIENTS, plan.seconds))))
                rows.append(_row("S4", one, number, load.run(one, plan.work, Load(1, plan.seconds / 3))))
        rows += [_row("S9", one, 0, one.memory()) for one in found]
    return rows


def half_load(plan: Plan) -> list[Row]:
    """S3: latency at half of what the best peer answers at most, for the best on torch and the best with our graph inside."""
    kept = plan.kept("S1")
    peers = [name for name in (best_peer(kept, shares_graph=False), best_peer(kept, shares_graph=True)) if name]
    rows: list[Row] = []
    with servers.running(_named([OURS, *peers]), plan.work) as found:
        for peer in peers:
            rate = _capacity(kept, peer) / 2
            for number, one in _interleaved([one for one in found if one.server.name in (OURS, peer)], plan.runs):
                with awake(one, plan.work):
                    measured = load.run(one, plan.work, Load(_MOST_CLIENTS, plan.seconds, rate))
                    rows.append(_row(f"S3 {peer}", one, number, measured))
    return rows


def overload(plan: Plan) -> list[Row]:
    """S5: three times a server's own capacity, and whether it still says how it is. Peers get a quarter of the time."""
    kept = plan.kept("S1")
    names = [name for name in (OURS, best_peer(kept, shares_graph=False), best_peer(kept, shares_graph=True), TUTORIAL) if name]
    rows: list[Row] = []
    for server in _named(dict.fromkeys(names)):
        seconds = plan.overload_seconds if server.ours else max(5.0, plan.overload_seconds / 4)
        with servers.running([server], plan.work) as found:
            rows += [_overloaded("S5", one, plan, seconds) for one in found]
    return rows


def overload_apart(plan: Plan) -> list[Row]:
    """S5 for ours, with one core for the server and another one for its clients, so that asking takes nothing from answering."""
    own, clients, *_ = sorted(os.sched_getaffinity(0))
    [ours] = _named([OURS])
    one = servers.start(replace(ours, processes=1), plan.work, core=own)
    try:
        one.freeze()
        return [_overloaded("S5 apart", one, plan, plan.overload_seconds, core=clients)]
    finally:
        one.stop()


def _overloaded(name: str, one: Running, plan: Plan, seconds: float, *, core: int | None = None) -> Row:
    closed, probes = Load(CLIENTS, plan.seconds, core=core), Load(64, seconds, _PROBES, core=core)
    with awake(one, plan.work):
        # Measured anew, by the same clients' way: a capacity of another day would be three times something else.
        capacity = max(load.run(one, plan.work, closed)["rps"] for _ in range(3))  # the first finds it cold
        probe = load.probe_meanwhile(one, plan.work, probes)
        measured = load.run(one, plan.work, Load(_MOST_CLIENTS, seconds, 3 * max(capacity, 1.0), core=core))
        health = load.collect(probe, probes)
        time.sleep(0.5)
        after = load.run(one, plan.work, closed)["rps"]
    return _row(name, one, 0, measured | {"capacity": capacity, "health": health, "capacity_after": after})


def framework_cost(plan: Plan) -> list[Row]:
    """S6: the same bodies and answers without a model."""
    rows: list[Row] = []
    with servers.running(plan.servers(NOOPS), plan.work) as found:
        for number, one in _interleaved(found, plan.runs):
            with awake(one, plan.work):
                rows.append(_row("S6", one, number, load.run(one, plan.work, Load(CLIENTS, plan.seconds / 2))))
    return rows


def beside_training(plan: Plan) -> list[Row]:
    """S7: latency at a quarter of a server's capacity, alone and while a fine-tune runs on the same machine."""
    rows: list[Row] = []
    for name in (OURS, "LitServe, tuned"):
        rate = max(20.0, _capacity(plan.kept("S1"), name) / 4)
        with servers.running(_named([name]), plan.work) as found:
            for one in found:
                with awake(one, plan.work):
                    rows += _latencies("S7 alone", one, plan, rate)
                    trains = training(one, plan.work) if one.server.ours else peer_training(plan.work)
                    with trains:
                        rows += _latencies("S7 beside training", one, plan, rate)
    return rows


def _latencies(row: str, one: Running, plan: Plan, rate: float) -> list[Row]:
    return [_row(row, one, number, load.run(one, plan.work, Load(_MOST_CLIENTS, plan.seconds, rate))) for number in range(plan.runs)]


def cold_start(plan: Plan) -> list[Row]:
    """S8: from the start of the process to its first prediction. Ours is the API process alone: predictions need no other."""
    servers.fresh_data(plan.work, "data-cold")
    chosen = [server for server in SERVERS if server.name == OURS or server.variant in ("default", "engine")]
    rows: list[Row] = []
    for number in range(plan.runs):
        for server in plan.servers(chosen):
            if number and (server.framework == "ray" or server.variant == "engine"):
                continue  # once: Ray takes longer than all others together, and engines are no part of what was set out to be shown
            with contextlib.suppress(TimeoutError):
                rows.append(_cold(server, plan.work, number))
    return rows


def _cold(server: Server, work: Path, number: int) -> Row:
    one = servers.start(server, work, data="data-cold", alone=True)
    try:
        return _row("S8", one, number, {"seconds_to_first": one.started_seconds, **one.memory()})
    finally:
        one.stop()


def parts(plan: Plan) -> list[Row]:
    """F1 to F4, and what the limit is computed from: measured in one process with one thread, in the peers' environment."""
    environment = servers.environment(plan.work, "parts") | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [peers_python(plan.work), HERE / "parts.py", "--artifact", plan.work / "artifact", "--runs", str(plan.runs)]
    done = subprocess.run(command, check=True, capture_output=True, env=environment, cwd=ROOT, text=True)
    return list(json.loads(done.stdout))


ROWS: dict[str, Callable[[Plan], list[Row]]] = {
    "parts": parts,
    "S1": throughput,
    "S3": half_load,
    "S5": overload,
    "S5-apart": overload_apart,
    "S6": framework_cost,
    "S7": beside_training,
    "S8": cold_start,
}


def median(rows: Sequence[Row], server: str, field: str) -> float | None:
    """Return the median over runs, None where the server has no number there."""
    values = [row[field] for row in rows if row["server"] == server and row.get(field) is not None]
    return statistics.median(values) if values else None


def best_peer(rows: Sequence[Row], *, shares_graph: bool) -> str | None:
    """Return the name of the peer with the most answers a second in S1's rows; None where none was measured."""
    chosen = [server for server in SERVERS if not server.ours and server.shares_graph == shares_graph]
    rps, name = max((median(rows, server.name, "rps") or 0.0, server.name) for server in chosen)
    return name if rps else None


def _capacity(rows: Sequence[Row], name: str) -> float:
    return median(rows, name, "rps") or 100.0


def _named(names: "Sequence[str] | dict[str, None]") -> list[Server]:
    return [server for server in SERVERS if server.name in names]


def _interleaved(found: Sequence[Running], runs: int) -> Iterator[tuple[int, Running]]:
    """Yield each server once a round, so that what the machine does meanwhile falls on all alike."""
    for number in range(runs):
        print(f"  run {number + 1} of {runs}", file=sys.stderr)
        for one in found:
            yield number, one


def _row(row: str, one: Running, number: int, measured: Row) -> Row:
    return {"row": row, "server": one.server.name, "run": number, **measured}
