"""A search whose trainer is killed: trials that have ended are not run again."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.config import JobSpec
from models.dataset import PackedWriter
from tests.conftest import RATE, tone
from tests.rig import ROOT
from worker.orders import TrainingOrder


@pytest.fixture
def order(tmp_path: Path) -> TrainingOrder:
    packed, job = tmp_path / "packed", tmp_path / "job"
    packed.mkdir()
    job.mkdir()
    with PackedWriter(packed, "audio", sample_rate=RATE) as writer:
        for index in range(40):
            writer.append((tone(400 * (1 + index % 2), 0.25, seed=index) * 32767).astype(np.int16))
        writer.finish(
            labels=("low", "high"), item_labels=[index % 2 for index in range(40)], item_splits=["train"] * 28 + ["validation"] * 12,
            item_groups=[-1] * 40, group_names=(), summary={},
        )  # fmt: skip
    body = {
        "dataset": "ds_1", "type": "finetune", "base_model": None, "search": {"trials": 4}, "features": {"n_mels": 16},
        "hyperparameters": {"epochs": 16},
    }  # fmt: skip
    return TrainingOrder(
        job_id="job_1", token=1, parent_pid=os.getpid(), spec=JobSpec.model_validate(body, strict=False), dataset_directory=packed,
        dataset_sha256="0" * 64, model_id="mdl_1", folder=job, device="cpu", threads=1, checkpoint_seconds=10.0,
    )  # fmt: skip


def reports(order: TrainingOrder, *, kill_after_trial: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield a trainer's reports; with `kill_after_trial` it is killed as soon as that trial has been told of."""
    trainer = subprocess.Popen(
        [sys.executable, "-m", "worker.trainer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
    )
    assert trainer.stdin is not None
    assert trainer.stdout is not None
    trainer.stdin.write(order.model_dump_json().encode())
    trainer.stdin.close()
    with trainer.stdout:
        for line in trainer.stdout:
            report = json.loads(line)
            yield report
            if kill_after_trial is not None and trials_of([report]) == [kill_after_trial]:
                trainer.kill()
    trainer.wait(60)


def trials_of(lines: list[dict[str, Any]]) -> list[int]:
    return [line["data"]["trial"] for line in lines if line["kind"] == "message" and "state" in line.get("data", {})]


def test_a_killed_search_goes_on_after_its_last_trial(order: TrainingOrder) -> None:
    first = list(reports(order, kill_after_trial=1))
    assert first[-1]["kind"] != "result"
    assert trials_of(first)[:2] == [0, 1]
    resolved = next(line["spec"] for line in first if line["kind"] == "resolved")
    again = list(reports(order.model_copy(update={"token": 2, "resolved": JobSpec.model_validate(resolved, strict=False)})))
    assert trials_of(first) + trials_of(again) == [0, 1, 2, 3]
    assert again[-1]["kind"] == "result"
