"""The serving benchmarks: ours beside FastAPI, LitServe, BentoML, mosec and Ray Serve, on the same weights, bytes and cores.

    .venv/bin/python benchmarks/serving/run.py [--only S1,S3,…] [--seconds 1.5] [--runs 5] [--peers WORDS] [--work FOLDER]

The first call installs the peers into an environment of their own below --work. Raw rows go to results/serving/, the table to
results/serving.md; rows that are not asked for keep what an earlier call wrote, with its own date and commit.
"""

import argparse
import datetime as dt
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the rows use the service's client

from prepare import REQUIREMENTS, prepare  # noqa: E402
from report import report  # noqa: E402
from rows import ROWS, Plan  # noqa: E402

from benchmarks.machine import processor  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
_LIBRARIES = ("onnxruntime", "numpy", "uvicorn", "fastapi", "torch")
_PEERS = ("litserve", "bentoml", "mosec", "ray", "fastapi", "uvicorn", "torch", "torchaudio", "timm", "onnxruntime", "librosa")


def main() -> None:
    """Measure what is asked for, write raw rows after each row, and the table."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _leave)
    plan = Plan(
        work=arguments.work.absolute(),
        runs=arguments.runs,
        seconds=arguments.seconds,
        overload_seconds=arguments.overload_seconds,
        results=arguments.results.absolute() / "serving",
        peers=arguments.peers,
    )
    prepare(plan.work)
    plan.results.mkdir(parents=True, exist_ok=True)
    for name in arguments.only or ROWS:
        began = time.monotonic()
        print(f"{name} …", file=sys.stderr)
        rows = ROWS[name](plan)
        document = {"measured": _measured(arguments, time.monotonic() - began), "rows": rows}
        (plan.results / f"{name}.json").write_text(json.dumps(document, indent=1))
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        # Row by row: a quarter of an hour's work is not lost with its last minute.
        table = report(plan.results)
        (arguments.results / "serving.md").write_text(table, encoding="utf-8")
    print((arguments.results / "serving.md").read_text(encoding="utf-8"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=_names, help=f"rows, separated by commas: {', '.join(ROWS)}")
    parser.add_argument("--seconds", type=float, default=1.5, help="of one run of one server")
    parser.add_argument(
        "--overload-seconds", type=float, default=60.0, help="of the row with three times the capacity; peers get a quarter"
    )
    parser.add_argument("--runs", type=int, default=5, help="of each server, interleaved")
    parser.add_argument("--peers", default="", help="only peers whose names hold this; ours always")
    parser.add_argument("--work", type=Path, default=ROOT / ".cache" / "serving", help="client, model, data directory, peers")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


def _names(words: str) -> list[str]:
    names = words.split(",")
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such row: {', '.join(unknown)}")
    return names


def _measured(arguments: argparse.Namespace, seconds: float) -> dict[str, object]:
    """Return when, where and from what the rows of one call come."""
    return {
        "at": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M"),
        "took_seconds": round(seconds, 1),
        "commit": _commit(),
        "machine": f"{processor()}, {len(os.sched_getaffinity(0))} cores",
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        "ours": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        "peers": _pinned(),
        "options": {"runs": arguments.runs, "seconds": arguments.seconds, "overload_seconds": arguments.overload_seconds},
    }


def _pinned() -> dict[str, str]:
    pairs = (line.split(" ")[0].split("==") for line in REQUIREMENTS.read_text().splitlines() if "==" in line)
    return {name: found for name, found in pairs if name in _PEERS}


def _commit() -> str:
    found = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _leave(number: int, frame: FrameType | None) -> None:
    """End through the blocks that stop the servers."""
    del frame
    signal.signal(number, signal.SIG_IGN)  # a second one, as `timeout` sends, must not end the ending
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
