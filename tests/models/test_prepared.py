"""Items of one size: the same numbers as serving computes, written once."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
import torch
from torch.nn import functional

from models.audio import fit_clip, from_pcm16, to_pcm16
from models.config import FeatureConfig, Modality
from models.dataset import PackedDataset, PackedWriter
from models.errors import ConfigError
from models.prepared import PreparedItems, clip_batch, fit_picture, item_shape, picture_batch

Array = np.ndarray[Any, Any]
RANDOM = np.random.default_rng(0)
SOUNDS = [RANDOM.integers(-20000, 20000, n).astype(np.int16) for n in (3000, 8000, 1600, 1601)]
PICTURES = [RANDOM.integers(0, 256, (height, width, 3)).astype(np.uint8) for height, width in ((20, 30), (16, 16), (33, 17))]
CONFIG = FeatureConfig(sample_rate=8000, clip_seconds=0.2, image_size=16)


def pack(directory: Path, modality: Modality, items: list[Array]) -> PackedDataset:
    directory.mkdir(exist_ok=True)
    count = len(items)
    with PackedWriter(directory, modality, sample_rate=8000 if modality == "audio" else None) as writer:
        for item in items:
            writer.append(item)
        writer.finish(
            labels=["a"], item_labels=[0] * count, item_splits=["train"] * count, item_groups=[-1] * count, group_names=[], summary={}
        )
    return PackedDataset.open(directory)


@pytest.fixture
def sounds(tmp_path: Path) -> PackedDataset:
    return pack(tmp_path / "sounds", "audio", SOUNDS)


@pytest.fixture
def pictures(tmp_path: Path) -> PackedDataset:
    return pack(tmp_path / "pictures", "image", PICTURES)


def test_clips_are_those_that_serving_cuts(sounds: PackedDataset, tmp_path: Path) -> None:
    prepared = PreparedItems(sounds, CONFIG, tmp_path)
    assert len(prepared) == 4
    batch = prepared.batch([2, 0, 0])
    assert batch.dtype == np.int16
    np.testing.assert_array_equal(batch, np.stack([fit_clip(SOUNDS[index], 1600) for index in (2, 0, 0)]))
    np.testing.assert_array_equal(clip_batch(sounds, [2, 0, 0], CONFIG), from_pcm16(np.asarray(batch, np.int16)))


def test_clips_at_another_rate_are_resampled_before_they_are_cut(sounds: PackedDataset, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"sample_rate": 16000})
    expected = fit_clip(to_pcm16(soxr.resample(from_pcm16(SOUNDS[1]), 8000, 16000, quality="HQ")), 3200)
    np.testing.assert_array_equal(PreparedItems(sounds, config, tmp_path).batch([1])[0], expected)


def test_pictures_of_one_size(pictures: PackedDataset, tmp_path: Path) -> None:
    prepared = PreparedItems(pictures, CONFIG, tmp_path)
    batch = prepared.batch(np.array([2, 1]))
    assert batch.shape == (2, 16, 16, 3)
    assert batch.dtype == np.uint8
    np.testing.assert_array_equal(batch[1], PICTURES[1])
    np.testing.assert_array_equal(batch, picture_batch(pictures, [2, 1], 16))


def test_a_batch_is_a_copy_that_may_be_changed(sounds: PackedDataset, tmp_path: Path) -> None:
    prepared = PreparedItems(sounds, CONFIG, tmp_path)
    prepared.batch([0])[:] = 0
    assert prepared.batch([0]).any()


def test_what_lies_ready_is_used_as_it_lies(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    clips = pack(tmp_path / "clips", "audio", [sound[:1600] for sound in SOUNDS])
    squares = pack(tmp_path / "squares", "image", [picture[:16, :16] for picture in PICTURES])
    for dataset in (clips, squares):
        prepared = PreparedItems(dataset, CONFIG, scratch)
        assert np.shares_memory(prepared.items, dataset.data)
        np.testing.assert_array_equal(prepared.batch([1])[0], dataset.item(1))
    assert not list(scratch.iterdir())
    PreparedItems(clips, CONFIG.model_copy(update={"sample_rate": 16000, "clip_seconds": 0.1}), scratch)  # 1600 samples at another rate
    assert len(list(scratch.iterdir())) == 1


def test_a_prepared_file_is_taken_again_and_another_configuration_gets_its_own(sounds: PackedDataset, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    first = PreparedItems(sounds, CONFIG, scratch).batch(range(4))
    (path,) = scratch.iterdir()
    os.utime(path, (1, 1))
    np.testing.assert_array_equal(PreparedItems(sounds, CONFIG, scratch).batch(range(4)), first)
    assert [entry.stat().st_mtime for entry in scratch.iterdir()] == [1]
    PreparedItems(sounds, CONFIG.model_copy(update={"clip_seconds": 0.3}), scratch)
    assert len(list(scratch.iterdir())) == 2


def test_a_killed_job_leaves_nothing_that_is_taken(sounds: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)  # the process ends before the file gets its name
    with pytest.raises(KeyboardInterrupt):
        PreparedItems(sounds, CONFIG, scratch)
    monkeypatch.undo()
    np.testing.assert_array_equal(PreparedItems(sounds, CONFIG, scratch).batch([1])[0], fit_clip(SOUNDS[1], 1600))


def test_chunks_join_without_a_seam(sounds: PackedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.prepared.CHUNK_BYTES", 2 * 3200)  # two clips
    np.testing.assert_array_equal(
        PreparedItems(sounds, CONFIG, tmp_path).batch(range(4)), np.stack([fit_clip(sound, 1600) for sound in SOUNDS])
    )


def test_open_sizes_are_refused(sounds: PackedDataset, pictures: PackedDataset) -> None:
    for dataset, field in ((sounds, "clip_seconds"), (pictures, "image_size")):
        with pytest.raises(ConfigError) as caught:
            item_shape(dataset, FeatureConfig())
        assert caught.value.param == f"features.{field}"
    assert item_shape(sounds, CONFIG) == (1600,)
    assert item_shape(pictures, CONFIG) == (16, 16, 3)


@pytest.mark.parametrize("shape", [(40, 64), (64, 40), (50, 50), (12, 15)])
def test_a_picture_becomes_its_middle_square_resized_as_torch_does(shape: tuple[int, int]) -> None:
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    pixels = np.stack([rows * 3, columns * 3, 128 + 100 * np.sin(rows / 5)], axis=2).astype(np.uint8)
    side = min(shape)
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    square = torch.from_numpy(pixels[top : top + side, left : left + side].copy()).permute(2, 0, 1)[None].float()
    reference = functional.interpolate(square, (16, 16), mode="bicubic", antialias=True)[0].permute(1, 2, 0).clamp(0, 255)
    fitted = fit_picture(pixels, 16)
    assert fitted.dtype == np.uint8
    assert np.abs(fitted - reference.numpy()).max() <= 1.5


def test_a_picture_of_the_size_passes_untouched() -> None:
    np.testing.assert_array_equal(fit_picture(PICTURES[1], 16), PICTURES[1])
