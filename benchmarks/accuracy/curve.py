"""Accuracy over the number of clips a word: what carried layers are worth where recordings are few.

    .venv/bin/python benchmarks/accuracy/curve.py --data FOLDER --work FOLDER [--clips 5,10,20] [--seeds 3] [--arms scratch,bundled,…]

Every run draws its clips by seed from the training speakers, trains with the default recipe to its last step (no choice by the measured
items), and is measured on the validation and test items, whose speakers it has never heard. Two cores do two runs at a time, one thread
each. Rows are added to `--work`/curve.jsonl as they come, and what is there is not run again; the table is made from all of them.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from arms import ARMS, Case
from runs import publish, run_missing
from sources import prepared_sources
from tables import curve_report

HERE = Path(__file__).parent
_ARMS = ",".join(arm for arm in ARMS if arm != "arabic")  # which would be trained on what is measured
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
    parser.add_argument("--arms", default=_ARMS, help=f"some of {', '.join(ARMS)}")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--results", type=Path, default=HERE.parent / "results")
    arguments = parser.parse_args()
    clips = tuple(None if word == "all" else int(word) for word in arguments.clips.split(","))
    plan = Plan(arguments.archive, clips, arguments.seeds, tuple(arguments.arms.split(",")))
    prepared_sources(arguments.data, arguments.work, plan.archive, plan.arms)
    rows = run_missing(plan.cases(), arguments.work, arguments.work / "curve.jsonl", arguments.processes)
    shown = [row for row in rows if row["archive"] == plan.archive]
    publish(curve_report(plan.archive, shown), shown, arguments.results / f"curve-{plan.archive}.md")


if __name__ == "__main__":
    main()
