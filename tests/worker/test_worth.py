"""Verdicts beside how many items there were to learn from: whose, in which order, with which intervals."""

from typing import Any

import pytest
from sqlalchemy import update

from models.evaluation import wilson_interval
from models.verdict import unmeasured
from tests.rig import add_dataset
from worker import worth
from worker.database import Dataset, Model, new_id, now, write
from worker.datasets import delete_dataset
from worker.errors import GoneError, NotFoundError
from worker.worth import worth_by_items

pytestmark = pytest.mark.usefixtures("settings")
GAINED: dict[str, Any] = {
    "verdict": "positive", "gain": 0.1, "interval_95": [0.02, 0.18], "resampled": "items", "split": "test", "n": 120, "seeds": [0],
    "accuracy": 0.8, "controls": [],
}  # fmt: skip


def dataset_of(*train: int, parent: str | None = None) -> str:
    """A dataset with so many items of each label to learn from."""
    made = add_dataset()
    counts = {f"word{place}": {"train": items, "validation": 9, "test": 9} for place, items in enumerate(train)}
    with write() as session:
        session.execute(update(Dataset).where(Dataset.id == made).values(parent=parent, summary={"per_label": counts} if train else {}))
    return made


def model_on(dataset: str, evaluation: dict[str, Any], **columns: Any) -> str:
    with write() as session:
        model = Model(
            id=new_id("mdl"), modality="audio", dataset_id=dataset, manifest={}, evaluation=evaluation, blob="artifacts/none",
            sha256="0" * 64, size_bytes=1, created_at=now(session), **columns,
        )  # fmt: skip
        session.add(model)
        return model.id


def test_models_of_the_whole_family_come_in_the_order_of_their_items() -> None:
    root = dataset_of(3, 5, 40)
    child = dataset_of(20, 30, 41, parent=root)
    sister = dataset_of(8, 9, parent=root)
    grandchild = dataset_of(60, 60, 60, parent=child)
    models = {name: model_on(name, {"transfer": GAINED}, name="x") for name in (grandchild, root, sister, child)}
    model_on(dataset_of(7), {"transfer": GAINED})  # of another family
    for name in models:
        found = worth_by_items(name)
        assert [(row["dataset"], row["items_per_label"]) for row in found] == [(root, 5), (sister, 8.5), (child, 30), (grandchild, 60)]
        assert [row["model"] for row in found] == [models[row["dataset"]] for row in found]


def test_a_row_tells_both_arms_with_their_intervals() -> None:
    dataset = dataset_of(4)
    model = model_on(dataset, {"transfer": GAINED, "splits": {}}, name="digits")
    (found,) = worth_by_items(dataset)
    assert found.pop("scratch") == {"accuracy": 0.7, "interval_95": wilson_interval(84, 120)}
    assert found.pop("own") == {"accuracy": 0.8, "interval_95": wilson_interval(96, 120)}
    assert found == {
        "model": model, "name": "digits", "dataset": dataset, "items_per_label": 4.0, "verdict": "positive", "gain": 0.1,
        "interval_95": [0.02, 0.18], "split": "test", "n": 120,
    }  # fmt: skip


def test_what_was_not_measured_is_not_there() -> None:
    dataset = dataset_of(4)
    for evaluation in ({}, {"splits": {}}, {"transfer": unmeasured("no controls were asked for")}):
        model_on(dataset, evaluation)
    with write() as session:
        deleted_at = now(session)
    model_on(dataset, {"transfer": GAINED}, deleted_at=deleted_at)
    model_on(dataset_of(parent=dataset), {"transfer": GAINED})  # nothing has been read of it yet
    assert worth_by_items(dataset) == []


def test_of_many_models_the_newest_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worth, "MOST_MODELS", 2)
    dataset = dataset_of(4)
    for number in range(3):
        model_on(dataset, {"transfer": GAINED}, name=f"model {number}")
    assert len(worth_by_items(dataset)) == 2


def test_a_deleted_parent_still_ties_its_family_together() -> None:
    root = dataset_of(2)
    child = dataset_of(8, parent=root)
    before = [model_on(root, {"transfer": GAINED}), model_on(child, {"transfer": GAINED})]
    delete_dataset(root)
    assert [row["model"] for row in worth_by_items(child)] == before
    with pytest.raises(GoneError):
        worth_by_items(root)
    with pytest.raises(NotFoundError):
        worth_by_items("ds_0")
