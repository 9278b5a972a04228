"""Golden clips: what is stored is what the network answered, what differs is found, and what is no golden set is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from models import golden
from models.artifact import load_artifact, save_artifact
from models.config import FeatureConfig, Modality, ModelManifest, NetworkConfig, Normalization
from models.engine import Engine
from models.errors import ArtifactError
from models.evaluation import evaluation_document
from models.golden import MAX_CLIPS, TOLERANCE, GoldenSet, as_inputs, as_stored, golden_bytes, most_clips, read_golden, replay_stored
from models.golden_making import Examples, examples_of, make_golden
from models.manifest import GOLDEN, MANIFEST, read_manifest, verify_files
from models.network import build_network
from models.training_state import TrainingData
from tests.golden_rig import spoil, write_golden

torch.set_num_threads(1)
LABELS = ("no", "yes", "stop")


def config_of(modality: Modality = "audio", labels: tuple[str, ...] = LABELS) -> NetworkConfig:
    bands = 16 if modality == "audio" else 3
    return NetworkConfig(
        modality=modality,
        architecture="resnet_tiny",
        labels=labels,
        features=FeatureConfig(n_mels=16, hop_ms=20.0, clip_seconds=0.25, image_size=16),
        normalization=Normalization(mean=(-4.0,) * bands, std=(3.0,) * bands),
    )


class Clips:
    """Items as training prepares them: each tells its own number."""

    def __init__(self, shape: tuple[int, ...], kind: type[np.generic], count: int) -> None:
        self._shape, self._kind, self._count = shape, kind, count

    def __len__(self) -> int:
        return self._count

    def batch(self, indices: NDArray[np.int64], /) -> NDArray[Any]:
        return np.stack([np.full(self._shape, index, self._kind) for index in indices])


def data_of(
    truth: list[int], splits: dict[str, list[int]], labels: tuple[str, ...] = LABELS, shape: tuple[int, ...] = (4000,)
) -> TrainingData:
    kind = np.int16 if len(shape) == 1 else np.uint8
    parts = {name: np.array(splits.get(name, []), np.int64) for name in ("train", "validation", "test")}
    return TrainingData(
        items=Clips(shape, kind, len(truth)), truth=np.array(truth), labels=labels, groups=np.full(len(truth), -1), **parts
    )  # fmt: skip


def save_to(folder: Path, modality: Modality = "audio", examples: Examples | None = None) -> ModelManifest:
    config = config_of(modality)
    manifest = ModelManifest(network=config)
    return save_artifact(folder, build_network(config, seed=4), manifest=manifest, evaluation=evaluation_document({}), examples=examples)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save_to(folder, examples=examples_of(data_of([0, 1, 2, 1], {"validation": [1, 2, 3]})))
    return folder


@pytest.fixture
def artifact(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(saved, tmp_path / "artifact"))


def read(folder: Path) -> GoldenSet:
    found = read_golden(folder, read_manifest(folder))
    assert found is not None
    return found


def test_an_artifact_holds_the_networks_own_answers(saved: Path) -> None:
    found, (network, manifest) = read(saved), load_artifact(saved)
    assert found.clips == ("noise", "silence", "validation: yes", "validation: stop")
    assert (found.inputs.dtype, found.inputs.shape, found.probabilities.shape) == (np.int16, (4, 4000), (4, 3))
    assert [int(clip[0]) for clip in found.inputs[1:]] == [0, 1, 2]
    assert manifest.golden is not None
    assert manifest.golden.clips == 4
    assert set(manifest.golden.made_with) == {"onnxruntime", "numpy", "soxr"}
    assert GOLDEN in manifest.files
    assert (saved / GOLDEN).stat().st_size < 2**20
    from models.network import waveform_model

    with torch.no_grad():
        expected = waveform_model(network)(torch.from_numpy(as_inputs(found.inputs)))[0].numpy()
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)


@pytest.mark.parametrize("modality", ["audio", "image"])
def test_a_sound_artifact_passes(modality: Modality, tmp_path: Path) -> None:
    shape = (4000,) if modality == "audio" else (16, 16, 3)
    save_to(tmp_path, modality, examples_of(data_of([0, 1, 2], {"train": [0, 1, 2]}, shape=shape)))
    report = replay_stored(Engine.load(tmp_path), tmp_path)
    assert report is not None
    assert report.passed
    assert report.max_difference < 1e-4
    assert report.changed_labels == ()
    assert report.made_with == report.replayed_with


def test_other_answers_are_told_with_clip_difference_and_limit(artifact: Path) -> None:
    spoil(artifact, 0.02)
    report = replay_stored(Engine.load(artifact), artifact)
    assert report is not None
    assert not report.passed
    assert report.worst_clip == "noise"
    assert report.max_difference == pytest.approx(0.02, abs=1e-4)
    assert report.sentence().startswith("its golden clip 'noise' is answered 0.02 off, 0.001 is the limit")
    assert "the libraries are those that it was made with" in report.sentence()


def test_versions_that_have_changed_are_named(artifact: Path) -> None:
    manifest = read_manifest(artifact)
    assert manifest.golden is not None
    older = manifest.golden.model_copy(update={"made_with": manifest.golden.made_with | {"onnxruntime": "1.2.3"}})
    (artifact / MANIFEST).write_text(manifest.model_copy(update={"golden": older}).model_dump_json())
    report = replay_stored(Engine.load(artifact), artifact)
    assert report is not None
    assert f"made with onnxruntime 1.2.3, now {report.replayed_with['onnxruntime']}" in report.sentence()
    assert "numpy" not in report.sentence()


@pytest.mark.parametrize(("by", "passes"), [(TOLERANCE / 2, True), (TOLERANCE * 2, False)])
def test_the_limit_is_where_it_is_said_to_be(artifact: Path, by: float, passes: bool) -> None:
    spoil(artifact, by)
    report = replay_stored(Engine.load(artifact), artifact)
    assert report is not None
    assert report.passed is passes


def test_a_likeliest_label_that_changes_is_told(artifact: Path) -> None:
    found = read(artifact)
    turned = found.probabilities.copy()
    turned[2] = np.roll(turned[2], 1)
    write_golden(artifact, golden_bytes(GoldenSet(found.inputs, turned, found.clips)))
    report = replay_stored(Engine.load(artifact), artifact)
    assert report is not None
    assert report.changed_labels == ("validation: yes",)
    assert "1 with another label" in report.sentence()


def test_answers_that_are_no_numbers_never_pass(artifact: Path) -> None:
    found = read(artifact)
    write_golden(artifact, golden_bytes(GoldenSet(found.inputs, np.full_like(found.probabilities, np.nan), found.clips)))
    report = replay_stored(Engine.load(artifact), artifact)
    assert report is not None
    assert not report.passed
    assert report.max_difference == float("inf")


def test_older_artifacts_without_golden_clips_stay_valid(artifact: Path) -> None:
    document = json.loads((artifact / MANIFEST).read_text())
    del document["golden"], document["files"][GOLDEN]
    (artifact / MANIFEST).write_text(json.dumps(document))
    (artifact / GOLDEN).unlink()
    verify_files(artifact, read_manifest(artifact))
    assert replay_stored(Engine.load(artifact), artifact) is None


def parts(folder: Path) -> dict[str, NDArray[Any]]:
    return load_file(folder / GOLDEN)


CLIPS = {"clips": json.dumps(["a", "b", "c", "d"])}
DAMAGE = {
    "no safetensors": lambda _: b"x" * 100,
    "empty": lambda _: b"",
    "other name": lambda p: save({"inputs": p["inputs"], "answers": p["probabilities"]}, CLIPS),
    "one more": lambda p: save(p | {"more": p["inputs"]}, CLIPS),
    "other type": lambda p: save(p | {"inputs": p["inputs"].astype(np.float32)}, CLIPS),
    "fewer answers": lambda p: save(p | {"probabilities": p["probabilities"][:3]}, CLIPS),
    "other classes": lambda p: save(p | {"probabilities": p["probabilities"][:, :2].copy()}, CLIPS),
    "shorter clips": lambda p: save(p | {"inputs": p["inputs"][:, :100].copy()}, CLIPS),
    "no names": save,
    "names that are no JSON": lambda p: save(p, {"clips": "["}),
    "names that are no list": lambda p: save(p, {"clips": '{"a": 1}'}),
    "names that are no texts": lambda p: save(p, {"clips": "[1, 2, 3, 4]"}),
    "too few names": lambda p: save(p, {"clips": '["a"]'}),
    "a long name": lambda p: save(p, {"clips": json.dumps(["a" * 1000, "b", "c", "d"])}),
    "deep names": lambda p: save(p, {"clips": "[" * 100_000}),
    "too large": lambda p: save(p, CLIPS) + b"\0" * 5 * 2**20,
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_what_is_no_golden_set_is_refused(artifact: Path, damage: Any) -> None:
    write_golden(artifact, damage(parts(artifact)))
    with pytest.raises(ArtifactError) as raised:
        read(artifact)
    assert raised.value.param == GOLDEN


def test_a_description_without_the_file_is_refused(artifact: Path) -> None:
    manifest = read_manifest(artifact)
    files = {name: digest for name, digest in manifest.files.items() if name != GOLDEN}
    changed = manifest.model_copy(update={"files": files})
    (artifact / GOLDEN).unlink()
    with pytest.raises(ArtifactError, match=GOLDEN):
        read_golden(artifact, changed)
    with pytest.raises(ArtifactError, match=GOLDEN):
        read_golden(artifact, manifest.model_copy(update={"golden": None}))


def test_a_changed_file_is_found_by_its_hash(artifact: Path) -> None:
    content = bytearray((artifact / GOLDEN).read_bytes())
    content[-1] ^= 1
    (artifact / GOLDEN).write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match=r"golden\.safetensors is damaged"):
        Engine.load(artifact)


def test_stored_inputs_are_exact() -> None:
    waveforms = as_stored(np.array([[-1.0, -0.5, 0.0, 0.25, 1.0]], np.float32))
    assert waveforms.tolist() == [[-32768, -16384, 0, 8192, 32767]]
    every = np.arange(-32768, 32768, dtype=np.int16)[None]
    assert np.array_equal(as_stored(as_inputs(every)), every)
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(3, axis=1)
    assert np.array_equal(as_stored(as_inputs(pixels)), pixels)
    assert (as_inputs(pixels).min(), as_inputs(pixels).max()) == (0, 1)


def test_the_file_stays_small() -> None:
    assert most_clips((16000,)) == most_clips((3, 64, 64)) == MAX_CLIPS
    for shape, size in (((16000 * 4,), 2), ((16000 * 30,), 2), ((3, 512, 512), 1)):
        assert most_clips(shape) * int(np.prod(shape)) * size <= golden.MAX_BYTES
    assert most_clips((48000 * 30,)) == 1, "one is kept however long it is"


def test_examples_are_one_a_label_of_validation_items_first() -> None:
    truth = [0, 1, 2, 2, 1, 0, 0, 1, 2]
    everywhere = {"train": [0, 1, 2], "validation": [3, 4, 5], "test": [6, 7, 8]}
    for left, split, first in (("", "validation", [5, 4, 3]), ("validation", "test", [6, 7, 8]), ("validation test", "train", [0, 1, 2])):
        found = examples_of(data_of(truth, {name: items for name, items in everywhere.items() if name not in left.split()}))
        assert found is not None
        assert found.names == tuple(f"{split}: {label}" for label in LABELS)
        assert found.items[:, 0].tolist() == first
    assert examples_of(data_of(truth, {})) is None


def test_many_labels_are_spread_over() -> None:
    labels = tuple(f"word{number}" for number in range(35))
    found = examples_of(data_of(list(range(35)), {"validation": list(range(35))}, labels))
    assert found is not None
    numbers = found.items[:, 0].tolist()
    assert (len(numbers), numbers[0], numbers[-1]) == (6, 0, 34)
    made = make_golden(build_network(config_of(labels=labels), seed=1), found)
    assert len(made.clips) == len(made.inputs) == MAX_CLIPS
    assert (made.clips[:3], made.clips[-1]) == (("noise", "silence", "validation: word0"), "validation: word34")


def test_without_items_there_are_synthetic_clips_alone(tmp_path: Path) -> None:
    save_to(tmp_path)
    assert read(tmp_path).clips == ("noise", "silence", "tone")
    assert "golden.safetensors holds 3 inputs" in (tmp_path / "MODEL_CARD.md").read_text()


def test_parts_that_do_not_fit_make_no_set() -> None:
    with pytest.raises(ValueError, match="equally many"):
        golden_bytes(GoldenSet(np.zeros((2, 4), np.int16), np.zeros((2, 3), np.float32), ("a",)))
