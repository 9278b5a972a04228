"""Accuracy over the number of clips a word: what carried layers are worth where recordings are few.

    .venv/bin/python benchmarks/accuracy/curve.py --data FOLDER --work FOLDER [--clips 5,10,20] [--seeds 3] [--arms scratch,bundled,…]

Every run draws its clips by seed from the training speakers, trains with the default recipe to its last step (no choice by the measured
items), and is measured on the validation and test items, whose speakers it has never heard. Two cores do two runs at a time, one thread
each. Rows are added to `--work`/curve.jsonl as they come, and what is there is not run again; the table is made from all of them.
"""

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from arms import ARMS, Case, run_case
from rich.progress import Progress
from sources import prepared_sources
from tables import curve_report

HERE = Path(__file__).parent
ARCHIVES = ("speech-commands-arabic", "spoken-digits-english")


@dataclass(frozen=True)
class Plan:
    """What is to be run."""

    archive: str
    clips: tuple[int | None, ...]  # a word; None: all there are
    seeds: int
    arms: tuple[str, ...]

    def cases(self) -> list[Case]:
        """Return all cases, the cheap ones first."""
        order = sorted(self.clips, key=lambda clips: clips or 10**9)
        return [Case(self.archive, arm, clips, seed) for clips in order for seed in range(self.seeds) for arm in self.arms]


def main() -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the archives")
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps packed data, sources and raw rows")
    parser.add_argument("--archive", choices=ARCHIVES, default=ARCHIVES[0])
    parser.add_argument("--clips", default="1,2,5,10,20,50,all", help="clips a word")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", default=",".join(ARMS), help=f"some of {', '.join(ARMS)}")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--results", type=Path, default=HERE.parent / "results")
    arguments = parser.parse_args()
    clips = tuple(None if word == "all" else int(word) for word in arguments.clips.split(","))
    plan = Plan(arguments.archive, clips, arguments.seeds, tuple(arguments.arms.split(",")))
    prepared_sources(arguments.data, arguments.work, plan.archive, plan.arms)
    rows = _run(plan, arguments.work, arguments.processes)
    target = arguments.results / f"curve-{plan.archive}.md"
    target.write_text(curve_report(plan.archive, [row for row in rows if row["archive"] == plan.archive]), encoding="utf-8")
    print(target.read_text(encoding="utf-8"))


def _run(plan: Plan, work: Path, processes: int) -> list[dict[str, object]]:
    raw = work / "curve.jsonl"
    rows = [json.loads(line) for line in raw.read_text().splitlines()] if raw.exists() else []
    done = {(row["archive"], row["arm"], row["clips"], row["seed"]) for row in rows}
    cases = [case for case in plan.cases() if (case.archive, case.arm, case.clips, case.seed) not in done]
    spawn = multiprocessing.get_context("spawn")
    with Progress() as bar, ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        task = bar.add_task("runs", total=len(cases))
        for future in as_completed([pool.submit(run_case, case, work) for case in cases]):
            rows.append(future.result())
            with raw.open("a") as sink:
                sink.write(json.dumps(rows[-1]) + "\n")
            bar.console.print({name: rows[-1][name] for name in ("arm", "clips", "seed", "accuracy", "seconds")})
            bar.advance(task)
    return rows


if __name__ == "__main__":
    main()
