import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from app.media import archive_type, folder_files, pack_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "words"
    for name in ("yes/b.wav", "yes/a.wav", "no/ä.wav", "no/empty.wav", ".git/config", "yes/.DS_Store", ".hidden"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if "empty" in name else name.encode() * 100)
    (root / "nothing").mkdir()
    return root


def test_files_come_in_a_fixed_order_without_hidden_ones(folder: Path) -> None:
    assert [path.relative_to(folder).as_posix() for path in folder_files(folder)] == ["no/empty.wav", "no/ä.wav", "yes/a.wav", "yes/b.wav"]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    (empty / "below").mkdir(parents=True)
    (empty / ".hidden").touch()
    with pytest.raises(ValueError, match="holds no files"):
        pack_folder(empty, tmp_path / "x.zip")


def test_a_folder_that_is_hidden_itself_can_be_packed(tmp_path: Path) -> None:
    hidden = tmp_path / ".cache"
    hidden.mkdir()
    (hidden / "a.wav").touch()
    assert folder_files(hidden) == [hidden / "a.wav"]


def test_a_packed_folder_holds_what_was_in_it(folder: Path, tmp_path: Path) -> None:
    counted: list[int] = []
    pack_folder(folder, tmp_path / "x.zip", on_file=lambda: counted.append(1))
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {
            path.relative_to(folder).as_posix(): path.read_bytes() for path in folder_files(folder)
        }
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    assert len(counted) == 4


def test_the_same_folder_makes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    pack_folder(folder, tmp_path / "1.zip")
    for path in folder_files(folder):
        os.utime(path, (0, 0))
        path.chmod(0o600)
    pack_folder(folder, tmp_path / "2.zip")
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


def test_archives_are_told_by_their_bytes(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    pack_folder(folder, archive)
    assert archive_type(archive) == "application/zip"
    with zipfile.ZipFile(archive, "w"):
        pass
    assert archive_type(archive) == "application/zip"
    for mode, expected in (("w", "application/x-tar"), ("w:gz", "application/gzip")):
        with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]  # the mode is one of its literals
            tar.add(folder)
        assert archive_type(archive) == expected


@pytest.mark.parametrize("content", [b"", b"PK", b"RIFF", b"x" * 600, b"7z\xbc\xaf'\x1c"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="neither a zip nor a tar"):
        archive_type(path)
