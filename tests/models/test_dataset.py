"""Packed datasets: what is written is what is read, and damage is noticed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.config import Modality, Split
from models.dataset import PackedDataset, PackedWriter
from models.errors import DatasetError

SOUNDS = [np.arange(n, dtype=np.int16) - 3 for n in (5, 1, 8, 2)]
PICTURES = [np.random.default_rng(n).integers(0, 256, (n, n + 1, 3)).astype(np.uint8) for n in (4, 9, 6, 5)]
SPLITS: list[Split] = ["train", "test", "train", "validation"]


def pack(directory: Path, modality: Modality = "audio", **changes: Any) -> PackedDataset:
    with PackedWriter(directory, modality, sample_rate=8000 if modality == "audio" else None) as writer:
        for index, item in enumerate(SOUNDS if modality == "audio" else PICTURES):
            assert writer.append(item) == index
        facts: dict[str, Any] = {
            "labels": ["no", "ÿes"],
            "item_labels": [0, 1, 1, 0],
            "item_splits": SPLITS,
            "item_groups": [-1, 0, 1, 1],
            "group_names": ["ann", "bob"],
            "summary": {"grey": False, "note": "ü"},
        }
        writer.finish(**facts | changes)
    return PackedDataset.open(directory)


@pytest.mark.parametrize("modality", ["audio", "image"])
def test_round_trip(tmp_path: Path, modality: Modality) -> None:
    dataset = pack(tmp_path, modality)
    assert len(dataset) == 4
    for index, item in enumerate(SOUNDS if modality == "audio" else PICTURES):
        assert dataset.item(index).dtype == item.dtype
        np.testing.assert_array_equal(dataset.item(index), item)
    assert dataset.modality == modality
    assert dataset.sample_rate == (8000 if modality == "audio" else None)
    assert (dataset.labels, dataset.group_names) == (("no", "ÿes"), ("ann", "bob"))
    assert dataset.summary == {"grey": False, "note": "ü"}
    assert dataset.item_labels.tolist() == [0, 1, 1, 0]
    assert dataset.item_groups.tolist() == [-1, 0, 1, 1]
    assert [dataset.indices(split).tolist() for split in ("train", "validation", "test")] == [[0, 2], [3], [1]]


def test_items_are_views_that_nobody_can_write_to(tmp_path: Path) -> None:
    dataset = pack(tmp_path)
    assert np.shares_memory(dataset.item(2), dataset.data)
    with pytest.raises(ValueError, match="read-only"):
        dataset.item(2)[0] = 1


def test_durations(tmp_path: Path) -> None:
    assert pack(tmp_path).durations().tolist() == [5 / 8000, 1 / 8000, 8 / 8000, 2 / 8000]
    (tmp_path / "pictures").mkdir()
    assert pack(tmp_path / "pictures", "image").durations().tolist() == [0, 0, 0, 0]


def test_grey_is_what_the_ingester_found(tmp_path: Path) -> None:
    assert not pack(tmp_path, "image").grey
    assert pack(tmp_path, "image", summary={"grey": True}).grey
    assert not pack(tmp_path, "image", summary={}).grey


@pytest.mark.parametrize(
    ("modality", "item"),
    [
        ("audio", np.zeros(4, np.float32)),
        ("audio", np.zeros((4, 1), np.int16)),
        ("audio", np.zeros(0, np.int16)),
        ("audio", np.zeros(4, np.uint8)),
        ("image", np.zeros((4, 4), np.uint8)),
        ("image", np.zeros((4, 4, 4), np.uint8)),
        ("image", np.zeros((4, 4, 3), np.int16)),
        ("image", np.zeros((0, 4, 3), np.uint8)),
    ],
)
def test_items_of_another_kind_are_refused(tmp_path: Path, modality: Modality, item: np.ndarray[Any, Any]) -> None:
    with PackedWriter(tmp_path, modality, sample_rate=8000) as writer, pytest.raises(ValueError, match="can't be"):
        writer.append(item)


def test_strided_items_are_written_in_their_order(tmp_path: Path) -> None:
    with PackedWriter(tmp_path, "image", sample_rate=None) as writer:
        writer.append(PICTURES[0].transpose(1, 0, 2))
        writer.finish(labels=["a"], item_labels=[0], item_splits=["train"], item_groups=[-1], group_names=[], summary={})
    np.testing.assert_array_equal(PackedDataset.open(tmp_path).item(0), PICTURES[0].transpose(1, 0, 2))


@pytest.mark.parametrize(
    "changes",
    [
        {"item_labels": [0, 1, 1]},
        {"item_splits": SPLITS[:3]},
        {"item_groups": [0, 0, 0, 0, 0]},
        {"item_labels": [0, 1, 2, 0]},
        {"item_labels": [0, -1, 1, 0]},
        {"item_groups": [0, 0, 2, 0]},
        {"item_groups": [0, 0, -2, 0]},
        {"item_splits": ["train", "train", "train", "dev"]},
    ],
)
def test_what_does_not_fit_the_items_is_refused_and_leaves_nothing_to_open(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        pack(tmp_path, **changes)
    assert_damaged(tmp_path)


def test_an_unfinished_dataset_does_not_open(tmp_path: Path) -> None:
    with PackedWriter(tmp_path, "audio", sample_rate=8000) as writer:
        writer.append(SOUNDS[0])
    assert_damaged(tmp_path)


def test_an_empty_dataset_opens(tmp_path: Path) -> None:
    with PackedWriter(tmp_path, "image", sample_rate=None) as writer:
        writer.finish(labels=[], item_labels=[], item_splits=[], item_groups=[], group_names=[], summary={})
    dataset = PackedDataset.open(tmp_path)
    assert len(dataset) == 0
    assert dataset.indices("train").tolist() == []


def assert_damaged(directory: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        PackedDataset.open(directory)
    assert caught.value.code == "dataset_damaged"


def rewrite_manifest(**changes: Any) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        path = directory / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))

    return damage


def rewrite_array(name: str, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        path = directory / f"{name}.npy"
        np.save(path, change(np.load(path)))

    return damage


DAMAGES: dict[str, Callable[[Path], None]] = {
    **{f"no {name}": (lambda directory, name=name: (directory / name).unlink()) for name in ("manifest.json", "data.bin", "splits.npy")},
    **{
        f"empty {name}": (lambda directory, name=name: (directory / name).write_bytes(b""))
        for name in ("manifest.json", "data.bin", "labels.npy")
    },
    "cut data": lambda directory: (directory / "data.bin").write_bytes((directory / "data.bin").read_bytes()[:-2]),
    "half a sample": lambda directory: (directory / "data.bin").write_bytes((directory / "data.bin").read_bytes()[:-1]),
    "cut array": lambda directory: (directory / "offsets.npy").write_bytes((directory / "offsets.npy").read_bytes()[:-1]),
    "pickled array": rewrite_array("labels", lambda values: values.astype(object)),
    "list manifest": lambda directory: (directory / "manifest.json").write_text("[]"),
    "binary manifest": lambda directory: (directory / "manifest.json").write_bytes(b"\xff\xfe"),
    "other format": rewrite_manifest(format=2),
    "other modality": rewrite_manifest(modality="video"),
    "more items": rewrite_manifest(items=5),
    "items of text": rewrite_manifest(items="4"),
    "no labels": rewrite_manifest(labels=None),
    "fewer labels": rewrite_array("labels", lambda values: values[:-1]),
    "fewer shapes": rewrite_array("shapes", lambda values: values[:-1]),
    "offsets beyond": rewrite_array("offsets", lambda values: values + 1),
    "offsets that fall": rewrite_array("offsets", lambda values: values[[0, 2, 1, *range(3, len(values))]]),
    "offsets of an empty item": rewrite_array("offsets", lambda values: values[[0, 0, *range(2, len(values))]]),
    "offsets below 0": rewrite_array("offsets", lambda values: values - np.eye(1, len(values), dtype=np.int64)[0]),
    "offsets past the middle": rewrite_array("offsets", lambda values: values + 10**12 * np.eye(1, len(values), 1, dtype=np.int64)[0]),
    "offsets in fractions": rewrite_array("offsets", lambda values: values.astype(np.float64)),
    "a label without a name": rewrite_array("labels", lambda values: values + 100),
    "a split that is none": rewrite_array("splits", lambda values: values + 3),
    "a group below none": rewrite_array("groups", lambda values: values - 2),
    "scalar offsets": rewrite_array("offsets", lambda values: values[0]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed(tmp_path: Path, damage: str) -> None:
    pack(tmp_path)
    DAMAGES[damage](tmp_path)
    assert_damaged(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda shapes: shapes[:, ::-1] * [[1, 2]],
        lambda shapes: -shapes,
        lambda shapes: shapes * 0,
        lambda shapes: shapes[:, 0],
    ],
)
def test_shapes_that_are_not_the_pictures_are_noticed(
    tmp_path: Path, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]
) -> None:
    pack(tmp_path, "image")
    rewrite_array("shapes", change)(tmp_path)
    assert_damaged(tmp_path)


@given(st.lists(st.integers(1, 50), max_size=20), st.integers(0, 1000))
def test_any_list_of_sounds_comes_back(tmp_path_factory: pytest.TempPathFactory, lengths: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    sounds = [random.integers(-32768, 32768, n).astype(np.int16) for n in lengths]
    directory, count = tmp_path_factory.mktemp("packed"), len(lengths)
    with PackedWriter(directory, "audio", sample_rate=16000) as writer:
        for sound in sounds:
            writer.append(sound)
        writer.finish(
            labels=["a"], item_labels=[0] * count, item_splits=["train"] * count, item_groups=[-1] * count, group_names=[], summary={}
        )
    dataset = PackedDataset.open(directory)
    assert len(dataset) == count
    assert all(np.array_equal(dataset.item(index), sound) for index, sound in enumerate(sounds))


@pytest.mark.parametrize("modality", ["audio", "image"])
def test_what_is_written_so_far_can_be_read(tmp_path: Path, modality: Modality) -> None:
    with PackedWriter(tmp_path, modality, sample_rate=8000 if modality == "audio" else None) as writer:
        assert [len(part) for part in writer.stored()] == [0, 1, 0]
        for count, item in enumerate(SOUNDS if modality == "audio" else PICTURES, start=1):
            writer.append(item)
            data, offsets, shapes = writer.stored()
            np.testing.assert_array_equal(data[offsets[-2] : offsets[-1]], item.ravel())
            assert (len(offsets), len(shapes)) == (count + 1, count)
            assert modality == "audio" or tuple(shapes[-1]) == item.shape[:2]
