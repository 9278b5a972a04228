"""What transfers were worth, by how many items of each label were learned from: the verdicts on the models of one dataset's family.

A dataset that extends another holds its items and more, so the verdicts on models of both, side by side, tell what more recordings change.
Each verdict compares networks that learned from the same items; between two of them more may differ than the number of items.
"""

from statistics import median
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.evaluation import wilson_interval
from worker.database import Dataset, Model, read
from worker.datasets import get_dataset

MOST_MODELS = 200


def worth_by_items(dataset_id: str) -> list[dict[str, Any]]:
    """Return the measured verdicts on models of a dataset, of those that it extends and of those that extend one of these.

    The newest models, at most MOST_MODELS, those that learned from the fewest items first. Raises NotFoundError, GoneError.
    """
    get_dataset(dataset_id)
    transfer = Model.evaluation["transfer"]
    with read() as session:
        items = _items_of_family(session, dataset_id)
        query = select(Model.id, Model.name, Model.dataset_id, transfer).where(
            Model.dataset_id.in_(list(items)), Model.deleted_at.is_(None), transfer["verdict"].as_string() != "unmeasured"
        )
        rows = session.execute(query.order_by(Model.id.desc()).limit(MOST_MODELS)).all()
    found = [_as_json(row.id, row.name, str(row.dataset_id), items[str(row.dataset_id)], row[-1]) for row in rows]
    return sorted(found, key=lambda row: (row["items_per_label"], row["model"]))


def _items_of_family(session: Session, dataset_id: str) -> dict[str, float]:
    """Return dataset → the median of its labels' train items, of all that begin with the same dataset and have been read."""
    root = dataset_id
    while (parent := session.scalar(select(Dataset.parent).where(Dataset.id == root))) is not None:  # each is younger than its parent
        root = parent
    found: dict[str, float] = {}
    level = [root]
    while level:
        for name, summary in session.execute(select(Dataset.id, Dataset.summary).where(Dataset.id.in_(level))):
            if summary.get("per_label"):
                found[name] = float(median(counts["train"] for counts in summary["per_label"].values()))
        level = list(session.scalars(select(Dataset.id).where(Dataset.parent.in_(level))))
    return found


def _as_json(model_id: str, name: str | None, dataset_id: str, items: float, transfer: dict[str, Any]) -> dict[str, Any]:
    """Return one verdict. The interval of each accuracy alone is Wilson's, as in an evaluation; that of the gain is paired, and surer."""
    ours, n = float(transfer["accuracy"]), int(transfer["n"])
    scratch = round(min(1.0, max(0.0, ours - float(transfer["gain"]))), 9)  # without the dust of the subtraction
    return {
        "model": model_id,
        "name": name,
        "dataset": dataset_id,
        "items_per_label": items,
        **{word: transfer[word] for word in ("verdict", "gain", "interval_95", "split", "n")},
        **{
            arm: {"accuracy": value, "interval_95": wilson_interval(round(value * n), n)}
            for arm, value in (("own", ours), ("scratch", scratch))
        },
    }
