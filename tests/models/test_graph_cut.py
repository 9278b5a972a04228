"""The graph without its front: onnx believes it, its answers are the whole graph's, and what is no graph is refused."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.config import FeatureConfig, NetworkConfig, Normalization
from models.engine import EMBEDDING, OUTPUT, open_session
from models.errors import ArtifactError
from models.export import export_onnx
from models.features import clip_samples, n_frames
from models.graph_cut import cut_front
from models.network import build_network
from models.quick_features import QuickLogMel

FEATURES = FeatureConfig(clip_seconds=0.2)
SHAPE = (FEATURES.n_mels, n_frames(FEATURES))


def exported(folder: Path, architecture: str, source_classes: int | None = None) -> bytes:
    config = NetworkConfig(
        modality="audio",
        architecture=architecture,
        labels=("no", "yes"),
        features=FEATURES,
        normalization=Normalization(mean=(-4.0,) * 40, std=(3.0,) * 40),
        source_classes=source_classes,
    )
    export_onnx(build_network(config).eval(), folder / "model.onnx")
    return (folder / "model.onnx").read_bytes()


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return exported(tmp_path_factory.mktemp("graph"), "resnet_tiny")


@pytest.mark.parametrize(("architecture", "source_classes"), [("resnet_tiny", None), ("bc_resnet", None), ("seed_cnn", 10)])
def test_what_is_left_answers_the_same(tmp_path: Path, architecture: str, source_classes: int | None) -> None:
    whole = exported(tmp_path, architecture, source_classes)
    name, body = cut_front(whole, SHAPE)
    clips = np.random.default_rng(0).uniform(-0.5, 0.5, (3, clip_samples(FEATURES))).astype(np.float32)
    expected = open_session(whole).run([OUTPUT, EMBEDDING], {"waveform": clips})
    found = open_session(body).run([OUTPUT, EMBEDDING], {name: QuickLogMel(FEATURES)(clips)})
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5, rtol=1e-4)


def test_it_is_a_valid_model_with_one_input(graph: bytes) -> None:
    name, body = cut_front(graph, SHAPE)
    model = onnx.load_from_string(body)
    onnx.checker.check_model(model)
    (entry,) = model.graph.input
    sizes = [size.dim_param or size.dim_value for size in entry.type.tensor_type.shape.dim]
    assert (entry.name, sizes) == (name, ["batch", *SHAPE])
    assert {node.op_type for node in onnx.load_from_string(graph).graph.node} - {node.op_type for node in model.graph.node}
    assert [output.name for output in model.graph.output] == [OUTPUT, EMBEDDING]


def test_a_graph_without_a_front_is_refused(graph: bytes) -> None:
    _, body = cut_front(graph, SHAPE)
    with pytest.raises(ArtifactError, match="no front"):
        cut_front(body, SHAPE)


@pytest.mark.parametrize("content", [b"", b"\x3a", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x3b\x00", b"no graph at all"])
def test_what_is_no_graph_is_refused(content: bytes) -> None:
    with pytest.raises(ArtifactError):
        cut_front(content, SHAPE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_graph_is_refused_or_cut_but_nothing_else(graph: bytes, data: st.DataObject) -> None:
    damaged = bytearray(graph[: data.draw(st.integers(0, len(graph)))])
    for _ in range(data.draw(st.integers(0, 3))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        cut_front(bytes(damaged), SHAPE)
    except ArtifactError:
        return
