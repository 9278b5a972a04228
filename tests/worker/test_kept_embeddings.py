"""Kept vectors: the same again, nothing damaged, nothing old, never too much."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from models.transferability import Embedded, Statistics
from worker import kept_embeddings
from worker.kept_embeddings import KeptEmbeddings, key_of


def made(seed: int = 0) -> dict[Statistics, Embedded]:
    random = np.random.default_rng(seed)

    def vectors(width: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        return random.normal(size=(4, width)).astype(np.float32)

    layers = {f"layer{number}": vectors(2) for number in range(11, 0, -1)}
    return {"source": Embedded(vectors(3), layers), "target": Embedded(vectors(3), {})}


def test_what_is_kept_is_found_again(tmp_path: Path) -> None:
    kept = KeptEmbeddings(tmp_path / "new")
    assert kept.find("a") is None
    kept.keep("a", made())
    found = kept.find("a")
    assert found is not None
    assert list(found) == ["source", "target"]
    for statistics, expected in made().items():
        np.testing.assert_array_equal(found[statistics].vectors, expected.vectors)
        assert list(found[statistics].layers) == list(expected.layers)  # from input to output
        for name, vectors in expected.layers.items():
            np.testing.assert_array_equal(found[statistics].layers[name], vectors)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 half of it", None])
def test_a_damaged_file_is_removed(tmp_path: Path, damage: bytes | None) -> None:
    kept = KeptEmbeddings(tmp_path)
    kept.keep("a", made())
    path = tmp_path / "a.npz"
    path.write_bytes(path.read_bytes()[:-200] if damage is None else damage)
    assert kept.find("a") is None
    assert not path.exists()


def test_the_least_recently_used_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptEmbeddings(tmp_path)
    for hours, key in enumerate(("new", "used", "old")):
        kept.keep(key, made())
        moment = time.time() - 3600 * hours
        os.utime(tmp_path / f"{key}.npz", (moment, moment))
    assert kept.find("old") is not None  # and is not old any more
    monkeypatch.setattr(kept_embeddings, "_MOST_BYTES", 2 * (tmp_path / "old.npz").stat().st_size)
    kept.sweep()
    assert {path.stem for path in tmp_path.iterdir()} == {"new", "old"}


def test_after_a_week_all_goes_halves_included(tmp_path: Path) -> None:
    kept = KeptEmbeddings(tmp_path)
    kept.keep("a", made())
    (tmp_path / "b.123.part").write_bytes(b"x")
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    kept.sweep()
    assert list(tmp_path.iterdir()) == []
    KeptEmbeddings(tmp_path / "none").sweep()


def test_a_folder_that_can_not_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    kept = KeptEmbeddings(tmp_path / "file")
    kept.keep("a", made())
    assert (tmp_path / "file").read_bytes() == b""


def test_keys_tell_their_parts_apart() -> None:
    assert len({key_of("a", "b"), key_of("ab"), key_of(["a", "b"]), key_of("a", "b", 1), key_of("b", "a")}) == 5
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
