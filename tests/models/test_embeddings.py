"""What sources make of sounds: the right source before random weights, statistics of either kind, and an end when asked."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.config import JobSpec
from models.dataset import PackedDataset, PackedWriter
from models.embeddings import Listening
from models.errors import ConfigError, Interrupted
from models.inputs import Inputs, compute_normalization
from models.network import Network, build_network
from models.prepared import PreparedItems
from models.recipes import network_config, resolve
from models.training import Trainer
from models.training_state import TrainingData
from models.transfer_scores import Held
from models.transferability import Trial, judge, mean_trial
from tests.conftest import RATE

torch.set_num_threads(1)
CPU = torch.device("cpu")
SPEC = JobSpec.model_validate(
    {
        "dataset": "ds_1",
        "hyperparameters": {"epochs": 5, "batch_size": 16, "early_stopping_patience": None},
        "features": {"n_mels": 20, "hop_ms": 20.0, "clip_seconds": 0.3},
        "augmentation": {"speed": False},
    },
    strict=False,
)


def chirp(rises: bool, random: np.random.Generator) -> NDArray[np.int16]:
    """A tone that rises or falls about any pitch, in noise: which it is shows in time and pitch together only."""
    time = np.arange(round(0.3 * RATE)) / RATE - 0.15
    slope = (1 if rises else -1) * random.uniform(1000, 2500)
    phase = 2 * np.pi * (random.uniform(2000, 3500) * time + slope * time**2)
    wave = 0.3 * np.sin(phase) + random.normal(0, 0.1, time.shape)
    return (wave * 20000).clip(-32768, 32767).astype(np.int16)


def pack(folder: Path, items: int, seed: int) -> PackedDataset:
    folder.mkdir()
    random = np.random.default_rng(seed)
    with PackedWriter(folder, "audio", sample_rate=RATE) as writer:
        for index in range(items):
            writer.append(chirp(index % 2 == 0, random))
        writer.finish(
            labels=("rises", "falls"), item_labels=[index % 2 for index in range(items)], item_splits=["train"] * items,
            item_groups=[-1] * items, group_names=(), summary={},
        )  # fmt: skip
    return PackedDataset.open(folder)


def trained(dataset: PackedDataset, scratch: Path) -> Network:
    spec = resolve(SPEC, dataset, source=None)
    data = TrainingData.from_dataset(dataset, PreparedItems(dataset, spec.features, scratch))
    normalization = compute_normalization(data.items, data.train, "audio", spec.features)
    network = build_network(network_config(spec, modality="audio", labels=dataset.labels, normalization=normalization, source=None))
    trainer = Trainer(network, spec, data, device=CPU)
    trainer.fit(on_progress=lambda _: None, should_stop=lambda: False, on_step=lambda _: None)
    return trainer.network.eval()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    return pack(tmp_path_factory.mktemp("target") / "chirps", 80, seed=1)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Network:
    folder = tmp_path_factory.mktemp("source")
    return trained(pack(folder / "chirps", 160, seed=2), folder)


@pytest.fixture(scope="module")
def listening(dataset: PackedDataset) -> Listening:
    return Listening(dataset, np.arange(len(dataset)), resolve(SPEC, dataset, source=None).features, CPU)


def never() -> bool:
    return False


def test_a_source_of_the_same_task_outranks_random_weights(dataset: PackedDataset, listening: Listening, source: Network) -> None:
    truth = np.asarray(dataset.item_labels, np.int64)
    held = Held.of(truth, np.full(len(truth), -1))

    def judged(source: Network | None, seed: int = 0) -> Trial:
        return judge(listening.embed(listening.network("resnet_tiny", source, seed=seed), never)["source"], truth, held, "source")

    found, random = judged(source), mean_trial([judged(None, seed) for seed in range(3)])
    assert found.knn > random.knn + 0.1
    for score in ("linear_probe", "logme", "h_score"):
        assert getattr(found, score) > getattr(random, score), score
    assert found.layers["layer4"] > random.layers["layer4"] + 0.1


def test_vectors_and_layers_are_those_of_the_network(dataset: PackedDataset, listening: Listening, source: Network, tmp_path: Path) -> None:
    network = listening.network("resnet_tiny", source)
    found = listening.embed(network, never)["source"]
    features = resolve(SPEC, dataset, source=None).features
    inputs = Inputs(PreparedItems(dataset, features, tmp_path), "audio", features).clean(np.arange(80))
    again = listening.network("resnet_tiny", source)  # embed leaves other statistics behind
    with torch.no_grad():
        expected = again.features_of(inputs).numpy()
        stem = again.layer("stem")((inputs - again.mean).div(again.std).unsqueeze(1)).mean(dim=(2, 3))
    np.testing.assert_allclose(found.vectors, expected, atol=1e-4)
    assert tuple(found.layers) == ("stem", "layer1", "layer2", "layer3", "layer4")
    assert found.layers["stem"].shape == tuple(stem.shape)
    np.testing.assert_array_equal(found.layers["layer4"], found.vectors[:, : found.vectors.shape[1] // 2])  # mean beside maximum


def test_statistics_of_the_clips_balance_what_they_see(listening: Listening, source: Network) -> None:
    network = listening.network("resnet_tiny", source)
    before = network.layer("stem")[1].running_mean.clone()
    found = listening.embed(network, never)
    assert set(found) == {"source", "target"}
    assert not torch.equal(network.layer("stem")[1].running_mean, before)
    assert not np.array_equal(found["source"].vectors, found["target"].vectors)
    assert set(listening.embed(listening.network("seed_cnn", None), never)) == {"source"}  # which has no batch normalization


def test_random_weights_depend_on_the_seed_alone(listening: Listening) -> None:
    first, same, other = (listening.embed(listening.network("bc_resnet", None, seed=seed), never)["source"].vectors for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_a_source_of_another_architecture_is_refused(listening: Listening, source: Network) -> None:
    with pytest.raises(ConfigError) as refused:
        listening.network("seed_cnn", source)
    assert refused.value.code == "architecture_mismatch"


def test_it_stops_at_a_batch(listening: Listening) -> None:
    with pytest.raises(Interrupted):
        listening.embed(listening.network("resnet_tiny", None), lambda: True)
