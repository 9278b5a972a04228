"""What is kept of single items: to be listened to and looked at. And which items a model took for what."""

from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import select

from models.config import Modality, Split
from models.dataset import Items, PackedDataset
from worker.database import Model, read
from worker.datasets import ready_blob
from worker.doubts import doubts_of
from worker.errors import NotFoundError
from worker.items import ITEMS_FILE, Doubts, find_item, items_at
from worker.registry import resolve_id
from worker.storage import get_storage


@dataclass(frozen=True)
class Kept:
    """An item as it is packed."""

    modality: Modality
    sample_rate: int | None
    """Hz; None for pictures"""
    values: Items
    """int16 (n_samples,), or uint8 (height, width, 3)"""


def get_item(dataset_id: str, item_id: str) -> dict[str, Any]:
    """Return one item as JSON. Raises NotFoundError, GoneError, ConflictError (dataset_not_ready)."""
    blob = ready_blob(dataset_id)
    with read() as session:
        doubts = doubts_of(session, dataset_id)
    return _find(blob, dataset_id, item_id, doubts)[0]


def kept_item(dataset_id: str, item_id: str) -> Kept:
    """Return what is kept of an item. Raises NotFoundError (item_not_kept: it was rejected), GoneError, ConflictError, DatasetError."""
    blob = ready_blob(dataset_id)
    item, position = _find(blob, dataset_id, item_id)
    if position is None:
        reasons = ", ".join(item["reasons"])
        raise NotFoundError(f"item {item_id} was rejected ({reasons}), and nothing else is kept of it", code="item_not_kept")
    packed = PackedDataset.open(get_storage().fetch_directory(blob))
    return Kept(packed.modality, packed.sample_rate, packed.item(position))


def judged_items(name: str, *, split: Split, label: str, predicted: str, limit: int) -> list[dict[str, Any]]:
    """Return items of a split that bear `label` and that a model took for `predicted`, each with `predicted`, at most `limit`.

    Raises NotFoundError (model_not_found, answers_not_kept), GoneError for the model or its dataset.
    """
    model_id = resolve_id(name)
    with read() as session:
        query = select(Model.predictions, Model.dataset_id, Model.manifest).where(Model.id == model_id)
        answers, dataset_id, manifest = session.execute(query).one()
    if not answers or dataset_id is None or split not in answers:
        raise NotFoundError(f"of model {model_id} no answers for single {split} items are kept", code="answers_not_kept")
    labels = manifest["network"]["labels"]
    if label not in labels or predicted not in labels:
        return []
    blob = ready_blob(dataset_id)
    cell, found = (labels.index(label), labels.index(predicted)), answers[split]
    places = (place for place, pair in enumerate(zip(found["truth"], found["predicted"], strict=True)) if pair == cell)
    directory = get_storage().fetch_directory(blob)
    indices = PackedDataset.open(directory).indices(split)
    rows = items_at(directory / ITEMS_FILE, [int(indices[place]) for place in islice(places, limit)])
    return [row | {"predicted": predicted} for row in rows]


def _find(blob: str, dataset_id: str, item_id: str, doubts: Doubts | None = None) -> tuple[dict[str, Any], int | None]:
    found = find_item(get_storage().fetch_file(f"{blob}/{ITEMS_FILE}"), item_id, doubts)
    if found is None:
        raise NotFoundError(f"dataset {dataset_id} has no item {item_id[:50]!r}", code="item_not_found")
    return found
