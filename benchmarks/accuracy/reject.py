"""What a reject option costs and keeps out: a model of ten words, noise and tones, and ten words that it has never met.

    .venv/bin/python benchmarks/accuracy/reject.py --data FOLDER --work FOLDER [--seeds 3] [--asked 0.01]

Everything over HTTP, as a user would. A seed draws which ten of the twenty Arabic words are learnt; the request names the dataset and
`evaluation.unknown_false_accept`, nothing else. Then `POST /predict/batch` hears all clips of the validation speakers, of the learnt words
and of the others, and noise. Their count is the measure, not what the job says of itself. Rows are added to `--work`/reject.jsonl.
"""

import argparse
import csv
import io
import random
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from runs import keep_row, kept_rows, publish
from tables import Row, reject_report

from app.client import Client
from app.commands.progress import watch
from app.demo.service import running_service
from models.playable import to_wav
from models.unknowns import noises

HERE = Path(__file__).parent
ARCHIVE = "speech-commands-arabic"
_KNOWN = 10  # words
_NOISES, _RATE = 1000, 16000


def main() -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the archives")
    parser.add_argument("--work", type=Path, required=True, help="folder that keeps raw rows")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--asked", type=float, default=0.01, help="share of noise that may be accepted")
    parser.add_argument("--results", type=Path, default=HERE.parent / "results")
    arguments = parser.parse_args()
    kept = arguments.work / "reject.jsonl"
    arguments.work.mkdir(parents=True, exist_ok=True)
    rows = kept_rows(kept)
    for seed in range(arguments.seeds):
        if not any((row["seed"], row["asked"]) == (seed, arguments.asked) for row in rows):
            rows.append(run_seed(arguments.data / f"{ARCHIVE}.zip", seed, arguments.asked))
            keep_row(kept, rows[-1])
    shown = [row for row in rows if row["asked"] == arguments.asked]
    publish(reject_report(shown), shown, arguments.results / "reject.md")


def run_seed(archive: Path, seed: int, asked: float) -> Row:
    """Train on ten words and return what the model makes of all that it hears."""
    with zipfile.ZipFile(archive) as source:
        table = list(csv.DictReader(io.StringIO(source.read("metadata.csv").decode())))
        words = sorted({row["label"] for row in table})
        known = set(random.Random(seed).sample(words, _KNOWN))
        learnt = [row for row in table if row["label"] in known]
        unheard = [row for row in table if row["split"] != "train"]
        with (
            tempfile.TemporaryDirectory(prefix="synesthesia-reject-") as name,
            running_service(Path(name)) as url,
            Client(url) as client,
        ):
            model = _trained(client, source, learnt, Path(name), {"seed": seed, "evaluation": {"unknown_false_accept": asked}})
            sounds = {row["file_name"]: source.read(row["file_name"]) for row in unheard}
            heard = _heard(client, model, sounds, Path(name))
            noise = _heard(client, model, _noise(seed), Path(name))
    truth = {row["file_name"]: row["label"] for row in unheard}
    mine = {file: answer for file, answer in heard.items() if truth[file] in known}
    right = [answer["top_k"][0]["label"] == truth[file] for file, answer in mine.items()]
    kept = [answer["label"] is not None for answer in mine.values()]
    others = [answer for file, answer in heard.items() if truth[file] not in known]
    return {
        "seed": seed,
        "asked": asked,
        "known": sorted(known),
        "accuracy": float(np.mean(right)),
        "answered_right": float(np.mean(np.array(right) & kept)),
        "answered_wrong": float(np.mean(~np.array(right) & kept)),
        "accepted_words": _accepted(others),
        "accepted_noise": _accepted(noise.values()),
        "n": {"known": len(mine), "words": len(others), "noise": len(noise)},
    }


def _trained(client: Client, source: zipfile.ZipFile, learnt: list[dict[str, str]], folder: Path, body: Row) -> str:
    """Return the model that a job on these clips makes."""
    archive = folder / "words.zip"
    with zipfile.ZipFile(archive, "w") as target:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(learnt[0]))
        writer.writeheader()
        writer.writerows(learnt)
        target.writestr("metadata.csv", text.getvalue())
        for row in learnt:
            target.writestr(row["file_name"], source.read(row["file_name"]))
    dataset = client.wait_dataset(str(client.upload_dataset(archive, name="words")["id"]))
    job = watch(client, str(client.post("/jobs", {"dataset": dataset["id"], **body})["id"]))
    if job["status"] != "succeeded":
        raise SystemExit(f"the job failed: {job['error']}")
    return str(job["model"])


def _heard(client: Client, model: str, sounds: Mapping[str, bytes], folder: Path) -> dict[str, Row]:
    """Return file name → what is said of it."""
    archive = folder / "sounds.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for name, content in sounds.items():
            target.writestr(name, content)
    return {answer["name"]: answer for answer in client.predict_archive(archive, model=model, top_k=1)}


def _accepted(answers: Iterable[Row]) -> float:
    return float(np.mean([answer["label"] is not None for answer in answers]))


def _noise(seed: int) -> dict[str, bytes]:
    """Return file name → WAV of noise, tones, hum, clicks and near-silence, of another seed than any that a job draws."""
    drawn = noises(_NOISES, _RATE, _RATE, torch.Generator().manual_seed(7_000_000 + seed))
    return {f"noise/{index}.wav": to_wav((sound * 32767).to(torch.int16).numpy(), _RATE) for index, sound in enumerate(drawn)}


if __name__ == "__main__":
    main()
