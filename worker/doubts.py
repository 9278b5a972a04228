"""Which items of a dataset its newest model takes for another label, with confidence: worth a person's ear, whatever the ingester said."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from worker.database import Model

_NEWEST = 3  # models that are looked at: the newest may be a first answer, or a checkpoint, which judges no single item


def doubts_of(session: Session, dataset_id: str) -> dict[str, dict[str, Any]]:
    """Return file name → model, predicted and probability, of the newest model on the dataset that judged its validation and test items."""
    newest = select(Model.id, Model.evaluation).where(Model.dataset_id == dataset_id, Model.deleted_at.is_(None))
    for model_id, evaluation in session.execute(newest.order_by(Model.id.desc()).limit(_NEWEST)):
        if "suspects" in evaluation:
            return {
                row["file_name"]: {"model": model_id, "predicted": row["predicted"], "probability": row["probability"]}
                for row in evaluation["suspects"]
            }
    return {}
