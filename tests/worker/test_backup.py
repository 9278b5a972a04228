"""What is saved is brought back, byte by byte; what is lost is said so and marked; nothing is overwritten."""

import hashlib
import json
import shutil
import sqlite3
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import update

from models.errors import InputError, UnavailableError
from tests.conftest import forget
from tests.rig import add_dataset, add_job, row
from worker import backup as module
from worker.backup import back_up
from worker.backup_files import Source, name_of
from worker.database import Alias, Dataset, Model, new_id, now, read, write
from worker.datasets import delete_dataset
from worker.errors import ConflictError
from worker.processes import HostLock
from worker.restore import restore
from worker.settings import Settings, get_settings
from worker.storage import get_storage, new_scratch

Elsewhere = Callable[[str], Path]


def quiet(done: int, of: int | None) -> None:
    """Show no progress."""


@pytest.fixture
def elsewhere(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    """Turn to another data directory, one that nobody has used."""

    def turn(name: str) -> Path:
        monkeypatch.setenv("SYNESTHESIA_DATA_DIR", str(tmp_path / name))
        forget()
        return tmp_path / name

    return turn


@pytest.fixture(params=["saved", "saved.tar"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


def publish(key: str, **files: bytes) -> str:
    folder = new_scratch("made")
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_bytes(content)
    return get_storage().publish_directory(folder, key)


def add_packed(content: bytes = b"items") -> str:
    """A ready dataset with its blob."""
    dataset = add_dataset()
    blob = publish(f"datasets/{dataset}-1", data_bin=content, items_db=b"rows")
    with write() as session:
        session.execute(update(Dataset).where(Dataset.id == dataset).values(blob=blob))
    return dataset


def add_model(weights: bytes = b"weights", *, told: bytes | None = None) -> str:
    """A model; `told` are the weights whose hash its row bears."""
    model = new_id("mdl")
    blob = publish(f"artifacts/{model}", model_safetensors=weights, manifest_json=b"{}")
    with write() as session:
        moment = now(session)
        session.add(
            Model(
                id=model, modality="audio", manifest={}, blob=blob, sha256=hashlib.sha256(told or weights).hexdigest(), size_bytes=1,
                created_at=moment,
            )
        )  # fmt: skip
        session.flush()
        session.add(Alias(name=f"of-{model[-5:]}", model_id=model, updated_at=moment))
    return model


def blobs(data_dir: Path) -> dict[str, bytes]:
    root = data_dir / "blobs"
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_what_was_saved_comes_back(settings: Settings, target: Path, elsewhere: Elsewhere) -> None:
    dataset, model, job = add_packed(), add_model(), add_job()
    upload = settings.scratch_dir / "archive"
    upload.write_bytes(b"zip")
    waiting = add_dataset(status="processing")
    blob = get_storage().publish_file(upload, f"uploads/{waiting}")
    with write() as session:
        session.execute(update(Dataset).where(Dataset.id == waiting).values(upload=blob, sha256=hashlib.sha256(b"zip").hexdigest()))
    saved, before = back_up(target, quiet), blobs(settings.data_dir)
    assert (saved.blobs, saved.lost) == (3, {})
    data_dir = elsewhere("other")
    found = restore(target, quiet)
    assert (found.blobs, found.lost, found.datasets, found.models) == (3, [], [], [])
    assert blobs(data_dir) == before
    with read() as session:
        assert session.get_one(Dataset, dataset).status == "ready"
        assert session.get_one(Model, model).deleted_at is None
    assert row(job).state == "queued"
    assert list((data_dir / "scratch").iterdir()) == []


def test_nothing_is_overwritten(settings: Settings, target: Path, elsewhere: Elsewhere) -> None:
    first = add_packed(b"first")
    back_up(target, quiet)
    with pytest.raises(ConflictError, match="exists"):
        back_up(target, quiet)
    second = add_packed(b"second")
    forget()
    with pytest.raises(ConflictError, match="not empty"):
        restore(target, quiet)
    restore(target, quiet, force=True)
    with read() as session:
        assert session.get(Dataset, first) is not None
        assert session.get(Dataset, second) is None
    (aside,) = settings.data_dir.glob("replaced-*")
    assert f"datasets/{second}-1/data.bin" in blobs(aside), "moved aside, not removed"


def test_a_data_directory_in_use_is_left_alone(settings: Settings, target: Path) -> None:
    back_up(target, quiet)
    lock = HostLock(settings.lock_dir, "keeper")
    assert lock.acquire()
    with pytest.raises(ConflictError, match="stop it first"):
        restore(target, quiet, force=True)
    lock.release()
    assert (settings.data_dir / "synesthesia.db").exists()


def test_blobs_that_are_lost_already_are_told(settings: Settings, target: Path) -> None:
    dataset, model, whole = add_packed(), add_model(b"flipped", told=b"weights"), add_model()
    shutil.rmtree(settings.data_dir / "blobs" / f"datasets/{dataset}-1")
    saved = back_up(target, quiet)
    assert saved.lost == {f"datasets/{dataset}-1": "missing", f"artifacts/{model}": "damaged"}
    with Source.opened(target) as files:
        assert list(files.manifest().blobs) == [f"artifacts/{whole}"]


def test_rows_whose_blobs_are_missing_are_marked(settings: Settings, tmp_path: Path, elsewhere: Elsewhere) -> None:
    dataset, model, whole = add_packed(), add_model(), add_model(b"whole")
    job = add_job(dataset)
    target = tmp_path / "saved"
    back_up(target, quiet)
    shutil.rmtree(target / "blobs" / f"datasets/{dataset}-1")
    weights = target / "blobs" / f"artifacts/{model}" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    elsewhere("other")
    found = restore(target, quiet)
    assert (found.blobs, found.datasets, found.models) == (1, [dataset], [model])
    with read() as session:
        lost = session.get_one(Dataset, dataset)
        assert (lost.status, lost.blob, (lost.error or {})["code"]) == ("failed", None, "blob_missing")
        assert session.get_one(Model, model).deleted_at is not None
        assert [alias.model_id for alias in session.query(Alias)] == [whole]
    assert (row(job).state, (row(job).error or {})["code"]) == ("failed", "blob_missing")


def test_what_is_deleted_meanwhile_is_no_loss(
    settings: Settings, target: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: Elsewhere
) -> None:
    """The database is copied, then a dataset goes and another comes: the second copy knows of both."""
    going, coming, real = add_packed(b"going"), [""], module._copy_database

    def copy(database: Path, target: Path) -> None:
        real(database, target)
        if not coming[0]:
            delete_dataset(going)
            coming[0] = add_packed(b"coming")

    monkeypatch.setattr(module, "_copy_database", copy)
    saved = back_up(target, quiet)
    assert (saved.blobs, saved.lost) == (1, {})
    elsewhere("other")
    assert restore(target, quiet).lost == []
    with read() as session:
        assert [session.get_one(Dataset, name).status for name in (going, coming[0])] == ["deleted", "ready"]


def test_writers_go_on_while_it_runs(settings: Settings, target: Path, elsewhere: Elsewhere) -> None:
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            made.append(add_job(add_packed()))

    made: list[str] = []
    thread = threading.Thread(target=work)
    thread.start()
    try:
        while len(made) < 5:
            stop.wait(0.01)
        known = list(made)
        assert back_up(target, quiet).lost == {}
    finally:
        stop.set()
        thread.join()
    elsewhere("other")
    assert restore(target, quiet).lost == []
    assert {row(job).state for job in known} == {"queued"}


def spoil_manifest(path: Path, **changes: object) -> None:
    found = json.loads((path / "backup.json").read_text())
    (path / "backup.json").write_text(json.dumps(found | changes))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: (path / "backup.json").unlink(), "not finished"),
        (lambda path: (path / "backup.json").write_text("{"), "can't be read"),
        (lambda path: spoil_manifest(path, format=2), "format 2"),
        (lambda path: spoil_manifest(path, revision="9999"), "newer version"),
        (lambda path: (path / "synesthesia.db").write_bytes(b"SQLite"), "database is missing or damaged"),
        (lambda path: (path / "synesthesia.db").unlink(), "database is missing or damaged"),
        (lambda path: spoil_manifest(path, blobs={"../out": {"": {"size": 1, "sha256": ""}}}), "not of this program"),
        (lambda path: spoil_manifest(path, blobs={"datasets/a": {"../b": {"size": 1, "sha256": ""}}}), "can't be one of a blob"),
    ],
)
def test_what_is_no_whole_backup_is_refused(
    settings: Settings, tmp_path: Path, elsewhere: Elsewhere, damage: Callable[[Path], object], reason: str
) -> None:
    add_packed()
    back_up(tmp_path / "saved", quiet)
    damage(tmp_path / "saved")
    data_dir = elsewhere("other")
    with pytest.raises(InputError, match=reason):
        restore(tmp_path / "saved", quiet)
    assert not (data_dir / "synesthesia.db").exists()
    assert not (tmp_path / "out").exists()


def test_another_file_is_no_backup(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "other.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(InputError, match="neither a folder nor a tar"):
        restore(tmp_path / "other.tar", quiet)


def test_a_link_in_a_tar_is_no_file(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("{}")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("backup.json")
        info.type, info.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
        tar.addfile(info)
    with pytest.raises(InputError, match="not finished"):
        restore(tmp_path / "a.tar", quiet)


def test_a_backup_that_breaks_off_leaves_nothing(settings: Settings, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_packed()
    monkeypatch.setattr(module, "write_manifest", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        back_up(target, quiet)
    assert not target.exists()
    assert list(target.parent.glob("*.part")) == []
    assert list(settings.scratch_dir.glob("backup-*")) == []


def test_a_backup_is_for_its_owner_alone(settings: Settings, target: Path) -> None:
    back_up(target, quiet)
    assert target.stat().st_mode & 0o077 == 0


def test_the_copy_is_one_sound_database(settings: Settings, tmp_path: Path) -> None:
    add_job()
    back_up(tmp_path / "saved", quiet)
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["backup.json", "synesthesia.db"]
    with closing(sqlite3.connect(tmp_path / "saved" / "synesthesia.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (1,)


def test_postgres_is_saved_by_its_own_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://here/db")
    get_settings.cache_clear()
    with pytest.raises(UnavailableError) as caught:
        back_up(tmp_path / "saved", quiet)
    assert "pg_dump" in (caught.value.hint or "")
    get_settings.cache_clear()


@pytest.mark.parametrize("name", ["..", ".", "a/b", "/a", "a\0"])
def test_a_file_of_a_blob_has_a_plain_name(name: str) -> None:
    with pytest.raises(InputError):
        name_of("datasets/a", name)


@pytest.fixture(autouse=True)
def _forget_after() -> Iterator[None]:
    yield
    forget()
