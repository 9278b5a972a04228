"""What `auto` loses by choosing: the accuracy of the better of scratch and bundled, less that of the arm its race picks.

    .venv/bin/python benchmarks/accuracy/regret.py --data FOLDER --work FOLDER

For every case that curve.py and speakers.py have run both arms of (their rows in `--work`): the race of a job on the same clips, with the
same seed. What it picks is trained as the arm was, so that arm's accuracy is the job's. And, as a control, a race for a source of the
user's own that can't help: one that has learnt random labels.
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from arms import ARMS, Arm, Case, prepared, sides
from runs import kept_rows, publish, run_missing
from sources import dataset_folder, prepared_sources
from tables import Row, regret_report

from models.dataset import PackedDataset
from worker.foundations import SCRATCH, Foundation, Hooks, Track

HERE = Path(__file__).parent
_USELESS = "random_labels"
# In order of belief, as a job has them: the bundled backbone has been measured, the user's source has to show what it is worth.
_NAMES = {"auto": ("bundled", SCRATCH), _USELESS: (SCRATCH, _USELESS)}


def main() -> None:
    """Hold the races that are missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the archives")
    parser.add_argument("--work", type=Path, required=True, help="folder that curve.py and speakers.py have worked in")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--results", type=Path, default=HERE.parent / "results")
    arguments = parser.parse_args()
    measured = _measured(arguments.work)
    for archive in sorted({pair[0] for pair in measured}):
        prepared_sources(arguments.data, arguments.work, archive, [_USELESS])
    cases = [Case(*key) for pair in measured for key in (pair, (pair[0], _USELESS, *pair[2:]))]
    rows = run_missing(cases, arguments.work, arguments.work / "regret.jsonl", arguments.processes, run=race_case)
    shown = [row for row in rows if Case(*_key(row)) in cases]
    publish(regret_report(shown, measured), shown, arguments.results / "regret.md")


def _measured(work: Path) -> dict[tuple[Any, ...], dict[str, float]]:
    """Return case (with the arm `auto`) → arm → accuracy, for the cases both of whose arms have been run."""
    found: dict[tuple[Any, ...], dict[str, float]] = {}
    for row in _rows(work):
        if row["arm"] in _NAMES["auto"]:
            archive, _, *rest = _key(row)
            found.setdefault((archive, "auto", *rest), {})[row["arm"]] = row["accuracy"]
    return {key: arms for key, arms in found.items() if len(arms) == len(_NAMES["auto"])}


def _rows(work: Path) -> Iterator[Row]:
    for name in ("curve.jsonl", "speakers.jsonl"):
        yield from kept_rows(work / name)


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in ("archive", "arm", "clips", "seed", "speaker"))


def race_case(case: Case, work: Path) -> Row:
    """Hold one race and return its row."""
    torch.set_num_threads(1)
    dataset = PackedDataset.open(dataset_folder(work, case.archive))
    train, _ = sides(dataset, case)
    names = _NAMES[case.arm]
    arms: dict[str, Foundation] = {}
    for name in names:
        arm = ARMS[name]
        assert isinstance(arm, Arm)
        arms[name], data = prepared(arm, case, dataset, train, work)
    hooks = Hooks(lambda *_, **__: None, lambda _: None, lambda _: None, lambda: False)
    track = Track(dataset, data, torch.device("cpu"), hooks, case.seed)
    verdict = track.race(arms)
    return {**asdict(case), "chosen": verdict.winner, "race": {result.name: result.accuracy for result in verdict.results}}


if __name__ == "__main__":
    main()
