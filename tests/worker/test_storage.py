"""Blobs on the local disk and behind fsspec: whole or absent, whatever happens on the way."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from models.errors import UnavailableError
from worker.errors import DependencyError, StorageFullError
from worker.settings import Settings
from worker.storage import LocalStorage, Storage, checked_key, get_storage, new_scratch, storage_errors
from worker.storage_remote import RemoteStorage

HOUR = 3600.0


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[RemoteStorage]:
    yield RemoteStorage("memory://bucket", tmp_path / "cache")
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, remote: RemoteStorage) -> Storage:
    return LocalStorage(tmp_path / "blobs") if request.param == "local" else remote


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "source"
    made.mkdir()
    (made / "a.bin").write_bytes(b"a" * 1000)
    (made / "b.json").write_bytes(b"{}")
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_comes_back_as_it_was(storage: Storage, folder: Path) -> None:
    expected = contents(folder)
    blob = storage.publish_directory(folder, "datasets/ds_1-1")
    assert blob == "datasets/ds_1-1"
    assert contents(storage.fetch_directory(blob)) == expected
    assert storage.fetch_file(f"{blob}/b.json").read_bytes() == b"{}"
    assert contents(storage.fetch_directory(blob)) == expected


def test_a_file_comes_back_as_it_was(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(b"archive")
    blob = storage.publish_file(tmp_path / "upload", "uploads/ds_1")
    assert storage.fetch_file(blob).read_bytes() == b"archive"


def test_a_key_that_is_published_again_holds_the_new_bytes(tmp_path: Path, folder: Path) -> None:
    storage = LocalStorage(tmp_path / "blobs")
    storage.publish_directory(folder, "artifacts/mdl_1")
    folder.mkdir()
    (folder / "c").write_bytes(b"new")
    storage.publish_directory(folder, "artifacts/mdl_1")
    assert contents(storage.fetch_directory("artifacts/mdl_1")) == {"c": b"new"}


def test_deleting_is_thorough_and_repeatable(storage: Storage, folder: Path, tmp_path: Path) -> None:
    blob = storage.publish_directory(folder, "datasets/ds_1-1")
    storage.fetch_directory(blob)
    storage.fetch_file(f"{blob}/a.bin")
    for _ in range(2):
        storage.delete(blob)
    for fetch in (lambda: storage.fetch_directory(blob), lambda: storage.fetch_file(f"{blob}/a.bin")):
        with pytest.raises(DependencyError) as caught:
            fetch()
        assert caught.value.code == "blob_missing"
    assert not [path for path in tmp_path.rglob("a.bin") if path.parent != folder]


def test_publishing_locally_moves_and_copies_nothing(tmp_path: Path, folder: Path) -> None:
    inode = (folder / "a.bin").stat().st_ino
    blob = LocalStorage(tmp_path / "blobs").publish_directory(folder, "datasets/x")
    assert (tmp_path / "blobs" / blob / "a.bin").stat().st_ino == inode
    assert not folder.exists()


def test_publishing_from_another_file_system_copies_aside_first(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.stat

    def stat(self: Path, **options: bool) -> os.stat_result:
        found = real(self, **options)
        if self != folder:
            return found
        return os.stat_result((*found[:2], found.st_dev + 1, *found[3:10]))

    expected = contents(folder)
    monkeypatch.setattr(Path, "stat", stat)
    storage = LocalStorage(tmp_path / "blobs")
    assert contents(storage.fetch_directory(storage.publish_directory(folder, "datasets/x"))) == expected
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == ["datasets"]


def test_a_remote_folder_without_its_seal_is_not_there(remote: RemoteStorage, folder: Path) -> None:
    remote.publish_directory(folder, "datasets/x")
    fsspec.filesystem("memory").rm("/bucket/datasets/x.seal")
    with pytest.raises(DependencyError) as caught:
        remote.fetch_directory("datasets/x")
    assert caught.value.code == "blob_missing"


def test_a_damaged_remote_file_is_not_taken(tmp_path: Path, remote: RemoteStorage, folder: Path) -> None:
    remote.publish_directory(folder, "datasets/x")
    fsspec.filesystem("memory").pipe_file("/bucket/datasets/x/a.bin", b"b" * 1000)
    with pytest.raises(DependencyError) as caught:
        remote.fetch_directory("datasets/x")
    assert caught.value.code == "blob_damaged"
    assert not (tmp_path / "cache" / "datasets" / "x").exists()
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name != "datasets"]


@pytest.mark.parametrize("key", ["", "/abs", "../up", "a/../b", "a//b", "a/", "./a", "a b", "\u00e9", "a\\b", ".aside-1", "x" * 201])
def test_no_other_keys_than_plain_ones(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        checked_key(key)
    with pytest.raises(ValueError, match="key"):
        LocalStorage(tmp_path).fetch_file(key)


def test_the_keys_in_use_are_plain() -> None:
    for key in ("uploads/ds_06h0", "datasets/ds_06h0-12", "artifacts/mdl_06h0", "datasets/ds_06h0-12/items.db"):
        assert checked_key(key) == key


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, StorageFullError), (errno.EDQUOT, StorageFullError), (errno.EIO, DependencyError)]
)
def test_the_systems_errors_are_translated(number: int, kind: type[Exception]) -> None:
    with pytest.raises(kind), storage_errors("something"):
        raise OSError(number, os.strerror(number))


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFullError):
        LocalStorage(tmp_path / "blobs").publish_directory(folder, "datasets/x")
    assert not (tmp_path / "blobs" / "datasets" / "x").exists()


def test_asking_for_a_copy_makes_it_new(tmp_path: Path, remote: RemoteStorage, folder: Path) -> None:
    (tmp_path / "upload").write_bytes(b"archive")
    packed, upload = remote.publish_directory(folder, "datasets/ds_1-1"), remote.publish_file(tmp_path / "upload", "uploads/ds_1")
    fetches = (lambda: remote.fetch_directory(packed), lambda: remote.fetch_file(f"{packed}/b.json"), lambda: remote.fetch_file(upload))
    for fetch in fetches:
        local = fetch()
        for path in (tmp_path / "cache").rglob("*"):
            os.utime(path, (1.0, 1.0))
        assert fetch() == local
        remote.sweep(interrupted=HOUR, unused=HOUR)
        assert local.exists()


def test_the_age_of_a_blob_counts_from_its_publication(storage: Storage, folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        os.utime(path, (1.0, 1.0))
    blob = storage.publish_directory(folder, "datasets/ds_1-1")
    assert storage.keys("datasets") == [blob]
    assert 0 <= storage.age(blob) < HOUR
    assert storage.age("datasets/ds_2-1") == 0
    assert storage.keys("artifacts") == []


def test_scratch_folders_are_new_each_time(settings: Settings) -> None:
    first, second = new_scratch("import"), new_scratch("import")
    assert first != second
    assert first.parent == second.parent == settings.scratch_dir


def test_the_url_chooses_the_storage(change_setting: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert isinstance(get_storage(), LocalStorage)
    monkeypatch.setenv("BLOB_URL", "memory://bucket")
    change_setting()
    assert isinstance(get_storage(), RemoteStorage)
    monkeypatch.setenv("BLOB_URL", f"file://{tmp_path}/elsewhere")
    change_setting()
    (tmp_path / "file").write_bytes(b"1")
    get_storage().publish_file(tmp_path / "file", "uploads/x")
    assert (tmp_path / "elsewhere" / "uploads" / "x").read_bytes() == b"1"


def test_a_storage_without_its_library_is_said_clearly(change_setting: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setenv("BLOB_URL", "s3://bucket/below")
    change_setting()
    with pytest.raises(UnavailableError) as caught:
        get_storage()
    assert "synesthesia[s3]" in (caught.value.hint or "")
    monkeypatch.setenv("BLOB_URL", "nowhere://bucket")
    change_setting()
    with pytest.raises(UnavailableError):
        get_storage()
