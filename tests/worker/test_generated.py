"""Generated datasets from request to deletion, with the drawing run by the supervisor as in the service."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select

from app.schemas.datasets import Dataset as DatasetSchema
from models.dataset import PackedDataset
from models.errors import ConfigError
from models.formula.generator import FormulaConfig
from tests.conftest import picture_archive
from worker import datasets
from worker.database import Dataset, Job, Outbox, read, write
from worker.errors import ConflictError, GoneError, QueueFullError, StorageFullError
from worker.generated import MAX_LABEL_PIXELS, generate_dataset
from worker.jobs import get_job, list_jobs
from worker.settings import Settings
from worker.storage import get_storage
from worker.supervisor import supervise
from worker.work import WORK, job_folder

pytestmark = pytest.mark.usefixtures("settings")


def wanted(**changes: Any) -> FormulaConfig:
    return FormulaConfig.model_validate({"generator": "gratings", "labels": 3, "items_per_label": 10, "image_size": 16, **changes})


def job_of(dataset_id: str) -> Job:
    with read() as session:
        return session.scalars(select(Job).where(Job.dataset_id == dataset_id)).one()


def drawn(**changes: Any) -> dict[str, Any]:
    made = generate_dataset(wanted(**changes))
    supervise(job_of(made["id"]).id)
    return datasets.get_dataset(made["id"])


def blobs(settings: Settings) -> list[str]:
    root = settings.data_dir / "blobs"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_a_new_dataset_waits_to_be_drawn(settings: Settings) -> None:
    made = generate_dataset(wanted(), "waves")
    assert DatasetSchema.model_validate(made).status == "processing"
    assert (made["name"], made["modality"], made["size_bytes"], made["parent"]) == ("waves", "image", 3 * 10 * 16 * 16 * 3, None)
    assert made["generator"] == {"generator": "gratings", "labels": 3, "items_per_label": 10, "seed": 0, "image_size": 16}
    assert made["progress"] == {"phase": "queued", "done": 0, "total": None, "fraction": 0.0, "eta_seconds": None}
    assert made == datasets.get_dataset(made["id"])
    job = job_of(made["id"])
    assert (job.type, job.state, job.queue) == ("generate", "queued", "data")
    with read() as session:
        assert session.scalar(select(Outbox.job_id)) == job.id
    assert list_jobs().data == []  # shown as its dataset's progress
    with pytest.raises(Exception, match="no job"):
        get_job(job.id)
    assert blobs(settings) == []


def test_a_dataset_without_a_name_gets_one() -> None:
    assert generate_dataset(wanted())["name"] == "gratings-3x10"


def test_a_dataset_becomes_ready(settings: Settings) -> None:
    made = drawn()
    assert DatasetSchema.model_validate(made).status == "ready"
    assert (made["labels"], made["items"], made["rejected"]) == (["gratings-0000", "gratings-0001", "gratings-0002"], 30, 0)
    assert made["splits"] == {"train": 24, "validation": 3, "test": 3}
    assert (made["warnings"], made["error"], made["duration_seconds"]) == ([], None, None)
    assert made["progress"] == {"phase": "done", "done": 30, "total": 30, "fraction": 1.0, "eta_seconds": 0.0}
    with read() as session:
        blob = session.get_one(Dataset, made["id"]).blob
    assert blob == f"datasets/{made['id']}-1"
    assert all(name.startswith(f"{blob}/") for name in blobs(settings))
    assert len(PackedDataset.open(get_storage().fetch_directory(blob))) == 30
    assert not (settings.scratch_dir / "jobs" / job_of(made["id"]).id).exists()
    assert [item["file_name"] for item in datasets.list_items(made["id"], limit=2).data] == ["gratings-0000/000000", "gratings-0000/000001"]


def test_the_same_request_is_another_dataset_with_the_same_hash() -> None:
    first, again, other = (generate_dataset(wanted(seed=seed), name) for seed, name in ((1, "a"), (1, "b"), (2, "a")))
    assert first["id"] != again["id"]
    assert first["sha256"] == again["sha256"]
    assert first["sha256"] != other["sha256"]
    assert len(datasets.list_datasets().data) == 3


def test_an_uploaded_dataset_has_no_generator(settings: Settings) -> None:
    settings.scratch_dir.mkdir(parents=True)
    upload = settings.scratch_dir / "upload"
    upload.write_bytes(picture_archive(labels=2, items=1))
    made = datasets.create_dataset(upload=upload, sha256="0" * 64, size=1, upload_format="zip", name="set")
    assert made["generator"] is None
    with read() as session:
        assert session.scalar(select(func.count()).select_from(Dataset).where(Dataset.generator.is_(None))) == 1


def test_a_drawing_that_was_killed_begins_again(settings: Settings) -> None:
    made = generate_dataset(wanted())
    job = job_of(made["id"])
    left = job_folder(job.id) / "start-0"
    left.mkdir()
    (left / "data.bin").write_bytes(b"half of it")
    supervise(job.id)
    assert datasets.get_dataset(made["id"])["status"] == "ready"
    assert sorted({name.split("/")[1] for name in blobs(settings)}) == [f"{made['id']}-1"]


def test_a_start_that_was_overtaken_publishes_nothing(settings: Settings) -> None:
    made = generate_dataset(wanted())
    job = job_of(made["id"])
    folder = job_folder(job.id)
    (folder / f"start-{job.token}").mkdir()
    assert not WORK["generate"].succeed(job, folder, {"modality": "image", "summary": {}, "progress": {}})  # never claimed
    assert blobs(settings) == []
    assert datasets.get_dataset(made["id"])["status"] == "processing"


def test_one_that_cant_be_drawn_has_failed() -> None:
    made = generate_dataset(wanted())
    with write() as session:
        WORK["generate"].lose(session, job_of(made["id"]), {"code": "worker_lost", "message": "it died", "param": None})
    failed = datasets.get_dataset(made["id"])
    assert (failed["status"], failed["error"]["code"]) == ("failed", "worker_lost")


def test_deleting(settings: Settings) -> None:
    made = generate_dataset(wanted())
    with pytest.raises(ConflictError, match="being drawn"):
        datasets.delete_dataset(made["id"])
    supervise(job_of(made["id"]).id)
    datasets.delete_dataset(made["id"])
    assert blobs(settings) == []
    with pytest.raises(GoneError):
        datasets.get_dataset(made["id"])


def test_it_can_be_extended_by_an_upload(settings: Settings) -> None:
    parent = drawn()
    upload = settings.scratch_dir / "upload"
    upload.write_bytes(picture_archive(labels=2, items=5))
    child = datasets.create_dataset(upload=upload, sha256="0" * 64, size=1, upload_format="zip", name="more", parent=parent["id"])
    supervise(job_of(child["id"]).id)
    child = datasets.get_dataset(child["id"])
    assert (child["status"], child["items"], child["generator"]) == ("ready", 40, None)
    assert len(child["labels"]) == 5


def test_more_pictures_than_are_drawn_are_refused_by_name(change_setting: Callable[..., Settings]) -> None:
    change_setting(max_generated_items=30)
    assert generate_dataset(wanted())["status"] == "processing"
    with pytest.raises(ConfigError, match="33 pictures; 30 are drawn at most") as caught:
        generate_dataset(wanted(items_per_label=11))
    assert caught.value.param == "items_per_label"


def test_a_label_of_too_many_pixels_is_refused_by_name() -> None:
    most = MAX_LABEL_PIXELS // 128**2
    assert generate_dataset(wanted(items_per_label=most, image_size=128))["status"] == "processing"
    with pytest.raises(ConfigError, match=f"{most} at most") as caught:
        generate_dataset(wanted(items_per_label=most + 1, image_size=128))
    assert caught.value.param == "items_per_label"


def test_what_the_disk_has_no_room_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    total = 10**9
    usage = type("Usage", (), {"total": total, "free": round(total * 0.05) + 50_000})  # 50 kB more than what is kept free
    monkeypatch.setattr("worker.generated.shutil.disk_usage", lambda _: usage)
    generate_dataset(wanted())  # 23 kB of pixels and 6 kB of rows
    with pytest.raises(StorageFullError, match="room for") as caught:
        generate_dataset(wanted())  # what has been promised counts
    assert caught.value.retry_after > 0
    assert len(datasets.list_datasets().data) == 1


def test_the_queue_has_an_end(change_setting: Callable[..., Settings]) -> None:
    change_setting(max_queued_jobs=1)
    generate_dataset(wanted())
    with pytest.raises(QueueFullError):
        generate_dataset(wanted())
    assert len(datasets.list_datasets().data) == 1
