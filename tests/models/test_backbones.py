"""Backbones: shapes, names, the pooling that ONNX can express, and timm's weights from a directory."""

import time
from pathlib import Path

import onnxruntime
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from models.backbones import registry, timm_models
from models.backbones.seed_cnn import pool_to_grid, pooling_matrix
from models.errors import ConfigError, UnavailableError

torch.set_num_threads(1)  # more threads than the tiny tensors are worth cost more than they bring

SIZES = [(16, 16), (28, 28), (64, 101), (17, 40)]
# timm's own miniatures: the families of networks in a hundredth of their size.
TIMM = ["timm/test_resnet", "timm/test_efficientnet", "timm/test_convnext", "timm/test_vit"]


@pytest.mark.parametrize("name", registry.names())
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_registered_backbones_take_any_size(name: str, size: tuple[int, int], channels: int) -> None:
    backbone = registry.create(name, in_channels=channels, input_size=size).eval()
    vectors = backbone(torch.randn(2, channels, *size))
    assert vectors.shape == (2, backbone.features)
    assert torch.isfinite(vectors).all()


@pytest.mark.parametrize("name", [*registry.names(), *TIMM])
def test_layers_share_out_all_tensors_in_order(name: str) -> None:
    backbone = registry.create(name, in_channels=1, input_size=(64, 96))
    keys = [key for layer in backbone.layer_names() for key in backbone.layer_keys(layer)]
    assert sorted(keys) == sorted(backbone.state_dict())
    assert all(isinstance(backbone.layer(layer), torch.nn.Module) for layer in backbone.layer_names())
    assert set(backbone.stage_names()) <= set(backbone.layer_names())


@pytest.mark.parametrize("name", [*registry.names(), *TIMM])
def test_layers_come_in_the_order_in_which_data_flows(name: str) -> None:
    backbone = registry.create(name, in_channels=1, input_size=(64, 96)).eval()
    order: list[str] = []
    for layer in backbone.layer_names():
        backbone.layer(layer).register_forward_hook(lambda *_, layer=layer: order.append(layer))
    backbone(torch.randn(1, 1, 64, 96))
    assert order == list(backbone.layer_names())


def test_resnet_tiny_keeps_its_promises() -> None:
    backbone = registry.create("resnet_tiny", in_channels=1, input_size=(40, 51)).eval()
    assert backbone.layer_names() == ("stem", "layer1", "layer2", "layer3", "layer4")
    assert 800_000 < sum(parameter.numel() for parameter in backbone.parameters()) < 1_000_000
    with FlopCounterMode(display=False) as counter:
        backbone(torch.randn(1, 1, 40, 51))
    assert counter.get_total_flops() / 2 <= 35e6


def test_seed_cnn_is_the_network_that_its_picture_shows() -> None:
    torch.manual_seed(0)
    backbone = registry.create("seed_cnn", in_channels=3, input_size=(32, 32))
    weights = dict(backbone.named_parameters())
    assert {name: tuple(weight.shape) for name, weight in weights.items() if name.endswith("weight")} == {
        "conv1.weight": (64, 3, 3, 3),
        "conv2.weight": (128, 64, 3, 3),
        "fc.weight": (1024, 8192),
    }
    pictures = torch.randn(2, 3, 32, 32)
    maps = functional.max_pool2d(functional.relu(functional.conv2d(pictures, weights["conv1.weight"], weights["conv1.bias"], padding=1)), 2)
    maps = functional.max_pool2d(functional.relu(functional.conv2d(maps, weights["conv2.weight"], weights["conv2.bias"], padding=1)), 2)
    expected = functional.relu(functional.linear(maps.flatten(1), weights["fc.weight"], weights["fc.bias"]))
    torch.testing.assert_close(backbone(pictures), expected)


def test_seed_cnn_heads() -> None:
    backbone = registry.create("seed_cnn", in_channels=1, input_size=(64, 101))
    shapes = {
        (modality, source): [tuple(weight.shape) for weight in backbone.build_head(4, modality, source).parameters() if weight.dim() == 2]
        for modality, source in (("image", None), ("audio", None), ("audio", 10))
    }
    assert shapes["image", None] == [(4, 1024)]
    assert shapes["audio", None] == [(512, 1024), (128, 512), (4, 128)]
    assert shapes["audio", 10] == [(10, 1024), (512, 10), (128, 512), (4, 128)]


def test_only_seed_cnn_stands_on_a_classifier() -> None:
    with pytest.raises(ConfigError):
        registry.create("resnet_tiny", in_channels=1, input_size=(16, 16)).build_head(4, "audio", 10)
    assert [name for name in registry.names() if registry.entry(name).carries_classifier] == ["seed_cnn"]


@settings(deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), cells=st.integers(1, 12))
def test_pooling_is_torchs_adaptive_pooling(height: int, width: int, cells: int) -> None:
    maps = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height * 64 + width))
    torch.testing.assert_close(pool_to_grid(maps, cells), functional.adaptive_avg_pool2d(maps, cells), atol=1e-5, rtol=1e-5)


def test_pooling_rows_are_averages() -> None:
    matrix = pooling_matrix(25, 8)
    assert matrix.shape == (8, 25)
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(8))


class Pool(torch.nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return pool_to_grid(maps, 8)


@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")  # torch's exporter uses what torch deprecates
def test_pooling_of_an_odd_size_exports_to_onnx_exactly(tmp_path: Path) -> None:
    path = tmp_path / "pool.onnx"
    maps = torch.randn(3, 4, 16, 25)
    torch.onnx.export(Pool().eval(), (maps,), path, input_names=["maps"], dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), verbose=False)
    session = onnxruntime.InferenceSession(path)
    for batch in (maps, maps[:1]):
        (pooled,) = session.run(None, {"maps": batch.numpy()})
        torch.testing.assert_close(torch.from_numpy(pooled), functional.adaptive_avg_pool2d(batch, 8), atol=1e-6, rtol=1e-6)


def test_unknown_names_are_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        registry.create("resnet_huge", in_channels=1, input_size=(64, 101))
    assert caught.value.code == "backbone_unknown"
    assert "resnet_tiny" in str(caught.value.hint)
    with pytest.raises(ConfigError) as caught:
        registry.create("resnet_tiny", in_channels=1, input_size=(16, 16)).layer("layer9")
    assert "stem, layer1, layer2, layer3, layer4" in caught.value.message


@pytest.mark.parametrize(
    "name", ["timm/../../etc/passwd", "timm/no_such_network", "timm/", "timm/resnet18.no_such_tag", "timm/hf-hub:a/b", "timm/RESNET18"]
)
def test_names_that_timm_does_not_list_are_refused_before_they_become_paths(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        timm_models.find_weights(name, directory=tmp_path, offline=True)
    assert caught.value.code == "backbone_unknown"
    with pytest.raises(ConfigError):
        registry.create(name, in_channels=1, input_size=(64, 101))


@pytest.mark.parametrize("name", [*TIMM[:3], "timm/vit_tiny_patch16_224", "timm/swin_tiny_patch4_window7_224"])
def test_timm_backbones_take_one_channel_and_spectrograms(name: str) -> None:
    backbone = registry.outline(name, in_channels=1, input_size=(64, 101)).eval()
    assert backbone(torch.zeros(2, 1, 64, 101, device="meta")).shape == (2, backbone.features)


def test_timm_layers_have_timms_names() -> None:
    layers = registry.outline("timm/resnet18").layer_names()
    assert layers == ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
    blocks = registry.outline("timm/vit_tiny_patch16_224").layer_names()
    assert blocks[:3] == ("patch_embed", "blocks.0", "blocks.1")
    assert blocks[-2:] == ("blocks.11", "norm")


def test_block_10_is_not_taken_for_block_1() -> None:
    backbone = registry.outline("timm/vit_tiny_patch16_224")
    assert all(key.startswith("model.blocks.1.") for key in backbone.layer_keys("blocks.1"))
    assert "model.cls_token" in backbone.layer_keys("patch_embed")


def test_an_architecture_that_refuses_the_size_says_so() -> None:
    with pytest.raises(ConfigError) as caught:
        registry.outline("timm/levit_128s", in_channels=1, input_size=(64, 101))
    assert caught.value.code == "backbone_input"


def test_weights_come_from_a_directory(tmp_path: Path) -> None:
    original = timm.create_model("test_resnet", pretrained=False)  # with its classifier, as published files have it
    save_file(original.state_dict(), tmp_path / "test_resnet.safetensors")
    weights = timm_models.find_weights("timm/test_resnet", directory=tmp_path, offline=True)
    backbone = timm_models.load_published("timm/test_resnet", weights).eval()
    pictures = torch.randn(2, 3, *timm_models.published_input("timm/test_resnet"))
    expected = original.eval().forward_head(original.forward_features(pictures), pre_logits=True)
    torch.testing.assert_close(backbone(pictures), expected)


def test_missing_weights_are_a_quick_answer_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UnavailableError) as caught:
        timm_models.find_weights("timm/test_resnet", directory=tmp_path, offline=True)
    assert caught.value.code == "weights_unavailable"
    assert "test_resnet.safetensors" in str(caught.value.hint)


def test_a_hub_out_of_reach_is_a_quick_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    # Nothing listens on the discard port: the connection is refused at once.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    begin = time.monotonic()
    with pytest.raises(UnavailableError) as caught:
        timm_models.find_weights("timm/test_resnet", directory=None, offline=False)
    assert caught.value.code == "weights_unavailable"
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\xff" * 64])
def test_a_damaged_weight_file_is_an_answer_and_no_traceback(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "test_resnet.safetensors"
    path.write_bytes(content)
    with pytest.raises(UnavailableError) as caught:
        timm_models.load_published("timm/test_resnet", path)
    assert caught.value.code == "weights_unavailable"


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(3)}, tmp_path / "test_resnet.safetensors")
    with pytest.raises(UnavailableError):
        timm_models.load_published("timm/test_resnet", tmp_path / "test_resnet.safetensors")


@pytest.mark.parametrize("name", registry.names())
def test_descriptions_count_every_parameter(name: str) -> None:
    backbone = registry.create(name, in_channels=3, input_size=(32, 32))
    described = registry.describe(name)
    assert sum(layer.parameters for layer in described) == sum(parameter.numel() for parameter in backbone.parameters())
    assert tuple(layer.name for layer in described) == backbone.layer_names()
