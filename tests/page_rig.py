"""`python -m tests.page_rig DIRECTORY`: fill a data directory with more than a page should ever have to show, and with the nastiest words.

10,000 sounds of 35 labels, 1,000 jobs, two models with a matrix of 35 × 35; written straight into tables and files, as training that
much would take hours. Prints the ids as JSON.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ITEMS, JOBS, WORDS, SPEAKERS = 10_000, 1_000, 35, 40
NASTY_JOBS = 200  # the newest; ids of one millisecond have no order
NASTY = (
    "<img src=x onerror=document.title='hit'>",
    "שלום עולם",
    "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichenfabrik",
    "\"'`${1+1}</script><b>",
    "مرحبا<br>",
)
LABELS = tuple(sorted((*NASTY, *(f"word{number:02d}" for number in range(WORDS - len(NASTY))))))
RATE = 16000


def fill(data_dir: Path) -> dict[str, str]:
    """Make the tables and everything in them; return the ids of what there is to look at."""
    os.environ["SYNESTHESIA_DATA_DIR"] = str(data_dir)
    from worker.database import new_id, write
    from worker.migrate import upgrade

    upgrade()
    dataset, blob, truth = _dataset(data_dir)
    ids = {"dataset": dataset, "extended": new_id("ds"), "first": new_id("mdl"), "second": new_id("mdl")}
    with write() as session:
        _add_dataset(session, dataset, blob)
        _add_dataset(session, ids["extended"], blob, parent=dataset)
        session.flush()
        _add_jobs(session, ids)
        for place, (name, learned) in enumerate((("first", "dataset"), ("second", "extended"))):
            _add_model(session, ids, name, ids[learned], truth, np.random.default_rng(place))
    return ids


def _dataset(data_dir: Path) -> tuple[str, str, NDArray[np.int64]]:
    """Pack the sounds: a few that can be looked at, then short noises. Returns id, blob and labels, shape (ITEMS,)."""
    from models.dataset import PackedWriter
    from worker.database import new_id
    from worker.items import Item, write_items
    from worker.storage import get_storage, new_scratch

    random = np.random.default_rng(0)
    labels, splits = np.arange(ITEMS) % WORDS, np.array(["train", "train", "train", "validation", "test"])[np.arange(ITEMS) // WORDS % 5]
    groups = random.integers(0, SPEAKERS, ITEMS)
    names = [NASTY[number] if number < len(NASTY) else f"speaker{number:02d}" for number in range(SPEAKERS)]
    folder = new_scratch("rig")
    items = []
    with PackedWriter(folder, "audio", sample_rate=RATE) as writer:
        for number in range(ITEMS):
            length = RATE // 2 if number < 2 * WORDS else int(random.integers(400, 1600))
            place = writer.append(random.normal(0, 3000, length).astype(np.int16))
            label = LABELS[labels[number]]
            reasons = ["clipped"] if number % 500 == 7 else []
            items.append(
                Item(f"{NASTY[0]}/{number:05d}.wav" if number % 7 == 0 else f"clips/{number:05d}.wav", label, str(splits[number]),  # type: ignore[arg-type]  # one of the splits
                     names[groups[number]], "suspect" if reasons else "accepted", reasons, duration=length / RATE, position=place)
            )  # fmt: skip
        items += [Item(f"{word}.wav", word, None, None, "rejected", ["media_unreadable"]) for word in NASTY]
        writer.finish(
            labels=LABELS, item_labels=labels.tolist(), item_splits=splits.tolist(), item_groups=groups.tolist(), group_names=names,
            summary={},
        )  # fmt: skip
    write_items(folder, items)
    dataset = new_id("ds")
    return dataset, get_storage().publish_directory(folder, f"datasets/{dataset}"), labels


def _add_dataset(session: Any, dataset: str, blob: str, parent: str | None = None) -> None:
    """Add a dataset, or one that extends it and claims twice as many items to learn from."""
    from worker.database import Dataset, now

    of_each = {label: {"train": 344 if parent else 172, "validation": 57, "test": 57} for label in LABELS}
    summary = {
        "labels": list(LABELS), "items": ITEMS, "rejected": len(NASTY), "splits": {"train": 6000, "validation": 2000, "test": 2000},
        "groups": SPEAKERS, "per_label": of_each, "duration_seconds": 700.0,
        "warnings": [{"code": "label_few_items", "message": f"{word} has few items" } for word in NASTY[:2]],
    }  # fmt: skip
    session.add(
        Dataset(
            id=dataset, name=NASTY[0], modality="audio", status="ready", upload_format="zip", sha256="0" * 64, size_bytes=2**24, blob=blob,
            summary=summary, created_at=now(session), parent=parent,
        )
    )  # fmt: skip


def _add_jobs(session: Any, ids: dict[str, str]) -> None:
    from models.config import JobSpec
    from worker.database import Event, Job, new_id, now

    spec = JobSpec(dataset=ids["dataset"], type="finetune").model_dump(mode="json")
    moment, states = now(session), ("succeeded", "failed", "cancelled")
    progress = {"phase": "done", "epoch": 40, "epochs": 40, "step": 400, "steps": 400, "fraction": 1.0, "eta_seconds": 0.0}
    for number in range(JOBS):
        job = new_id("job")
        state = states[number % 7 % 3]
        failure = {"code": "training_failed", "message": NASTY[number % len(NASTY)], "param": None} if state == "failed" else None
        session.add(
            Job(
                id=job, type="finetune", queue="train", state=state, dataset_id=ids["dataset"], spec=spec, resolved=spec, error=failure,
                name=NASTY[number % len(NASTY)] if number >= JOBS - NASTY_JOBS else f"job {number}",
                progress=progress, metrics={"test_accuracy": 0.9},
                created_at=moment - JOBS + number, started_at=moment - JOBS + number, finished_at=moment,
                model_id=ids["first"] if number == JOBS - 1 else None,
            )
        )  # fmt: skip
    ids["job"] = job
    session.flush()
    for epoch in range(1, 301):
        share = 1 - 0.9 * 0.98**epoch
        data = {
            "epoch": epoch, "step": 10 * epoch, "train_loss": 2 - share, "validation_loss": 2.1 - share, "validation_accuracy": share,
        }  # fmt: skip
        session.add(Event(job_id=job, created_at=moment + epoch, level="info", type="metrics", message=f"epoch {epoch}", data=data))
    for word in NASTY:
        session.add(Event(job_id=job, created_at=moment + 400, level="warning", type="message", message=word, data={}))
    session.add(Event(job_id=job, created_at=moment + 401, level="info", type="status", message="done", data={"status": "succeeded"}))


def _add_model(session: Any, ids: dict[str, str], name: str, dataset: str, truth: NDArray[np.int64], random: np.random.Generator) -> None:
    from models.config import FeatureConfig, JobSpec, LineageEntry, ModelManifest, NetworkConfig, Normalization, TransferRecord
    from worker import aliases, registry
    from worker.database import Model

    features = FeatureConfig(clip_seconds=0.5, image_size=28)
    network = NetworkConfig(
        modality="audio", architecture="resnet_tiny", labels=LABELS, features=features,
        normalization=Normalization(mean=(0.0,) * 40, std=(1.0,) * 40)
    )  # fmt: skip
    manifest = ModelManifest(
        network=network, training=JobSpec(dataset=dataset), metrics={"test_accuracy": 0.85, "training_seconds": 12.5},
        parameters=123_456,
        layers={"stem": 1000, "layer1": 20_000, "layer2": 100_000},
        transfer=TransferRecord(mode="full", base_model="bundled", shared_layers=("stem", "layer1"), frozen_layers=("stem",)),
        lineage=(LineageEntry(model=ids[name], dataset=dataset, dataset_sha256="0" * 64, job=ids["job"],
                              architecture="resnet_tiny", modality="audio"),),
    )  # fmt: skip
    tested = truth[np.arange(ITEMS) // WORDS % 5 == 4]
    probabilities = _probabilities(tested, random)
    model = registry.add_model(
        session, manifest=manifest, evaluation=_evaluation(ids, probabilities, tested, random),
        blob=f"artifacts/{ids[name]}", size_bytes=2**20,
        model_id=ids[name], name=NASTY[2] if name == "first" else "second", job_id=ids["job"], dataset_id=dataset,
        predictions={"test": {"truth": tested.tolist(), "predicted": probabilities.argmax(axis=1).tolist(), "groups": [-1] * len(tested)}},
    )  # fmt: skip
    assert isinstance(model, Model)
    if name == "first":
        aliases.point_alias(session, "words", ids[name])


def _probabilities(truth: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.float32]:
    """Return what a fair network might say: probabilities, shape (n, WORDS)."""
    logits = random.normal(0, 1.2, (len(truth), WORDS))
    logits[np.arange(len(truth)), truth] += 4
    odds = np.exp(logits)
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)


def _evaluation(
    ids: dict[str, str], probabilities: NDArray[np.float32], truth: NDArray[np.int64], random: np.random.Generator
) -> dict[str, Any]:
    from models.evaluation import evaluate_split, evaluation_document

    groups = random.integers(0, SPEAKERS, len(truth))
    names = [NASTY[number] if number < len(NASTY) else f"speaker{number:02d}" for number in range(SPEAKERS)]
    split = evaluate_split(probabilities, truth, LABELS, groups, names, uncalibrated=probabilities)
    worse = ("clean", "noise_20_db", "noise_10_db", "noise_0_db", "faster", "slower", "telephone", "cut_off")
    suspects = [
        {"file_name": f"clips/{140 + 1 + number:05d}.wav", "split": "test", "label": LABELS[0], "predicted": NASTY[0], "probability": 0.98}
        for number in range(20)
    ]
    transfer = {
        "verdict": "positive", "gain": 0.08, "interval_95": [0.03, 0.13], "resampled": "items", "split": "test",
        "n": len(truth), "seeds": [0],
        "accuracy": 0.85, "controls": [{"name": "scratch", "job": ids["job"], "accuracy": 0.77, "seconds": 30.0}],
        "seconds_to_match": 4.0, "sentence": f"The transfer from {NASTY[0]} gains 8 points.",
    }  # fmt: skip
    return evaluation_document(
        {"test": split, "validation": split}, transfer, calibration={"temperature": 1.2, "items": 2000},
        robustness=[{"name": name, "accuracy": 0.9 - 0.05 * place, "n": 512} for place, name in enumerate(worse)],
        unknown={"asked": 0.01, "accepted_noise": 0.01, "accepted_words": 0.05}, suspects=suspects,
    )  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(json.dumps(fill(Path(sys.argv[1]))))
