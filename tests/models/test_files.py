"""Files that are on the disk when the call returns."""

import os
from pathlib import Path

import pytest

from models.files import write_durably


def test_the_bytes_are_flushed_before_the_file_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    flushed: list[bytes] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        flushed.append(path.read_bytes())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_durably(path, b"old and long")
    write_durably(path, b"new")
    assert flushed == [b"old and long", b"new"]
    assert path.read_bytes() == b"new"


def test_what_cant_be_flushed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_durably(tmp_path / "file", b"x")
