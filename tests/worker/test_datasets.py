"""Datasets from upload to deletion, with the ingest run by the supervisor as in the service."""

import hashlib
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from app.schemas.datasets import Dataset as DatasetSchema
from app.schemas.datasets import Item as ItemSchema
from models.config import JobSpec
from models.dataset import PackedDataset
from models.errors import ConfigError, DatasetError
from tests.conftest import picture_archive, sound_archive, tone, wav_bytes, zip_bytes
from worker import datasets
from worker.database import Dataset, Job, Outbox, read, write
from worker.errors import ConflictError, DependencyError, GoneError, NotFoundError
from worker.jobs import cancel_job, create_job, list_jobs
from worker.settings import Settings
from worker.storage import LocalStorage, get_storage
from worker.supervisor import supervise
from worker.work import WORK, job_folder

pytestmark = pytest.mark.usefixtures("settings")


@pytest.fixture
def create(settings: Settings) -> Callable[..., dict[str, Any]]:
    """Upload bytes as the API does."""

    def creator(data: bytes, **fields: Any) -> dict[str, Any]:
        settings.scratch_dir.mkdir(parents=True, exist_ok=True)
        upload = settings.scratch_dir / "upload"
        upload.write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        return datasets.create_dataset(upload=upload, sha256=sha256, size=len(data), **{"upload_format": "zip", "name": "set", **fields})

    return creator


@pytest.fixture
def ingested(create: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Upload, and read."""

    def maker(data: bytes, **fields: Any) -> dict[str, Any]:
        dataset_id = create(data, **fields)["id"]
        supervise(ingest_job(dataset_id).id)
        return datasets.get_dataset(dataset_id)

    return maker


def ingest_job(dataset_id: str) -> Job:
    with read() as session:
        return session.scalars(select(Job).where(Job.dataset_id == dataset_id, Job.type == "ingest")).one()


def row(dataset_id: str) -> Dataset:
    with read() as session:
        return session.get_one(Dataset, dataset_id)


def blobs(settings: Settings) -> list[str]:
    root = settings.data_dir / "blobs"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_a_new_dataset_waits_with_its_archive(create: Callable[..., dict[str, Any]], settings: Settings) -> None:
    data = sound_archive()
    made = create(data, name="words", modality="audio")
    assert DatasetSchema.model_validate(made).status == "processing"
    assert (made["name"], made["modality"], made["size_bytes"]) == ("words", "audio", len(data))
    assert made["sha256"] == hashlib.sha256(data).hexdigest()
    assert made["progress"] == {"phase": "queued", "done": 0, "total": None, "fraction": 0.0, "eta_seconds": None}
    assert made == datasets.get_dataset(made["id"])
    assert blobs(settings) == [f"uploads/{made['id']}"]
    job = ingest_job(made["id"])
    assert (job.state, job.queue) == ("queued", "data")
    with read() as session:
        assert session.scalar(select(Outbox.job_id)) == job.id
    assert list_jobs().data == []  # shown as its dataset's progress


def test_a_dataset_becomes_ready(ingested: Callable[..., dict[str, Any]], settings: Settings) -> None:
    made = ingested(sound_archive(words=2, speakers=5, takes=2))
    assert DatasetSchema.model_validate(made).status == "ready"
    assert (made["modality"], made["labels"], made["items"], made["rejected"]) == ("audio", ["word0", "word1"], 20, 0)
    assert (made["groups"], made["duration_seconds"], made["warnings"], made["error"]) == (5, 10.0, [], None)
    assert sum(made["splits"].values()) == 20
    assert made["progress"] == {"phase": "done", "done": 20, "total": 20, "fraction": 1.0, "eta_seconds": 0.0}
    blob = row(made["id"]).blob
    assert blob == f"datasets/{made['id']}-1"
    assert all(name.startswith(f"{blob}/") for name in blobs(settings))  # the upload is gone
    assert len(PackedDataset.open(get_storage().fetch_directory(blob))) == 20
    assert not (settings.scratch_dir / "jobs" / ingest_job(made["id"]).id).exists()


def test_a_dataset_that_cant_be_used_fails_by_name(ingested: Callable[..., dict[str, Any]], settings: Settings) -> None:
    made = ingested(zip_bytes({"yes/1.wav": wav_bytes(tone(300)), "no/1.wav": b"words"}))
    assert DatasetSchema.model_validate(made).status == "failed"
    assert (made["error"]["code"], made["error"]["param"]) == ("label_empty", "no")
    assert ingest_job(made["id"]).state == "failed"
    assert blobs(settings) == [f"uploads/{made['id']}"]
    with pytest.raises(ConflictError) as caught:
        datasets.list_items(made["id"])
    assert caught.value.code == "dataset_not_ready"


def test_what_shows_only_while_reading_fails_with_the_archives_code(ingested: Callable[..., dict[str, Any]]) -> None:
    data = zip_bytes({"yes/1.wav": wav_bytes(tone(300)), "no/1.wav": wav_bytes(tone(400))}).replace(b"yes/1.wav", b"yes/2.wav", 1)
    assert ingested(data)["error"]["code"] == "archive_structure"


def test_an_archive_that_breaks_a_rule_is_refused_at_once(create: Callable[..., dict[str, Any]], settings: Settings) -> None:
    with pytest.raises(DatasetError) as caught:
        create(zip_bytes({"../evil.wav": b"1"}))
    assert caught.value.code == "archive_path_unsafe"
    with pytest.raises(DatasetError) as caught:
        create(sound_archive(), upload_format="tar")
    assert caught.value.code == "archive_format"
    assert datasets.list_datasets().data == []
    assert blobs(settings) == []


def test_an_upload_without_a_row_is_removed(
    create: Callable[..., dict[str, Any]], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any, **__: Any) -> None:
        raise DependencyError("the database is gone")

    monkeypatch.setattr(datasets, "enqueue", down)
    with pytest.raises(DependencyError):
        create(sound_archive())
    assert blobs(settings) == []
    with read() as session:
        assert session.scalar(select(func.count()).select_from(Dataset)) == 0


def test_tar_archives_are_read_too(ingested: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        for name, hertz in (("yes/1", 300), ("yes/2", 310), ("no/1", 400), ("no/2", 410)):
            (tmp_path / "clip").write_bytes(wav_bytes(tone(hertz)))
            archive.add(tmp_path / "clip", f"{name}.wav")
    made = ingested((tmp_path / "a.tgz").read_bytes(), upload_format="tar.gz")
    assert (made["status"], made["items"]) == ("ready", 4)
    assert [warning["code"] for warning in made["warnings"]] == ["label_few_items"]


def test_datasets_are_listed_newest_first(create: Callable[..., dict[str, Any]]) -> None:
    made = [create(sound_archive(words=2, speakers=1, takes=1), name=f"n{number}")["id"] for number in range(5)]
    with write() as session:
        session.get_one(Dataset, made[1]).status = "failed"
        session.get_one(Dataset, made[2]).modality = "image"
        session.get_one(Dataset, made[3]).status = "deleted"
    page = datasets.list_datasets(limit=2)
    assert ([dataset["id"] for dataset in page.data], page.has_more) == ([made[4], made[2]], True)
    page = datasets.list_datasets(limit=2, after=made[2])
    assert ([dataset["id"] for dataset in page.data], page.has_more) == ([made[1], made[0]], False)
    assert [dataset["id"] for dataset in datasets.list_datasets(status="failed").data] == [made[1]]
    assert [dataset["id"] for dataset in datasets.list_datasets(modality="image").data] == [made[2]]


def test_items_are_listed_with_filters_and_pages(ingested: Callable[..., dict[str, Any]]) -> None:
    sounds = {
        f"{label}/{number}.wav": wav_bytes(tone(300 + 20 * number + 7 * len(label))) for label in ("no", "yes") for number in range(6)
    }
    made = ingested(zip_bytes(sounds | {"yes/bad.wav": b"words", "yes/clipped.wav": wav_bytes(tone(900, level=1.5).clip(-1, 1))}))
    every = datasets.list_items(made["id"], limit=100).data
    assert [item["file_name"] for item in every] == [*sounds, "yes/bad.wav", "yes/clipped.wav"]
    assert all(ItemSchema.model_validate(item) for item in every)
    walked: list[dict[str, Any]] = []
    while True:
        page = datasets.list_items(made["id"], limit=5, after=walked[-1]["id"] if walked else None)
        walked += page.data
        if not page.has_more:
            break
    assert walked == every
    for status, names in (("rejected", ["yes/bad.wav"]), ("suspect", ["yes/clipped.wav"])):
        assert [item["file_name"] for item in datasets.list_items(made["id"], status=status).data] == names
    found = datasets.list_items(made["id"], label="yes", split="train", status="accepted", limit=2, after=every[6]["id"])
    assert found.data == [item for item in every[7:] if (item["label"], item["split"], item["status"]) == ("yes", "train", "accepted")][:2]
    assert datasets.list_items(made["id"], label="'; DROP TABLE items; --").data == []


@pytest.mark.parametrize("after", ["itm_", "itm_-1", "1 OR 1", "itm_\u0661", "itm_" + "9" * 40])
def test_another_kind_of_item_id_is_refused(ingested: Callable[..., dict[str, Any]], after: str) -> None:
    made = ingested(sound_archive(words=2, speakers=2, takes=2))
    with pytest.raises(ConfigError) as caught:
        datasets.list_items(made["id"], after=after)
    assert caught.value.param == "after"


def test_pages_of_a_large_dataset_walk_an_index(ingested: Callable[..., dict[str, Any]]) -> None:
    path = get_storage().fetch_file(f"{row(ingested(sound_archive(words=2, speakers=2, takes=2))['id']).blob}/items.db")
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    for column in ("status", "label", "split"):
        query = f"EXPLAIN QUERY PLAN SELECT * FROM items WHERE id > ? AND {column} = ? ORDER BY id LIMIT 20"
        (plan,) = connection.execute(query, (5, "x")).fetchall()
        assert f"USING INDEX by_{column} ({column}=? AND rowid>?)" in plan[3]
    connection.close()


def test_a_deleted_dataset_leaves_a_row_and_no_files(ingested: Callable[..., dict[str, Any]], settings: Settings) -> None:
    made = ingested(sound_archive(words=2, speakers=2, takes=2))
    datasets.delete_dataset(made["id"])
    assert blobs(settings) == []
    for ask in (datasets.get_dataset, datasets.delete_dataset, datasets.list_items):
        with pytest.raises(GoneError) as caught:
            ask(made["id"])
        assert caught.value.code == "dataset_deleted"
    assert datasets.list_datasets().data == []


def test_a_dataset_in_use_stays(create: Callable[..., dict[str, Any]], ingested: Callable[..., dict[str, Any]]) -> None:
    waiting = create(sound_archive())
    with pytest.raises(ConflictError) as caught:
        datasets.delete_dataset(waiting["id"])
    assert caught.value.code == "dataset_in_use"
    parent = ingested(picture_archive(labels=2, items=4))
    job = create_job(JobSpec(dataset=parent["id"]))
    with pytest.raises(ConflictError, match=job["id"]):
        datasets.delete_dataset(parent["id"])
    cancel_job(job["id"])
    child = create(picture_archive(labels=3, items=4, seed=1), parent=parent["id"])
    with pytest.raises(ConflictError, match=child["id"]):
        datasets.delete_dataset(parent["id"])
    supervise(ingest_job(child["id"]).id)
    datasets.delete_dataset(parent["id"])
    assert datasets.get_dataset(child["id"])["items"] == 20


def test_no_such_dataset() -> None:
    for ask in (datasets.get_dataset, datasets.delete_dataset, datasets.list_items):
        with pytest.raises(NotFoundError) as caught:
            ask("ds_nothing")
        assert caught.value.code == "dataset_not_found"


def test_a_child_takes_modality_and_items_from_its_parent(ingested: Callable[..., dict[str, Any]]) -> None:
    parent = ingested(picture_archive(labels=2, items=10))
    child = ingested(picture_archive(labels=3, items=10, seed=1), parent=parent["id"])
    assert (child["status"], child["parent"], child["modality"], child["items"]) == ("ready", parent["id"], "image", 50)
    assert datasets.get_dataset(parent["id"]) == parent


def test_a_parent_must_be_ready_and_of_the_same_kind(
    create: Callable[..., dict[str, Any]], ingested: Callable[..., dict[str, Any]], settings: Settings
) -> None:
    data = sound_archive(words=2, speakers=2, takes=1)
    waiting, gone, ready = create(data), ingested(data), ingested(data)
    datasets.delete_dataset(gone["id"])
    before = blobs(settings)
    refusals: list[tuple[str, dict[str, Any], type[Exception]]] = [
        ("ds_nothing", {}, NotFoundError),
        (gone["id"], {}, GoneError),
        (waiting["id"], {}, ConflictError),
        (ready["id"], {"modality": "image"}, ConfigError),
    ]
    for parent, fields, kind in refusals:
        with pytest.raises(kind):
            create(data, parent=parent, **fields)
    assert blobs(settings) == before


def test_an_ingest_that_was_killed_begins_again(create: Callable[..., dict[str, Any]], settings: Settings) -> None:
    made = create(sound_archive(words=2, speakers=2, takes=2))
    job = ingest_job(made["id"])
    left = job_folder(job.id) / "start-0"
    left.mkdir()
    (left / "data.bin").write_bytes(b"half of it")
    supervise(job.id)
    assert datasets.get_dataset(made["id"])["status"] == "ready"
    assert sorted({name.split("/")[1] for name in blobs(settings)}) == [f"{made['id']}-1"]


def test_a_start_that_was_overtaken_publishes_nothing(create: Callable[..., dict[str, Any]], settings: Settings) -> None:
    made = create(sound_archive(words=2, speakers=2, takes=2))
    job = ingest_job(made["id"])
    folder = job_folder(job.id)
    (folder / f"start-{job.token}").mkdir()
    result = {"modality": "audio", "summary": {}, "progress": {}}
    assert not WORK["ingest"].succeed(job, folder, result)  # never claimed: its token is nobody's
    assert blobs(settings) == [f"uploads/{made['id']}"]
    assert datasets.get_dataset(made["id"])["status"] == "processing"


def test_a_dataset_behind_fsspec_is_read_and_listed(
    ingested: Callable[..., dict[str, Any]], change_setting: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLOB_URL", "memory://datasets-test")
    settings = change_setting()
    assert not isinstance(get_storage(), LocalStorage)
    made = ingested(sound_archive(words=2, speakers=2, takes=2))
    assert made["status"] == "ready"
    assert len(datasets.list_items(made["id"], limit=100).data) == 8
    assert not list(settings.data_dir.glob("blobs/*"))
    datasets.delete_dataset(made["id"])
    with pytest.raises(DependencyError):
        get_storage().fetch_directory(f"datasets/{made['id']}-1")
