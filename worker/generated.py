"""Datasets that nobody uploads: pictures by formula are asked for, and drawn in the background. Drawing is worker/generator.py's work."""

import hashlib
import json
import shutil
from typing import Any

from sqlalchemy import func, select

from models.errors import ConfigError
from models.formula.generator import FormulaConfig
from worker.audit import note
from worker.database import Dataset, new_id, now, read, write
from worker.datasets import as_json
from worker.errors import StorageFullError
from worker.idempotency import note_made
from worker.jobs import enqueue
from worker.owners import ALL_OWNERS
from worker.quotas import check_dataset, check_queue
from worker.settings import get_settings
from worker.states import GENERATE
from worker.storage import storage_errors

UPLOAD_FORMAT = "formula"  # in the column that names an upload's archive format
MAX_LABEL_PIXELS = 2**24  # items × pixels of one label, which is drawn in one piece: 1.8 GB of memory at most
_ROW_BYTES = 200  # of an item in the list of items and in the arrays beside the pixels (measured: 170)
_RETRY_SECONDS = 60


def generate_dataset(config: FormulaConfig, name: str | None = None) -> dict[str, Any]:
    """Queue the drawing of what `config` describes, and return the dataset as JSON.

    Raises ConfigError for more pictures than are drawn, StorageFullError where the disk has no room for them, QueueFullError,
    QuotaError.
    """
    _check_size(config)
    described = config.model_dump(mode="json")
    size = _pixel_bytes(config)
    _check_room(size + config.labels * config.items_per_label * _ROW_BYTES)
    with write() as session:
        check_queue(session)
        check_dataset(session, size)
        dataset = Dataset(
            id=new_id("ds"), name=name or _default_name(config), modality="image", status="processing", upload=None,
            upload_format=UPLOAD_FORMAT, sha256=_digest(described), size_bytes=size, blob=None, summary={}, generator=described,
            created_at=now(session),
        )  # fmt: skip
        session.add(dataset)
        session.flush()
        enqueue(session, type=GENERATE, queue="data", dataset_id=dataset.id, spec=described)
        note(session, dataset.id)
        note_made(session, dataset.id)
        return as_json(dataset, None)


def _check_size(config: FormulaConfig) -> None:
    most = get_settings().max_generated_items
    total = config.labels * config.items_per_label
    if total > most:
        raise ConfigError(
            f"{config.labels} labels of {config.items_per_label} items are {total} pictures; {most} are drawn at most",
            param="items_per_label", hint="GET /limits lists all limits",
        )  # fmt: skip
    if config.items_per_label * config.image_size**2 > MAX_LABEL_PIXELS:
        most = MAX_LABEL_PIXELS // config.image_size**2
        raise ConfigError(
            f"of pictures of {config.image_size} pixels a side a label has {most} at most, not {config.items_per_label}",
            param="items_per_label", hint="ask for more labels or smaller pictures",
        )  # fmt: skip


def _check_room(size: int) -> None:
    """Refuse `size` bytes that would not fit beside those promised already, with the share of the disk that is kept free."""
    settings = get_settings()
    with read() as session:
        waiting = select(func.sum(Dataset.size_bytes)).where(Dataset.status == "processing", Dataset.upload_format == UPLOAD_FORMAT)
        promised = session.scalar(waiting, execution_options=ALL_OWNERS) or 0
    with storage_errors("the scratch folder"):
        settings.scratch_dir.mkdir(parents=True, exist_ok=True)
        usage = shutil.disk_usage(settings.scratch_dir)
    room = usage.free - settings.min_free_fraction * usage.total - promised
    if size > room:
        raise StorageFullError(
            f"the pictures take {size / 1e9:.1f} GB, and the disk has room for {max(0, room) / 1e9:.1f} GB",
            retry_after=_RETRY_SECONDS, hint="ask for fewer or smaller pictures, or delete datasets that are no longer needed",
        )  # fmt: skip


def _pixel_bytes(config: FormulaConfig) -> int:
    return config.labels * config.items_per_label * config.image_size**2 * 3


def _default_name(config: FormulaConfig) -> str:
    return f"{config.generator}-{config.labels}x{config.items_per_label}"


def _digest(described: dict[str, Any]) -> str:
    """Return the sha256 of a config, whatever order its fields came in: the same hash means the same pictures."""
    return hashlib.sha256(json.dumps(described, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
