"""What nothing leads to goes after a while; what a row names, what is on its way and what is somebody else's stays."""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from sqlalchemy import update

from tests.rig import add_dataset
from worker import collector as module
from worker.collector import Collector
from worker.database import Dataset, Job, Model, new_id, now, read, write
from worker.errors import DependencyError
from worker.jobs import enqueue
from worker.lease import claim, close
from worker.settings import Settings
from worker.storage import Storage, get_storage

HOUR = 3600.0


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, change_setting: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> Storage:
    """Blobs on the disk, and behind fsspec; a database that has been in use."""
    if request.param == "memory":
        monkeypatch.setenv("BLOB_URL", "memory://bucket/below")
    change_setting()
    add_dataset()
    return get_storage()


@pytest.fixture(autouse=True)
def _empty_store() -> Iterator[None]:
    """fsspec's store in memory belongs to the process."""
    yield
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let the clock of the machine run ahead of files that are written before."""
    real = time.time
    return lambda seconds: monkeypatch.setattr(time, "time", lambda: real() + seconds)


@pytest.fixture
def publish(settings: Settings) -> Callable[[str], str]:
    """Publish a folder, or for uploads a file, under a key."""

    def publisher(key: str) -> str:
        source = settings.scratch_dir / f"made-{key.replace('/', '-')}"
        source.parent.mkdir(parents=True, exist_ok=True)
        if key.startswith("uploads/"):
            source.write_bytes(b"archive")
            return get_storage().publish_file(source, key)
        source.mkdir()
        (source / "a.bin").write_bytes(b"a" * 100)
        (source / "b.json").write_bytes(b"{}")
        return get_storage().publish_directory(source, key)

    return publisher


def sweeps(settings: Settings, times: int = 3) -> None:
    collector = Collector(settings)
    for _ in range(times):
        collector.sweep()


def exists(blob: str) -> bool:
    storage = get_storage()
    try:
        _ = storage.fetch_file(blob) if blob.startswith("uploads/") else storage.fetch_directory(blob)
    except DependencyError as error:
        if error.code != "blob_missing":
            raise
        return False
    return True


def keys() -> list[str]:
    return [key for folder in ("uploads", "datasets", "artifacts") for key in get_storage().keys(folder)]


def stray_keys() -> list[str]:
    return [f"uploads/{new_id('ds')}", f"datasets/{new_id('ds')}-3", f"artifacts/{new_id('mdl')}"]


def name_model(blob: str, *, deleted: bool = False) -> None:
    with write() as session:
        moment = now(session)
        session.add(
            Model(
                id=blob.rpartition("/")[2], modality="audio", manifest={}, evaluation={}, blob=blob, sha256="", size_bytes=1,
                created_at=moment, deleted_at=moment if deleted else None,
            )
        )  # fmt: skip


def test_what_no_row_names_goes_after_the_grace(
    storage: Storage, settings: Settings, publish: Callable[[str], str], later: Callable[[float], None]
) -> None:
    strays = [publish(key) for key in stray_keys()]
    later(HOUR - 60)
    sweeps(settings)
    assert sorted(keys()) == sorted(strays), "published, but perhaps not committed yet"
    later(HOUR + 60)
    sweeps(settings)
    assert keys() == []


def test_what_is_named_while_the_collector_looks_stays(
    storage: Storage, settings: Settings, publish: Callable[[str], str], later: Callable[[float], None]
) -> None:
    """The machine slept between publishing and commit: the blob is old and has no name, but its process goes on."""
    blob = publish(f"artifacts/{new_id('mdl')}")
    later(HOUR + 60)
    collector = Collector(settings)
    collector.sweep()
    assert exists(blob)
    name_model(blob)
    for _ in range(4):
        collector.sweep()
    assert exists(blob)


def test_what_a_row_names_stays_for_ever(
    storage: Storage, settings: Settings, publish: Callable[[str], str], later: Callable[[float], None]
) -> None:
    model, deleted = publish(f"artifacts/{new_id('mdl')}"), publish(f"artifacts/{new_id('mdl')}")
    name_model(model)
    name_model(deleted, deleted=True)  # and the process was killed before it removed the files
    packed = publish(f"datasets/{new_id('ds')}-1")
    add_dataset(blob=packed)
    waiting = add_dataset(status="processing")
    upload = publish(f"uploads/{waiting}")
    with write() as session:
        session.execute(update(Dataset).where(Dataset.id == waiting).values(upload=upload))
    later(1000 * HOUR)
    sweeps(settings)
    assert sorted(keys()) == sorted([model, packed, upload])
    assert [exists(blob) for blob in (model, packed, upload)] == [True] * 3


def test_blobs_of_another_database_and_foreign_files_stay(
    storage: Storage, settings: Settings, publish: Callable[[str], str], later: Callable[[float], None]
) -> None:
    """A database that was set up anew beside old blobs must not take them for its own waste."""
    older = publish("artifacts/mdl_" + "0" * 19 + "1")
    foreign = publish("artifacts/by-hand")
    later(1000 * HOUR)
    sweeps(settings)
    assert sorted(keys()) == sorted([older, foreign])


def test_an_empty_database_collects_nothing(settings: Settings, publish: Callable[[str], str], later: Callable[[float], None]) -> None:
    blobs = [publish(key) for key in stray_keys()]
    later(1000 * HOUR)
    sweeps(settings)
    assert sorted(keys()) == sorted(blobs)


def test_halves_of_remote_blobs_go(
    change_setting: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, publish: Callable[[str], str], later: Callable[[float], None]
) -> None:
    monkeypatch.setenv("BLOB_URL", "memory://bucket/below")
    settings = change_setting()
    add_dataset()
    unsealed, unfilled = publish(f"datasets/{new_id('ds')}-1"), publish(f"artifacts/{new_id('mdl')}")
    store = fsspec.filesystem("memory")
    store.rm(f"/bucket/below/{unsealed}.seal")
    store.rm(f"/bucket/below/{unfilled}", recursive=True)
    later(HOUR + 60)
    sweeps(settings)
    assert store.find("/bucket") == []


def test_a_sweep_does_a_bounded_piece_of_work(
    settings: Settings, publish: Callable[[str], str], later: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOKED_AT", 4)
    monkeypatch.setattr(module, "_REMOVED", 2)
    add_dataset()
    for _ in range(10):
        publish(f"artifacts/{new_id('mdl')}")
    later(HOUR + 60)
    collector = Collector(settings)
    left = []
    for _ in range(40):
        collector.sweep()
        left.append(len(keys()))
    assert left[:3] == [10, 10, 10], "the first walk only looks"
    assert all(before - after <= 2 for before, after in itertools.pairwise(left))
    assert left[-1] == 0


def failed_dataset(publish: Callable[[str], str]) -> tuple[str, str]:
    """A dataset whose archive was read in vain."""
    dataset = add_dataset(status="processing")
    upload = publish(f"uploads/{dataset}")
    with write() as session:
        session.execute(update(Dataset).where(Dataset.id == dataset).values(upload=upload))
        job = enqueue(session, type="ingest", queue="data", dataset_id=dataset, spec={})
    claim(job.id, "here:1")
    with write() as session:
        close(session, job.id, 1, "failed")
        session.execute(update(Dataset).where(Dataset.id == dataset).values(status="failed", error={"code": "dataset_empty"}))
    return dataset, upload


def test_the_archive_of_a_failed_dataset_goes_and_its_reason_stays(
    storage: Storage, settings: Settings, publish: Callable[[str], str]
) -> None:
    dataset, upload = failed_dataset(publish)
    sweeps(settings)
    assert exists(upload)
    with write() as session:
        session.execute(update(Job).where(Job.dataset_id == dataset).values(finished_at=Job.finished_at - HOUR - 60))
    sweeps(settings)
    assert not exists(upload)
    with read() as session:
        row = session.get_one(Dataset, dataset)
    assert (row.upload, row.status, row.error) == (None, "failed", {"code": "dataset_empty"})


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_interrupted_writes_left_goes(settings: Settings, publish: Callable[[str], str], kind: str) -> None:
    publish(f"artifacts/{new_id('mdl')}")
    root = settings.data_dir / "blobs"
    old, young = root / ".aside-old", root / ".aside-young"
    for path in (old, young):
        (path / "model.onnx").parent.mkdir() if kind == "folder" else path.write_bytes(b"half")
    if kind == "folder":
        (old / "model.onnx").write_bytes(b"half")
        age(old / "model.onnx")
    age(old)
    sweeps(settings, 1)
    assert (old.exists(), young.exists()) == (False, True)


def test_a_folder_that_is_still_written_to_is_young(settings: Settings) -> None:
    aside = settings.data_dir / "blobs" / ".aside-x"
    aside.mkdir(parents=True)
    (aside / "data.bin").write_bytes(b"half")
    age(aside)
    sweeps(settings, 1)
    assert aside.exists()


def test_artifacts_that_never_came_in_go(settings: Settings) -> None:
    old, young = settings.scratch_dir / "import-old", settings.scratch_dir / "import-young"
    for folder in (old, young):
        folder.mkdir(parents=True)
    age(old)
    sweeps(settings, 1)
    assert (old.exists(), young.exists()) == (False, True)


def age(path: Path) -> None:
    os.utime(path, (1.0, 1.0))


def test_fetched_copies_go_once_nobody_asks_for_them(
    change_setting: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, publish: Callable[[str], str]
) -> None:
    monkeypatch.setenv("BLOB_URL", "memory://bucket")
    settings = change_setting()
    used, unused = publish(f"artifacts/{new_id('mdl')}"), publish(f"artifacts/{new_id('mdl')}")
    packed, upload = publish(f"datasets/{new_id('ds')}-1"), publish(f"uploads/{new_id('ds')}")
    for blob in (used, unused):
        name_model(blob)
    local = {blob: get_storage().fetch_directory(blob) for blob in (used, unused)}
    apart, archive = get_storage().fetch_file(f"{packed}/b.json"), get_storage().fetch_file(upload)
    cache = settings.scratch_dir / "fetched"
    (cache / ".aside-left").mkdir()
    for path in cache.rglob("*"):
        age(path)
    assert get_storage().fetch_directory(used) == local[used]
    sweeps(settings, 1)
    assert [path.exists() for path in (local[used], local[unused], apart, archive)] == [True, False, False, False]
    assert not (cache / ".aside-left").exists()
    assert exists(unused), "it is fetched again"
