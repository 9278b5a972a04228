"""Runs cases, several at once, and keeps a line of JSON for each, so that what has been run is not run again."""

import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from arms import Case, run_case
from rich.progress import Progress
from tables import Row

_SHOWN = ("arm", "clips", "speaker", "seed", "accuracy", "seconds", "chosen", "regret")


def kept_rows(kept: Path) -> list[Row]:
    """Return the rows that earlier runs have added to a file, none where there is no such file yet."""
    return [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []


def keep_row(kept: Path, row: Row) -> None:
    """Add a row to the file."""
    with kept.open("a") as sink:
        sink.write(json.dumps(row) + "\n")


def publish(report: str, rows: Sequence[Row], target: Path) -> None:
    """Write a report and, beside it, the rows that it was made of; show it."""
    target.write_text(report, encoding="utf-8")
    target.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print(report)


def run_missing(cases: Sequence[Case], work: Path, kept: Path, processes: int, run: Callable[[Case, Path], Row] = run_case) -> list[Row]:
    """Run the cases that `kept` has no row of, add theirs to it, and return all its rows."""
    rows = kept_rows(kept)
    done = {Case(row["archive"], row["arm"], row["clips"], row["seed"], row.get("speaker")) for row in rows}
    missing = [case for case in cases if case not in done]
    spawn = multiprocessing.get_context("spawn")
    with Progress() as bar, ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        task = bar.add_task("runs", total=len(missing))
        for future in as_completed([pool.submit(run, case, work) for case in missing]):
            rows.append(future.result())
            keep_row(kept, rows[-1])
            bar.console.print({name: rows[-1][name] for name in _SHOWN if name in rows[-1]})
            bar.advance(task)
    return rows
