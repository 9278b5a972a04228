"""From archives to accuracies over HTTP: reading, pretraining on pictures, fine-tuning on sounds with and without the carried layers.

    .venv/bin/python benchmarks/accuracy/main_job.py --data FOLDER [--only WORDS] [--results FILE]

Starts a service of its own on a fresh folder. Every row is one job of that service; seconds are from its start to its end, everything
included (process start, reading, training, evaluation, export).
"""

import argparse
import datetime as dt
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.client import Client, Json
from app.commands.progress import watch
from app.demo.service import running_service
from benchmarks.machine import machine

RESULTS = Path(__file__).parents[1] / "results"
ARCHIVES = ("mnist-images", "spoken-digits-english", "speech-commands-arabic")
PICTURES, DIGITS, WORDS = ARCHIVES
Found = tuple["Row", Json, Json]  # a row, its job, its model's evaluation
_LIBRARIES = ("torch", "numpy", "onnxruntime", "fastapi", "celery")


@dataclass(frozen=True)
class Row:
    """One job of the benchmark; `base` names another row whose model it builds on."""

    name: str
    archive: str
    body: Json = field(default_factory=dict)
    base: str | None = None


ROWS = (
    Row("words, default request", WORDS),
    Row("words, from scratch", WORDS, {"transfer": {"mode": "none"}}),
    Row("pretrain resnet_tiny", PICTURES, {"base_model": "resnet_tiny"}),
    Row("words, full", WORDS, {"transfer": {"mode": "full"}}, "pretrain resnet_tiny"),
    Row("words, partial until layer2", WORDS, {"transfer": {"mode": "partial", "until": "layer2"}}, "pretrain resnet_tiny"),
    Row("digits, from scratch", DIGITS, {"base_model": "resnet_tiny", "transfer": {"mode": "none"}}),
    Row("digits, full", DIGITS, {"transfer": {"mode": "full"}}, "pretrain resnet_tiny"),
    Row("digits, partial until layer2", DIGITS, {"transfer": {"mode": "partial", "until": "layer2"}}, "pretrain resnet_tiny"),
    Row(
        "pretrain seed_cnn", PICTURES, {"base_model": "seed_cnn", "hyperparameters": {"epochs": 1, "optimizer": "adam", "max_seconds": 150}}
    ),
    Row("digits, seed_cnn full", DIGITS, {"transfer": {"mode": "full"}, "hyperparameters": {"max_seconds": 90}}, "pretrain seed_cnn"),
)


def main() -> None:
    """Run all rows, or those that are named, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the archives")
    parser.add_argument("--only", default="", help="rows whose names hold this, and what they build on")
    parser.add_argument("--results", type=Path, default=RESULTS / "main-job.md")
    arguments = parser.parse_args()
    rows = _chosen(arguments.only)
    with (
        tempfile.TemporaryDirectory(prefix="synesthesia-benchmark-") as folder,
        running_service(Path(folder)) as url,
        Client(url) as client,
    ):
        used = {row.archive for row in rows}
        datasets = {name: _read(client, arguments.data / f"{name}.zip") for name in ARCHIVES if name in used}
        for found in _run(client, rows, datasets):  # written row by row: an hour's work is not lost with its last minute
            arguments.results.write_text(report(datasets, found), encoding="utf-8")
    print(arguments.results.read_text(encoding="utf-8"))


def _chosen(words: str) -> list[Row]:
    wanted = {row.name for row in ROWS if words in row.name}
    wanted |= {row.base for row in ROWS if row.name in wanted and row.base}
    return [row for row in ROWS if row.name in wanted]


def _read(client: Client, archive: Path) -> Json:
    began = time.monotonic()
    dataset = client.upload_dataset(archive, name=archive.stem)
    dataset = client.wait_dataset(str(dataset["id"]))
    if dataset["status"] != "ready":
        raise SystemExit(f"{archive.name}: {dataset['error']}")
    return {**dataset, "seconds": time.monotonic() - began}


def _run(client: Client, rows: list[Row], datasets: dict[str, Json]) -> Iterator[list[Found]]:
    """Yield what has been found so far, after each row."""
    made: dict[str, str] = {}
    found: list[Found] = []
    for row in rows:
        base = {"base_model": made[row.base]} if row.base else {}
        job = watch(client, str(client.post("/jobs", {"dataset": datasets[row.archive]["id"], **row.body, **base})["id"]))
        if job["status"] != "succeeded":
            raise SystemExit(f"{row.name}: {job['error']}")
        made[row.name] = str(job["model"])
        found.append((row, job, client.get(f"/models/{job['model']}/evaluation")))
        yield found


def report(datasets: dict[str, Json], found: list[Found]) -> str:
    """Return the table in markdown."""
    moment = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d")
    reading = [
        (name, found_in["items"], found_in["rejected"], json.dumps(found_in["splits"]), f"{found_in['seconds']:.1f}")
        for name, found_in in datasets.items()
    ]
    jobs = [
        (row.name, _share(evaluation, "validation"), _share(evaluation, "test"), f"{_seconds(job):.0f}", int(job["metrics"]["epochs"]))
        for row, job, evaluation in found
    ]
    return "\n".join(
        [
            f"# Accuracy, {moment}",
            "",
            machine(_LIBRARIES),
            "",
            "Command: `.venv/bin/python benchmarks/accuracy/main_job.py --data FOLDER`",
            "",
            *_table(("archive", "items", "rejected", "splits", "seconds to ready"), reading),
            "",
            *_table(("job", "validation accuracy (95 % interval)", "test accuracy (95 % interval)", "seconds", "epochs"), jobs),
            "",
        ]
    )


def _table(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[str]:
    return [f"| {' | '.join(map(str, row))} |" for row in (columns, ("---",) * len(columns), *rows)]


def _share(evaluation: Json, split: str) -> str:
    measured = evaluation["splits"].get(split)
    if measured is None:
        return "–"
    low, high = measured["interval_95"]
    return f"{measured['accuracy']:.2%} of {measured['n']} ({low:.1%} to {high:.1%})"


def _seconds(job: Json) -> float:
    begin, end = (dt.datetime.fromisoformat(job[moment]) for moment in ("started_at", "finished_at"))
    return (end - begin).total_seconds()


if __name__ == "__main__":
    main()
