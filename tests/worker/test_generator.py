"""A request → a packed dataset of drawn pictures: the same whatever the number of processes, split by label; a child that is ended."""

import hashlib
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from models.config import SPLITS, JobSpec
from models.dataset import PackedDataset
from models.formula.generator import FormulaConfig, draw_label, label_name
from models.recipes import resolve
from worker import generator
from worker.generated import MAX_LABEL_PIXELS
from worker.generator import MEMORY_BYTES, generate
from worker.items import ITEMS_FILE, page_of_items
from worker.orders import GenerateOrder
from worker.reports import RELEASED_EXIT, RESULT_EXIT, Reporter

SMALL = {"generator": "mixed", "labels": 4, "items_per_label": 12, "seed": 3, "image_size": 16}
LONG = {"generator": "fractals", "labels": 2000, "items_per_label": 500}


def make_order(folder: Path, *, processes: int = 1, **changes: Any) -> GenerateOrder:
    folder.mkdir(parents=True, exist_ok=True)
    config = FormulaConfig.model_validate({**SMALL, **changes})
    return GenerateOrder(job_id="job_1", token=1, parent_pid=os.getpid(), folder=folder, processes=processes, config=config)


def generated(folder: Path, **changes: Any) -> tuple[PackedDataset, dict[str, Any]]:
    order = make_order(folder, **changes)
    result = generate(order, Reporter(io.StringIO()))
    return PackedDataset.open(order.staging), result


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.name != ITEMS_FILE}


def test_what_is_packed_is_what_the_formulas_draw(tmp_path: Path) -> None:
    packed, result = generated(tmp_path)
    config = FormulaConfig.model_validate(SMALL)
    names = [label_name(config, number) for number in range(4)]
    assert packed.labels == tuple(sorted(names))
    drawn = np.concatenate([draw_label(config, number) for number in range(4)])
    assert len(packed) == 48
    assert all(np.array_equal(packed.item(index), drawn[index]) for index in range(48))
    assert [packed.labels[label] for label in packed.item_labels.tolist()] == [name for name in names for _ in range(12)]
    assert (result["modality"], result["summary"]["items"], result["summary"]["rejected"]) == ("image", 48, 0)
    assert (packed.grey, result["summary"]["groups"], result["summary"]["warnings"]) == (False, 0, [])
    assert result["progress"] == {"phase": "done", "done": 48, "total": 48, "fraction": 1.0, "eta_seconds": 0.0}


@pytest.mark.parametrize(("generator", "grey"), [("formants", True), ("fractals", False)])
def test_colorless_pictures_are_known_for_it_and_not_mirrored(tmp_path: Path, generator: str, grey: bool) -> None:
    packed, _ = generated(tmp_path, generator=generator)
    spec = JobSpec(dataset="ds_1", type="pretrain", base_model="resnet_tiny")
    assert (packed.grey, resolve(spec, packed, source=None).augmentation.flip) == (grey, not grey)


def test_items_are_named_by_label_and_number(tmp_path: Path) -> None:
    order = make_order(tmp_path, generator="fractals")
    generate(order, Reporter(io.StringIO()))
    items = page_of_items(order.staging / ITEMS_FILE, limit=100).data
    assert [item["file_name"] for item in items[:2]] == ["fractals-0000/000000", "fractals-0000/000001"]
    assert items[-1]["file_name"] == "fractals-0003/000011"
    assert {(item["width"], item["height"], item["status"], item["group"]) for item in items} == {(16, 16, "accepted", None)}
    assert {item["label"] for item in items} == {item["file_name"].split("/")[0] for item in items}


def test_the_number_of_processes_changes_nothing(tmp_path: Path) -> None:
    generated(tmp_path / "one", processes=1)
    generated(tmp_path / "three", processes=3)
    one, three = tmp_path / "one" / "start-1", tmp_path / "three" / "start-1"
    assert digests(one) == digests(three)
    assert page_of_items(one / ITEMS_FILE, limit=100) == page_of_items(three / ITEMS_FILE, limit=100)


def test_another_seed_draws_other_pictures(tmp_path: Path) -> None:
    generated(tmp_path / "one", seed=1)
    generated(tmp_path / "two", seed=2)
    assert digests(tmp_path / "one" / "start-1")["data.bin"] != digests(tmp_path / "two" / "start-1")["data.bin"]


def test_every_label_is_in_every_split_and_stays_there_when_labels_are_added(tmp_path: Path) -> None:
    few, _ = generated(tmp_path / "few", generator="fractals", labels=3, items_per_label=20)
    more, _ = generated(tmp_path / "more", generator="fractals", labels=5, items_per_label=20)
    for label in range(5):
        counts = Counter(SPLITS[split] for split in more.item_splits[more.item_labels == label].tolist())
        assert counts == {"train": 16, "validation": 2, "test": 2}
    assert np.array_equal(more.item_splits[:60], few.item_splits)
    assert not np.array_equal(more.item_splits[:20], more.item_splits[20:40])  # or the same places would measure in each label


def test_labels_of_one_item_can_be_learnt_and_not_measured(tmp_path: Path) -> None:
    packed, result = generated(tmp_path, items_per_label=1)
    assert {SPLITS[split] for split in packed.item_splits.tolist()} == {"train"}
    assert [warning["code"] for warning in result["summary"]["warnings"]] == ["label_few_items"]


@pytest.mark.parametrize(
    ("items", "side", "labels", "processes", "expected"),
    [(10, 16, 100, 3, 3), (10, 16, 2, 3, 2), (10, 16, 100, 64, generator.MAX_PROCESSES), (1000, 128, 100, 64, 1)],
)
def test_memory_and_labels_bound_the_processes(tmp_path: Path, items: int, side: int, labels: int, processes: int, expected: int) -> None:
    order = make_order(tmp_path, labels=labels, items_per_label=items, image_size=side, processes=processes)
    assert generator._processes(order) == expected


def test_the_largest_label_fits_the_memory() -> None:
    assert MAX_LABEL_PIXELS * generator._PIXEL_BYTES <= MEMORY_BYTES


# The process as a whole.


class Child:
    """`python -m worker.generator` with an order."""

    def __init__(self, order: GenerateOrder) -> None:
        command = [sys.executable, "-m", "worker.generator"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdin is not None
        self.process.stdin.write(order.model_dump_json().encode())
        self.process.stdin.close()

    def wait_until_it_draws(self) -> list[psutil.Process]:
        """Return the processes that draw."""
        assert self.process.stdout is not None
        next(report for report in map(json.loads, self.process.stdout) if report.get("done"))
        return psutil.Process(self.process.pid).children()

    def end(self) -> tuple[int, list[dict[str, Any]]]:
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            reports = [json.loads(line) for line in stdout]
        return self.process.wait(timeout=20), reports


def test_the_process_reports_progress_and_a_result(tmp_path: Path) -> None:
    order = make_order(tmp_path)
    code, reports = Child(order).end()
    assert code == RESULT_EXIT
    assert (reports[-1]["kind"], reports[-1]["progress"]["done"]) == ("result", 48)
    phases = [report["phase"] for report in reports if report["kind"] == "progress"]
    assert [phase for phase, _ in itertools.groupby(phases)] == ["drawing", "writing"]
    assert len(PackedDataset.open(order.staging)) == 48


def test_progress_tells_how_long_it_will_take(tmp_path: Path) -> None:
    said = io.StringIO()
    generate(make_order(tmp_path, labels=12, items_per_label=150, image_size=48, generator="fractals"), Reporter(said))
    reports = [json.loads(line) for line in said.getvalue().splitlines()]
    halfway = [report for report in reports if report["phase"] == "drawing" and report["done"]]
    assert halfway
    assert all(report["total"] == 1800 and 0 < report["fraction"] <= 1 and report["eta_seconds"] >= 0 for report in halfway)
    assert [report["done"] for report in halfway] == sorted(report["done"] for report in halfway)


def test_a_stopped_generator_leaves_nothing_and_goes_at_once(tmp_path: Path) -> None:
    order = make_order(tmp_path, processes=2, **LONG)
    child = Child(order)
    drawing = child.wait_until_it_draws()
    began = time.monotonic()
    child.process.terminate()
    code, reports = child.end()
    assert code == RELEASED_EXIT
    assert time.monotonic() - began < 5
    assert not [report for report in reports if report["kind"] == "result"]
    assert not order.staging.exists()
    assert len(drawing) == 2
    assert not any(process.is_running() for process in drawing)


def test_a_killed_generator_takes_its_processes_along(tmp_path: Path) -> None:
    child = Child(make_order(tmp_path, processes=2, **LONG))
    drawing = child.wait_until_it_draws()
    child.process.kill()
    assert child.end()[0] == -signal.SIGKILL
    gone, alive = psutil.wait_procs(drawing, timeout=5)
    assert (len(gone), alive) == (2, [])


def test_a_drawing_process_that_dies_ends_the_generator_without_a_verdict(tmp_path: Path) -> None:
    """The machine may have run out of memory: the supervisor starts it again."""
    order = make_order(tmp_path, processes=2, **LONG)
    child = Child(order)
    child.wait_until_it_draws()[0].kill()
    code, reports = child.end()
    assert code not in (RESULT_EXIT, RELEASED_EXIT)
    assert not [report for report in reports if report["kind"] in ("result", "failed")]
    assert not order.staging.exists()
