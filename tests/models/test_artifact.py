"""Artifacts: what is saved is what is loaded, and each kind of damage is told apart by file."""

import datetime as dt
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from models.artifact import load_artifact, save_artifact
from models.backbones import registry
from models.config import FeatureConfig, LineageEntry, Modality, ModelManifest, NetworkConfig, Normalization, TransferRecord
from models.engine import Engine
from models.errors import ArtifactError
from models.evaluation import evaluate_split, evaluation_document
from models.manifest import CARD, EVALUATION, GOLDEN, GRAPH, HASHED, MANIFEST, WEIGHTS, read_manifest, verify_files
from models.network import Network, build_network
from worker.registry import ARTIFACT_FILES

torch.set_num_threads(1)  # more threads than the tiny tensors are worth cost more than they bring

LABELS = ("no", "yes")
LINEAGE = (
    LineageEntry(model="mdl_1", job="job_1", dataset="ds_1", dataset_sha256="0" * 64, modality="image", architecture="resnet_tiny"),
    LineageEntry(model="mdl_2", job="job_2", dataset="ds_2", dataset_sha256="1" * 64, modality="audio", architecture="resnet_tiny"),
)
EVALUATED = evaluation_document({"test": evaluate_split(np.array([[0.9, 0.1], [0.2, 0.8]], np.float32), np.array([0, 1]), LABELS)})


def config_of(modality: Modality = "audio", architecture: str = "resnet_tiny", source_classes: int | None = None) -> NetworkConfig:
    bands = 64 if modality == "audio" else 3
    return NetworkConfig(
        modality=modality,
        architecture=architecture,
        labels=LABELS,
        features=FeatureConfig(n_mels=64, hop_ms=10.0, clip_seconds=0.5, image_size=28),
        normalization=Normalization(mean=(0.25,) * bands, std=(3.0,) * bands),
        source_classes=source_classes,
    )


def save(folder: Path, network: Network, created_at: str = "") -> ModelManifest:
    manifest = ModelManifest(
        network=network.config,
        transfer=TransferRecord(mode="partial", base_model="mdl_1", shared_layers=("stem", "layer1"), input_rule="sum"),
        lineage=LINEAGE,
        metrics={"test_accuracy": 1.0},
        created_at=created_at,
    )
    return save_artifact(folder, network, manifest=manifest, evaluation=EVALUATED)


def worn(config: NetworkConfig) -> Network:
    """A network in the state that training leaves it in: kernels channels-last, statistics moved, in training mode."""
    network = build_network(config, seed=6)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand(tensor.shape, generator=torch.Generator().manual_seed(1)) / 10)
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network.train()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save(folder, worn(config_of()))
    return folder


@pytest.fixture
def artifact(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(saved, tmp_path / "artifact"))


def sign(folder: Path) -> None:
    """Put the hashes of the files as they are now into model.json, as whoever forges an artifact would."""
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in HASHED}
    changed = read_manifest(folder).model_copy(update={"files": files})
    (folder / MANIFEST).write_text(changed.model_dump_json())


@pytest.mark.parametrize("modality", ["audio", "image"])
@pytest.mark.parametrize(
    ("architecture", "source_classes"), [*((name, None) for name in registry.names()), ("seed_cnn", 10), ("timm/test_resnet", None)]
)
def test_what_is_loaded_is_what_was_saved(modality: Modality, architecture: str, source_classes: int | None, tmp_path: Path) -> None:
    network = worn(config_of(modality, architecture, source_classes if modality == "audio" else None))
    written = save(tmp_path / "new", network)
    loaded, manifest = load_artifact(tmp_path / "new")
    assert manifest == written
    assert loaded.config == network.config
    assert not loaded.training
    expected = network.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
    assert network.training


def test_the_files_are_those_that_the_registry_passes_on(saved: Path) -> None:
    assert {path.name for path in saved.iterdir()} == set(ARTIFACT_FILES) == {*HASHED, MANIFEST}


def test_the_manifest_says_what_follows_from_the_network(saved: Path) -> None:
    manifest, network = read_manifest(saved), build_network(config_of())
    verify_files(saved, manifest)
    assert set(manifest.files) == {WEIGHTS, GRAPH, EVALUATION, CARD, GOLDEN}
    assert manifest.parameters == network.parameter_count()
    assert list(manifest.layers.items()) == list(network.layer_sizes().items())
    assert manifest.lineage == LINEAGE
    assert manifest.transfer.shared_layers == ("stem", "layer1")
    assert manifest.versions["torch"] == torch.__version__.partition("+")[0]
    assert "timm" not in manifest.versions
    age = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(manifest.created_at)
    assert dt.timedelta(0) <= age < dt.timedelta(hours=1)
    assert manifest.created_at.endswith("Z")


def test_evaluation_is_stored_as_it_is(saved: Path) -> None:
    assert json.loads((saved / EVALUATION).read_bytes()) == EVALUATED


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    plain = build_network(config_of(), seed=6)
    laid_out = build_network(config_of(), seed=6)
    for parameter in laid_out.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    save(tmp_path / "one", plain, "2026-01-01T00:00:00.000Z")
    save(tmp_path / "other", laid_out.train(), "2026-01-01T00:00:00.000Z")
    for name in (*HASHED, MANIFEST):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name


def test_a_number_that_is_none_is_not_written(tmp_path: Path) -> None:
    network = build_network(config_of())
    with pytest.raises(ValueError):
        save_artifact(tmp_path, network, manifest=ModelManifest(network=network.config), evaluation={"splits": {"test": float("nan")}})
    assert not (tmp_path / MANIFEST).exists()  # without which it is no artifact


def test_an_artifact_without_evaluation_is_complete(tmp_path: Path) -> None:
    network = build_network(config_of("image"))
    save_artifact(tmp_path, network, manifest=ModelManifest(network=network.config), evaluation=evaluation_document({}))
    load_artifact(tmp_path)
    assert "Not measured" in (tmp_path / CARD).read_text()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", HASHED)
@pytest.mark.parametrize("damage", [_truncate, _flip, Path.unlink, _make_a_folder])
@pytest.mark.parametrize("load", [load_artifact, Engine.load])
def test_damage_is_told_by_file(name: str, damage: Callable[[Path], None], load: Callable[[Path], object], artifact: Path) -> None:
    damage(artifact / name)
    with pytest.raises(ArtifactError, match=name) as caught:
        load(artifact)
    assert caught.value.param == name


@pytest.mark.parametrize("damage", [_truncate, Path.unlink, _make_a_folder])
@pytest.mark.parametrize("load", [load_artifact, Engine.load])
def test_a_damaged_manifest_is_told(damage: Callable[[Path], None], load: Callable[[Path], object], artifact: Path) -> None:
    damage(artifact / MANIFEST)
    with pytest.raises(ArtifactError) as caught:
        load(artifact)
    assert caught.value.param == MANIFEST


def _other_labels(tensors: dict[str, torch.Tensor]) -> None:
    tensors["head.weight"] = torch.zeros(5, tensors["head.weight"].shape[1])


def _less(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["head.bias"]


def _more(tensors: dict[str, torch.Tensor]) -> None:
    tensors["surprise"] = torch.zeros(1)


@pytest.mark.parametrize("change", [_other_labels, _less, _more])
def test_weights_of_another_network_do_not_fit(change: Callable[[dict[str, torch.Tensor]], None], artifact: Path) -> None:
    tensors = safetensors.torch.load_file(artifact / WEIGHTS)
    change(tensors)
    safetensors.torch.save_file(tensors, artifact / WEIGHTS)
    sign(artifact)
    with pytest.raises(ArtifactError) as caught:
        load_artifact(artifact)
    assert caught.value.param == WEIGHTS


@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95 a pickle", b"\xff" * 64])
def test_what_is_no_safetensors_file_is_refused(content: bytes, artifact: Path) -> None:
    (artifact / WEIGHTS).write_bytes(content)
    sign(artifact)
    with pytest.raises(ArtifactError) as caught:
        load_artifact(artifact)
    assert caught.value.param == WEIGHTS


@pytest.mark.parametrize("update", [{"architecture": "resnet_huge"}, {"features": FeatureConfig()}, {"source_classes": 3}])
def test_a_manifest_that_describes_no_network_is_refused(update: dict[str, object], artifact: Path) -> None:
    manifest = read_manifest(artifact)
    changed = manifest.model_copy(update={"network": manifest.network.model_copy(update=update)})
    (artifact / MANIFEST).write_text(changed.model_dump_json())
    with pytest.raises(ArtifactError) as caught:
        load_artifact(artifact)
    assert caught.value.param == MANIFEST
