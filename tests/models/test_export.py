"""The ONNX graph: the same answers as torch, the same bytes twice, and nothing written that does not hold."""

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from models import export
from models.backbones import registry
from models.backbones.base import Backbone
from models.config import FeatureConfig, Modality, NetworkConfig, Normalization
from models.errors import ArtifactError
from models.export import export_onnx, sample_inputs
from models.network import Network, build_network, picture_model, waveform_model

torch.set_num_threads(1)  # more threads than the tiny tensors are worth cost more than they bring

FEATURES = FeatureConfig(n_mels=64, hop_ms=10.0, clip_seconds=0.5, image_size=28)
INPUTS = {"audio": (8000,), "image": (3, 28, 28)}
NETWORKS = [
    *((modality, name, None) for modality in ("audio", "image") for name in (*registry.names(), "timm/test_resnet")),
    ("audio", "seed_cnn", 10),
    ("audio", "timm/mobilenetv3_small_100", None),
    ("audio", "timm/deit_tiny_patch16_224", None),
]


def config_of(modality: Modality, architecture: str, source_classes: int | None = None) -> NetworkConfig:
    bands = 64 if modality == "audio" else 3
    normalization = Normalization(mean=(-4.0,) * bands if modality == "audio" else (0.4,) * 3, std=(3.0,) * bands)
    return NetworkConfig(
        modality=modality,
        architecture=architecture,
        labels=("no", "yes", "stop"),
        features=FEATURES,
        normalization=normalization,
        source_classes=source_classes,
    )


def trained(config: NetworkConfig) -> Network:
    """A network whose answers differ from one another and whose batch-norm statistics are not those that it began with."""
    network = build_network(config, seed=3)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, value in network.state_dict().items():
            if key.endswith(("running_mean", "running_var")):
                value.copy_(torch.rand(value.shape, generator=random) + 0.5)
    return network


def answers(path: Path, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (node,) = session.get_inputs()
    probabilities, embedding = session.run(["probabilities", "embedding"], {node.name: inputs})
    return probabilities, embedding


@pytest.mark.parametrize(("modality", "architecture", "source_classes"), NETWORKS)
def test_the_graph_answers_as_torch_does(modality: Modality, architecture: str, source_classes: int | None, tmp_path: Path) -> None:
    network = trained(config_of(modality, architecture, source_classes))
    export_onnx(network, tmp_path / "model.onnx")
    model = (waveform_model if modality == "audio" else picture_model)(network)
    for batch in (1, 2, 5):
        inputs = np.random.default_rng(batch).uniform(0, 0.5, (batch, *INPUTS[modality])).astype(np.float32)
        with torch.no_grad():
            expected, vectors = (output.numpy() for output in model(torch.from_numpy(inputs)))
        probabilities, embedding = answers(tmp_path / "model.onnx", inputs)
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
        assert embedding.shape == (batch, network.backbone.features)
        np.testing.assert_allclose(embedding, vectors, atol=1e-4 * max(1, np.abs(vectors).max()))


def test_names_and_axes_are_what_clients_rely_on(tmp_path: Path) -> None:
    for modality, name in (("audio", "waveform"), ("image", "pixels")):
        export_onnx(build_network(config_of(modality, "resnet_tiny")), tmp_path / "model.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
        assert [(node.name, node.shape) for node in session.get_inputs()] == [(name, ["batch", *INPUTS[modality]])]
        outputs = [("probabilities", ["batch", 3]), ("embedding", ["batch", 384])]
        assert [(node.name, node.shape) for node in session.get_outputs()] == outputs
        onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"), full_check=True)


@pytest.mark.parametrize("architecture", ["resnet_tiny", "seed_cnn", "timm/test_vit"])
def test_the_same_weights_give_the_same_bytes(architecture: str, tmp_path: Path) -> None:
    config = config_of("audio", architecture)
    if architecture == "timm/test_vit":  # attention needs a size that its patches divide
        features = FEATURES.model_copy(update={"clip_seconds": 0.63})
        config = config.model_copy(update={"features": features})
    one, other = build_network(config, seed=1), build_network(config, seed=1)
    for parameter in other.parameters():  # as training lays them out
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    export_onnx(one, tmp_path / "one.onnx")
    export_onnx(other.train(), tmp_path / "other.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "other.onnx").read_bytes()


def test_the_graph_names_no_place_on_this_machine(tmp_path: Path) -> None:
    export_onnx(build_network(config_of("audio", "resnet_tiny")), tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx")
    texts = [graph.doc_string, graph.graph.doc_string, *(entry.value for entry in graph.metadata_props)]
    texts += [text for node in graph.graph.node for text in (node.doc_string, *(entry.value for entry in node.metadata_props))]
    assert not any(texts)
    content = (tmp_path / "model.onnx").read_bytes()
    assert not re.search(rb"\.py\b|site-packages|/home/|/tmp/", content)
    assert str(Path(export.__file__).parents[1]).encode() not in content


def test_batch_normalization_is_folded(tmp_path: Path) -> None:
    export_onnx(trained(config_of("image", "resnet_tiny")), tmp_path / "model.onnx")
    operations = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert "Conv" in operations
    assert "BatchNormalization" not in operations


def test_the_network_is_left_as_it_was(tmp_path: Path) -> None:
    network = trained(config_of("audio", "resnet_tiny")).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    export_onnx(network, tmp_path / "model.onnx")
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


class Treacherous(Backbone):
    """A backbone that a trace can't hold: it asks how many pictures there are."""

    features = 4

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Linear(1, 4)

    def layer_names(self) -> tuple[str, ...]:
        return ("layer1",)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = self.layer1(pictures.mean(dim=(1, 2, 3))[:, None])
        return vectors if pictures.shape[0] == 2 else vectors * 3


class Inexpressible(Treacherous):
    """A backbone with an operation that ONNX does not have."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.layer1(torch.special.bessel_j0(pictures.mean(dim=(1, 2, 3)))[:, None])


@pytest.mark.parametrize(("backbone", "code"), [(Treacherous, "export_mismatch"), (Inexpressible, "export_failed")])
def test_a_graph_that_does_not_hold_is_never_written(backbone: type[Backbone], code: str, tmp_path: Path) -> None:
    network = Network(config_of("image", "resnet_tiny"), backbone=backbone())
    with pytest.raises(ArtifactError) as caught:
        export_onnx(network, tmp_path / "model.onnx")
    assert caught.value.code == code
    assert caught.value.param == "model.onnx"
    assert list(tmp_path.iterdir()) == []


def test_an_embedding_that_does_not_hold_is_never_written(tmp_path: Path) -> None:
    network = Network(config_of("image", "resnet_tiny"), backbone=Treacherous())
    with torch.no_grad():
        network.backbone.layer1.bias.fill_(1.0)
        network.head.weight.zero_()  # the probabilities then hold
    with pytest.raises(ArtifactError, match="in its embedding") as caught:
        export_onnx(network, tmp_path / "model.onnx")
    assert caught.value.code == "export_mismatch"
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_no_numbers_do_not_pass(tmp_path: Path) -> None:
    network = build_network(config_of("image", "resnet_tiny"))
    with torch.no_grad():
        network.head.bias.fill_(float("nan"))
    with pytest.raises(ArtifactError) as caught:
        export_onnx(network, tmp_path / "model.onnx")
    assert caught.value.code == "export_mismatch"


def test_a_network_without_labels_has_no_graph(tmp_path: Path) -> None:
    network = build_network(config_of("image", "resnet_tiny").model_copy(update={"labels": ()}))
    with pytest.raises(ArtifactError):
        export_onnx(network, tmp_path / "model.onnx")


@pytest.mark.parametrize(("shape", "low"), [((8000,), -1.0), ((3, 28, 28), 0.0)])
def test_samples_are_noise_silence_and_a_loud_sine(shape: tuple[int, ...], low: float) -> None:
    samples = sample_inputs(shape)
    assert samples.shape == (3, *shape)
    assert samples.dtype == np.float32
    assert samples.min() >= low
    assert samples.max() <= 1
    assert not samples[1].any()
    assert samples[0].std() > 0.25
    assert samples[2].max() > 0.98
