"""Words of a speaker that no run has heard: each speaker of spoken-digits-english left out in turn, trained on the others' clips.

    .venv/bin/python benchmarks/accuracy/speakers.py --data FOLDER --work FOLDER [--seeds 1] [--arms scratch,bundled,…]

As in curve.py, a run has the default recipe and its last step. `arabic` begins with a speech model of the Arabic words.
"""

import argparse
from pathlib import Path

from arms import Case
from runs import publish, run_missing
from sources import prepared_sources
from tables import speakers_report

HERE = Path(__file__).parent
ARCHIVE, SPEAKERS = "spoken-digits-english", 4
ARMS = ("scratch", "bundled", "mnist", "arabic", "mfcc_svm")


def main() -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the archives")
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps packed data, sources and raw rows")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--arms", default=",".join(ARMS), help=f"some of {', '.join(ARMS)}")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--results", type=Path, default=HERE.parent / "results")
    arguments = parser.parse_args()
    arms = arguments.arms.split(",")
    prepared_sources(arguments.data, arguments.work, ARCHIVE, arms)
    seeds, speakers = range(arguments.seeds), range(SPEAKERS)
    cases = [Case(ARCHIVE, arm, None, seed, speaker) for seed in seeds for arm in arms for speaker in speakers]
    rows = run_missing(cases, arguments.work, arguments.work / "speakers.jsonl", arguments.processes)
    publish(speakers_report(ARCHIVE, rows), rows, arguments.results / f"speakers-{ARCHIVE}.md")


if __name__ == "__main__":
    main()
