"""From raw rows to the table: medians with their spread, and ratios ours : peer : limit."""

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from contestants import CORES
from load import Row
from rows import OURS, ROWS, TUTORIAL, best_peer, median

_FLOOR = "bare ASGI on uvicorn"
_APART = ", clients on a core of their own"
_RIFF, _LOG_MEL = "ours (models.riff)", "ours (models.features, numpy)"
Lines = list[str]


def report(folder: Path) -> str:
    """Return the table in markdown, of all raw rows in `folder`."""
    kept = {name: json.loads((folder / f"{name}.json").read_text()) for name in ROWS if (folder / f"{name}.json").exists()}
    rows = [row for document in kept.values() for row in document["rows"]]
    sections = [section for write in _SECTIONS for section in write(rows)]
    return "\n".join(["# Serving", "", *_sources(kept), "", *_goals(rows), *sections])


def _sources(kept: dict[str, Row]) -> Lines:
    lines = [
        "Command: `.venv/bin/python benchmarks/serving/run.py`. Client and servers share the machine; the client is a C program whose",
        "processor time is counted apart. One second of 16 kHz 16-bit sound in, five labels out; MobileNetV3-small on 64 × 101 log-mels,",
        "the same weights everywhere, answers compared before anything was timed. Medians, with the least and the most of all runs.",
        "",
    ]
    for name, document in kept.items():
        told = document["measured"]
        lines.append(
            f"- {name}: {told['at']}, commit {told['commit']}, {told['took_seconds']:.0f} s, load average {told['load_average'][0]:.1f}"
        )
    told = next(iter(kept.values()))["measured"]
    versions = ", ".join(f"{name} {version}" for name, version in {**told["ours"], **told["peers"]}.items())
    return [*lines, "", f"{told['machine']}, Python {told['python']}; {versions}."]


def _goals(rows: Sequence[Row]) -> Lines:
    """Return what the service set out to show, whether it does or not."""
    s1, s8 = _of(rows, "S1"), _of(rows, "S8")
    torch, inside = best_peer(s1, shares_graph=False), best_peer(s1, shares_graph=True)
    beside = _divided(median(_of(rows, "S7 beside training"), OURS, "p99"), median(_of(rows, "S7 alone"), OURS, "p99"))
    found = (
        (f"requests/s, against {TUTORIAL}", "≥ 8", _ratio(s1, OURS, TUTORIAL, "rps")),
        (f"requests/s, against the best peer on torch ({torch})", "≥ 2", _ratio(s1, OURS, torch, "rps")),
        (f"requests/s, against the best with our graph inside ({inside})", "≥ 1.3", _ratio(s1, OURS, inside, "rps")),
        ("requests/s, share of the computed limit", "≥ 0.5", _divided(median(s1, OURS, "rps"), _limit(rows))),
        *((f"p99 at half of {peer}'s top load, share of its p99", "≤ 0.33", _at_half(rows, peer)) for peer in (torch, inside)),
        ("one client, p50, ms", "≤ 1.5", median(_of(rows, "S4"), OURS, "p50")),
        *(
            found
            for name, where in (("S5 apart", _APART), ("S5", ""))
            for found in (
                (f"three times capacity{where}: answers within 2 s, share of capacity", "≥ 0.95", _goodput(rows, name)),
                (f"health p99 meanwhile{where}, ms", "< 100", _health(rows, name)),
            )
        ),
        ("p99 beside a fine-tune, times p99 alone", "≤ 2", beside),
        ("process start to first prediction, s", "≤ 1.5", median(s8, OURS, "seconds_to_first")),
        ("all memory of the API process, share of FastAPI + torch's", "≤ 0.25", _ratio(s8, OURS, TUTORIAL, "total_pss")),
        ("WAV reader, times as fast as soundfile (16 bit)", "≥ 10", _ratio(_of(rows, "F1 PCM_16"), "soundfile", _RIFF, "us")),
        ("log-mel's time, share of torchaudio's", "≤ 1", _ratio(_of(rows, "F3"), _LOG_MEL, "torchaudio MelSpectrogram", "us")),
    )
    return ["## Goals", "", *_table(("what", "goal", "measured"), [(what, goal, _number(value)) for what, goal, value in found]), ""]


def _requests(rows: Sequence[Row]) -> Lines:
    s1, s4, s9 = _of(rows, "S1"), _of(rows, "S4"), _of(rows, "S9")
    lines = [
        (
            name,
            _spread(s1, name, "rps"),
            _number(_per_cpu_second(s1, name)),
            _number(median(s1, name, "p99")),
            _number(_ratio(s1, OURS, name, "rps")),
            _spread(s4, name, "p50"),
            _failures(s1, name),
            _megabytes(s9, name),
        )
        for name in _names(s1)
    ]
    columns = (
        "server", "requests/s, 64 clients", "a server-CPU-second", "p99 ms", "ours : it", "one client, p50 ms", "not answered", "memory MB",
    )  # fmt: skip
    lines.append(("computed limit", _number(_limit(rows)), _number(_divided(1e6, _limit_microseconds(rows))), *("–",) * 5))
    text = (
        "The limit: bare ASGI's processor time for the same body, plus decoding, plus the graph at its best batch size, plus the client's "
        "own time, on all cores. Memory: all processes of the server, shared pages once. Processor time includes a server's helpers."
    )
    return _section("S1, S4, S9: requests a second, one client, memory", columns, lines, text) if s1 else []


def _half(rows: Sequence[Row]) -> Lines:
    lines = []
    for group in dict.fromkeys(row["row"] for row in rows if row["row"].startswith("S3 ")):
        s3 = _of(rows, group)
        rate = f"{s3[0]['rate']:.0f}, half of {group.removeprefix('S3 ')}"
        lines += [(rate, name, *(_spread(s3, name, field) for field in ("p50", "p99", "max")), _failures(s3, name)) for name in _names(s3)]
    text = "Requests at fixed times; latency counts from when a request was due."
    return _section("S3: half of a peer's top load", ("requests/s", "server", "p50 ms", "p99 ms", "max ms", "not answered"), lines, text)


def _overload(rows: Sequence[Row]) -> Lines:
    lines = [
        (
            row["server"] + _APART * (row["row"] != "S5"),
            f"{row['seconds']:.0f}",
            *(_number(row[field]) for field in ("capacity", "rate")),
            *(_number(row["within"][limit]) for limit in ("200", "1000", "2000")),
            _number(row["max"]),
            _statuses([row]),
            _number(row["health"]["p99"]),
            _statuses([row["health"]]),
            _number(row["capacity_after"]),
        )
        for row in (*_of(rows, "S5"), *_of(rows, "S5 apart"))
    ]
    within = ("answers/s within 200 ms", "1 s", "2 s", "latest answer ms")
    columns = ("server", "seconds", "capacity", "asked a second", *within, "statuses", "health p99 ms", "health statuses", "capacity after")
    text = "Statuses: 0 is a request without a whole answer, -1 one that found 1,024 others in flight until the end."
    return _section("S5: three times its capacity", columns, lines, text)


def _framework(rows: Sequence[Row]) -> Lines:
    s6 = _of(rows, "S6")
    lines = [
        (name, _spread(s6, name, "rps"), _number(_divided(1e6, _per_cpu_second(s6, name))), _number(median(s6, name, "p99")))
        for name in _names(s6)
    ]
    text = (
        "The same 32 kB in and the same answer out. Ours decodes, checks and judges the sound all the same; only the network is left out."
    )
    return _section("S6: no model", ("server", "requests/s", "server CPU µs a request", "p99 ms"), lines, text)


def _training(rows: Sequence[Row]) -> Lines:
    alone, beside = _of(rows, "S7 alone"), _of(rows, "S7 beside training")
    lines = [
        (
            name,
            _number(median(alone, name, "rate")),
            *(_spread(found, name, field) for field in ("p50", "p99") for found in (alone, beside)),
            _failures(beside, name),
        )
        for name in _names(alone)
    ]
    columns = ("server", "requests/s", "p50 ms alone", "beside training", "p99 ms alone", "beside training", "not answered")
    text = "A quarter of each server's capacity. Ours trains as a job of the service, LitServe beside a script that is started plainly."
    return _section("S7: while a fine-tune runs", columns, lines, text)


def _cold(rows: Sequence[Row]) -> Lines:
    s8 = _of(rows, "S8")
    lines = [
        (
            name,
            _spread(s8, name, "seconds_to_first"),
            _megabytes(s8, name, "largest_rss"),
            _megabytes(s8, name),
            _number(_ratio(s8, name, OURS, "seconds_to_first")),
        )
        for name in _names(s8)
    ]
    columns = ("server", "seconds to first prediction", "largest process MB", "all processes MB", "it : ours")
    return _section(
        "S8: from process start to first prediction", columns, lines, "Ours is one API process; nothing else is needed to predict."
    )


def _parts(rows: Sequence[Row]) -> Lines:
    groups = dict.fromkeys(row["row"] for row in rows if "us" in row)
    lines = []
    for group in groups:
        of_group = [row for row in rows if row["row"] == group]
        first = of_group[0]["server"]
        differences = [row["difference"] for row in of_group if "difference" in row]
        for name in _names([row for row in of_group if "us" in row]):
            note = f"differs by {differences[0]:.1g} from the peer" if differences and name == first else ""
            lines.append((group, name, _spread(of_group, name, "us"), _number(_ratio(of_group, name, first, "us")), note))
    columns = ("row", "what", "µs", "it : first", "")
    return _section(
        "F1 to F4 and the engine, one thread",
        columns,
        lines,
        "F1 bytes to samples, F2 44.1 to 16 kHz, F3 log-mels, F4 bytes to probabilities.",
    )


_SECTIONS: tuple[Callable[[Sequence[Row]], Lines], ...] = (_requests, _half, _overload, _framework, _training, _cold, _parts)


def _limit_microseconds(rows: Sequence[Row]) -> float | None:
    """Return the least server time a request can take: HTTP floor + decoding + the graph's best time a sound."""
    http = _divided(1e6, _per_cpu_second(_of(rows, "S6"), _FLOOR))
    decode = median(_of(rows, "F1 PCM_16"), _RIFF, "us")
    engine = _of(rows, "engine")
    graph = min((value / int(name.split()[1]) for name in _names(engine) if (value := median(engine, name, "us"))), default=None)
    return None if http is None or decode is None or graph is None else http + decode + graph


def _limit(rows: Sequence[Row]) -> float | None:
    """Return the requests a second that all cores could do, the client's share taken off."""
    server = _limit_microseconds(rows)
    ours = [row for row in _of(rows, "S1") if row["server"] == OURS]
    client = [1e6 * row["client_cpu"] / max(1, _answered(row)) for row in ours]
    return None if server is None or not client else CORES * 1e6 / (server + statistics.median(client))


def _goodput(rows: Sequence[Row], name: str) -> float | None:
    ours = [row for row in _of(rows, name) if row["server"] == OURS]
    # Of the larger of both capacities: the one before is measured on a server that has hardly begun.
    return _divided(ours[0]["within"]["2000"], max(ours[0]["capacity"], ours[0]["capacity_after"])) if ours else None


def _health(rows: Sequence[Row], name: str) -> float | None:
    ours = [row for row in _of(rows, name) if row["server"] == OURS]
    return ours[0]["health"]["p99"] if ours else None


def _at_half(rows: Sequence[Row], peer: str | None) -> float | None:
    return _ratio(_of(rows, f"S3 {peer}"), OURS, peer, "p99")


def _of(rows: Sequence[Row], row: str) -> list[Row]:
    return [found for found in rows if found["row"] == row]


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["server"] for row in rows))


def _answered(row: Row) -> int:
    return int(row["statuses"].get("200", row["statuses"].get(200, 0)))


def _per_cpu_second(rows: Sequence[Row], name: str) -> float | None:
    found = [_answered(row) / row["server_cpu"] for row in rows if row["server"] == name and row["server_cpu"] > 0]
    return statistics.median(found) if found else None


def _statuses(rows: Iterable[Row]) -> str:
    total: dict[str, int] = {}
    for row in rows:
        for status, count in row["statuses"].items():
            total[str(status)] = total.get(str(status), 0) + count
    return ", ".join(f"{status}: {count}" for status, count in sorted(total.items()))


def _failures(rows: Sequence[Row], name: str) -> str:
    """Return what came instead of a 200, with its count."""
    failed = [{status: n for status, n in row["statuses"].items() if str(status) != "200"} for row in rows if row["server"] == name]
    return _statuses({"statuses": statuses} for statuses in failed) or "0"


def _ratio(rows: Sequence[Row], above: str, below: str | None, field: str) -> float | None:
    return _divided(median(rows, above, field), median(rows, below, field)) if below else None


def _divided(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _spread(rows: Sequence[Row], name: str, field: str) -> str:
    values = [row[field] for row in rows if row["server"] == name and row.get(field) is not None]
    if not values:
        return "–"
    middle = _number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({_number(min(values))} to {_number(max(values))})"


def _megabytes(rows: Sequence[Row], name: str, field: str = "total_pss") -> str:
    value = median(rows, name, field)
    return "–" if value is None else f"{value / 2**20:.0f}"


def _number(value: float | None) -> str:
    """Return three significant digits, no more than the spread allows."""
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1e}"


def _section(title: str, columns: Sequence[str], lines: Sequence[Sequence[str]], text: str) -> Lines:
    return [f"## {title}", "", *([text, ""] if text else []), *_table(columns, lines), ""] if lines else []


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Lines:
    return [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)]
