"""Checkpoints that are whole or not there, whatever happened to the disk."""

import errno
import os
from pathlib import Path

import pytest
import torch

from worker.checkpoints import Checkpoints


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((3, 4), value), "step": torch.tensor(int(value))}


def saved(folder: Path, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(folder)
    for step in steps:
        checkpoints.save(step, tensors(step), {"step": step, "order": [1, 2]})
    return checkpoints


def newest(folder: Path) -> Path:
    return max(folder.glob("*.safetensors"))


def loaded_step(folder: Path) -> int | None:
    found = Checkpoints(folder).load()
    return None if found is None else int(found[1]["step"])


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    saved(tmp_path, 7)
    found = Checkpoints(tmp_path).load()
    assert found is not None
    assert found[1] == {"step": 7, "order": [1, 2]}
    assert found[0].keys() == {"weight", "step"}
    assert torch.equal(found[0]["weight"], torch.full((3, 4), 7.0))
    assert found[0]["step"].dtype == torch.int64


def test_none_at_first(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "new").load() is None


def test_the_newest_two_are_kept_by_step_not_by_name_or_time(tmp_path: Path) -> None:
    saved(tmp_path, 9, 10, 100)
    assert sorted(int(path.name.split("-")[0]) for path in tmp_path.iterdir()) == [10, 100]
    assert loaded_step(tmp_path) == 100


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "exchanged"])
def test_a_damaged_one_gives_way_to_the_one_before(tmp_path: Path, damage: str) -> None:
    saved(tmp_path, 1, 2)
    path = newest(tmp_path)
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        del data[-5:]
    elif damage == "empty":
        data.clear()
    elif damage == "flipped":
        data[-1] ^= 1
    else:
        data = bytearray(min(tmp_path.glob("*.safetensors")).read_bytes())
    path.write_bytes(data)
    assert loaded_step(tmp_path) == 1
    assert not path.exists()
    newest(tmp_path).write_bytes(b"")
    assert loaded_step(tmp_path) is None


def test_a_torn_save_leaves_no_trace(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    (tmp_path / "000000002-abc.part").write_bytes(b"half")
    assert loaded_step(tmp_path) == 1
    assert list(tmp_path.glob("*.part")) == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_save_that_fails_leaves_the_older_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    checkpoints = saved(tmp_path, 1)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), full)
        with pytest.raises(OSError, match="No space"):
            checkpoints.save(2, tensors(2), {"step": 2})
    assert list(tmp_path.glob("*.part")) == []
    assert loaded_step(tmp_path) == 1
    checkpoints.save(3, tensors(3), {"step": 3})
    assert loaded_step(tmp_path) == 3


def test_a_step_that_is_saved_twice(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 4, 4)
    checkpoints.save(4, tensors(5), {"step": 4, "again": True})
    found = Checkpoints(tmp_path).load()
    assert found is not None
    assert found[1]["step"] == 4
