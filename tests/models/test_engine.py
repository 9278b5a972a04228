"""The engine: the trainer's answers without torch, stretches of long sounds, threads, and graphs that it must not believe."""

import concurrent.futures
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from models.artifact import load_artifact, save_artifact
from models.audio import Sound, decode_audio, fit_clip, from_pcm16, to_pcm16
from models.backbones import registry
from models.config import FeatureConfig, Modality, ModelManifest, NetworkConfig, Normalization
from models.engine import Engine, graph_input, segment_starts
from models.errors import ArtifactError, ConfigError
from models.evaluation import evaluation_document
from models.inputs import Inputs
from models.manifest import GRAPH, MANIFEST, read_manifest
from models.network import build_network, picture_model, waveform_model
from models.predicting import predict_items, predict_sounds
from models.quick_features import QuickLogMel
from tests.conftest import tone, wav_bytes

torch.set_num_threads(1)  # more threads than the tiny tensors are worth cost more than they bring

RATE = 16000
CLIP = 8000
FEATURES = FeatureConfig(n_mels=64, hop_ms=10.0, clip_seconds=0.5, image_size=28)
LABELS = ("no", "yes", "stop")
ARCHITECTURES = [*((name, None) for name in registry.names()), ("seed_cnn", 10), ("timm/test_resnet", None)]


def config_of(modality: Modality, architecture: str = "resnet_tiny", source_classes: int | None = None) -> NetworkConfig:
    bands = 64 if modality == "audio" else 3
    normalization = Normalization(mean=(-4.0,) * bands if modality == "audio" else (0.4,) * 3, std=(3.0,) * bands)
    return NetworkConfig(
        modality=modality,
        architecture=architecture,
        labels=LABELS,
        features=FEATURES,
        normalization=normalization,
        source_classes=source_classes,
    )


def sound_of(waveform: NDArray[np.float32], rate: int = RATE) -> Sound:
    return Sound(waveform, rate, rate, 1, "wav", len(waveform) / rate)


def noise(n_samples: int, seed: int = 0) -> NDArray[np.float32]:
    """Noise that swells and fades on the int16 grid, so that its windows differ."""
    random = np.random.default_rng(seed)
    swell = 0.05 + 0.4 * np.sin(np.arange(n_samples) * 3e-4) ** 2
    return from_pcm16(to_pcm16((swell * random.uniform(-1, 1, n_samples)).astype(np.float32)))


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A speech model; tests that change its files copy it first."""
    folder = tmp_path_factory.mktemp("artifact")
    save(folder, config_of("audio"))
    return folder


@pytest.fixture(scope="module")
def engine(artifact: Path) -> Engine:
    return Engine.load(artifact)


def save(folder: Path, config: NetworkConfig) -> None:
    network = build_network(config, seed=2)
    save_artifact(folder, network, manifest=ModelManifest(network=config), evaluation=evaluation_document({}))


def with_graph(artifact: Path, folder: Path, graph: bytes) -> Path:
    """A copy of the artifact with another graph, and the hash to it."""
    for path in artifact.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / GRAPH).write_bytes(graph)
    manifest = read_manifest(folder)
    files = manifest.files | {GRAPH: hashlib.sha256(graph).hexdigest()}
    (folder / MANIFEST).write_text(manifest.model_copy(update={"files": files}).model_dump_json())
    return folder


class Clips:
    """Clips of one length as the trainer holds them."""

    def __init__(self, clips: NDArray[np.int16]) -> None:
        self._clips = clips

    def __len__(self) -> int:
        return len(self._clips)

    def batch(self, indices: NDArray[np.int64], /) -> NDArray[np.int16]:
        return self._clips[indices]


@pytest.mark.parametrize(("architecture", "source_classes"), ARCHITECTURES)
def test_trainer_graph_and_engine_agree(architecture: str, source_classes: int | None, tmp_path: Path) -> None:
    config = config_of("audio", architecture, source_classes)
    save(tmp_path, config)
    sounds = [noise(length, seed) for seed, length in enumerate((3000, CLIP, 20000))]
    clips = np.stack([fit_clip(to_pcm16(sound), CLIP) for sound in sounds])  # what training prepares
    network = build_network(config, seed=2).eval()
    with torch.no_grad():
        trainer = network(Inputs(Clips(clips), "audio", FEATURES).clean(np.arange(3))).softmax(dim=1).numpy()
    session = onnxruntime.InferenceSession(tmp_path / GRAPH, providers=["CPUExecutionProvider"])
    (graph,) = session.run(["probabilities"], {"waveform": from_pcm16(clips)})
    served = np.stack([Engine.load(tmp_path).predict(sound_of(sound)).probabilities for sound in sounds])
    np.testing.assert_allclose(graph, trainer, atol=1e-4)
    np.testing.assert_allclose(served, trainer, atol=1e-4)
    assert np.ptp(served, axis=0).max() > 1e-5  # it does listen; deep networks with random weights hear little


@pytest.mark.parametrize("temperature", [0.25, 0.6, 4.0])
def test_calibrated_probabilities_agree_everywhere(temperature: float, tmp_path: Path) -> None:
    config = config_of("audio").model_copy(update={"temperature": temperature})
    save(tmp_path, config)
    sounds = [noise(CLIP, seed) for seed in range(3)]
    clips = np.stack([to_pcm16(sound) for sound in sounds])
    network = build_network(config, seed=2).eval()
    inputs = Inputs(Clips(clips), "audio", FEATURES)
    with torch.no_grad():
        expected = (network(inputs.clean(np.arange(3))) / temperature).softmax(dim=1).numpy()
    served = np.stack([Engine.load(tmp_path).predict(sound_of(sound)).probabilities for sound in sounds])
    again, _ = load_artifact(tmp_path)
    np.testing.assert_allclose(served, expected, atol=1e-4)
    np.testing.assert_allclose(predict_items(again, inputs, np.arange(3)), expected, atol=1e-4)
    np.testing.assert_allclose(predict_sounds(again, torch.from_numpy(np.stack(sounds))), expected, atol=1e-4)
    plain = network(inputs.clean(np.arange(3))).softmax(dim=1).detach().numpy()
    assert np.abs(plain - expected).max() > 1e-3, "it makes a difference"


def test_thresholds_stand_in_the_order_of_the_labels(artifact: Path, engine: Engine) -> None:
    assert engine.thresholds.tolist() == [0, 0, 0]
    manifest = read_manifest(artifact).model_copy(update={"thresholds": {LABELS[2]: 0.5, "gone": 0.9}})
    assert Engine(manifest, engine._graph.session).thresholds.tolist() == [0, 0, 0.5]


def test_a_decoded_file_is_answered(engine: Engine) -> None:
    sound = decode_audio(wav_bytes(tone(440, 0.4), RATE))
    prediction = engine.predict(sound)
    assert prediction.probabilities.shape == (3,)
    assert prediction.probabilities.dtype == np.float32
    assert prediction.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert set(prediction.timings) == {"features", "model"}
    assert all(seconds >= 0 for seconds in prediction.timings.values())


def test_what_is_answered_does_not_change(engine: Engine, artifact: Path) -> None:
    sound = sound_of(noise(30000))
    one, again, other = engine.predict(sound), engine.predict(sound), Engine.load(artifact).predict(sound)
    for prediction in (again, other):
        assert np.array_equal(prediction.probabilities, one.probabilities)
        assert all(np.array_equal(a.probabilities, b.probabilities) for a, b in zip(one.segments, prediction.segments, strict=True))


@pytest.mark.parametrize("length", [1, 500, CLIP])
def test_a_sound_no_longer_than_the_clip_is_one_segment(length: int, engine: Engine) -> None:
    prediction = engine.predict(sound_of(noise(length)))
    (segment,) = prediction.segments
    assert (segment.start, segment.end) == (0, length / RATE)
    assert np.array_equal(segment.probabilities, prediction.probabilities)


@pytest.mark.parametrize("length", [CLIP + 1, 12000, 20000, 20001, 90000])
def test_segments_are_the_windows_by_hand(length: int, engine: Engine) -> None:
    waveform = noise(length)
    prediction = engine.predict(sound_of(waveform))
    assert np.array_equal(prediction.probabilities, engine.probabilities(fit_clip(waveform, CLIP)[None])[0])
    assert prediction.segments[0].start == 0
    assert prediction.segments[-1].end == length / RATE
    for segment in prediction.segments:
        start = round(segment.start * RATE)
        assert segment.end == pytest.approx((start + CLIP) / RATE)
        expected = engine.probabilities(waveform[start : start + CLIP][None])[0]
        np.testing.assert_allclose(segment.probabilities, expected, atol=1e-5)


@given(n_samples=st.integers(1, 100_000), clip=st.integers(1, 30_000))
def test_segments_cover_the_sound_in_half_clips(n_samples: int, clip: int) -> None:
    starts = segment_starts(n_samples, clip)
    assert starts[0] == 0
    assert starts[-1] == max(0, n_samples - clip)
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (steps <= max(1, clip // 2)).all()
    assert (steps[:-1] == max(1, clip // 2)).all()


@given(batch=st.integers(0, 40))
def test_a_batch_of_any_size_is_answered_row_by_row(batch: int, engine: Engine) -> None:
    clips = np.stack([noise(CLIP, seed) for seed in range(40)])
    found = engine.probabilities(clips[:batch])
    assert found.shape == (batch, 3)
    if batch:
        np.testing.assert_allclose(found[-1], engine.probabilities(clips[batch - 1 : batch])[0], atol=1e-5)


def test_threads_agree(engine: Engine) -> None:
    sounds = [sound_of(noise(2000 + 3000 * index, index)) for index in range(8)]
    alone = [engine.predict(sound) for sound in sounds]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(engine.predict, sounds * 6))
    for index, prediction in enumerate(together):
        expected = alone[index % len(sounds)]
        assert np.array_equal(prediction.probabilities, expected.probabilities)
        assert [s.start for s in prediction.segments] == [s.start for s in expected.segments]


def test_more_threads_answer_the_same(artifact: Path, engine: Engine) -> None:
    sound = sound_of(noise(30000))
    np.testing.assert_allclose(
        Engine.load(artifact, threads=2).predict(sound).probabilities, engine.predict(sound).probabilities, atol=1e-6
    )


def test_serving_takes_no_torch(artifact: Path) -> None:
    code = """
import json, sys
from pathlib import Path
import numpy as np
from models.audio import Sound
from models.engine import Engine
sound = Sound(np.zeros(4000, np.float32), 16000, 16000, 1, "wav", 0.25)
answer = Engine.load(Path(sys.argv[1])).predict(sound).probabilities.tolist()
heavy = {"torch", "onnx", "timm", "torchaudio", "safetensors"} & {name.partition(".")[0] for name in sys.modules}
print(json.dumps([answer, sorted(heavy)]))
"""
    command = [sys.executable, "-W", "error", "-c", code, str(artifact)]
    done = subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[2])
    answer, heavy = json.loads(done.stdout)
    assert heavy == []
    np.testing.assert_allclose(answer, Engine.load(artifact).predict(sound_of(np.zeros(4000, np.float32))).probabilities, atol=1e-6)


def test_a_picture_model_loads_and_answers_pictures_only(tmp_path: Path) -> None:
    save(tmp_path, config_of("image"))
    engine = Engine.load(tmp_path)
    assert engine.labels == LABELS
    pixels = np.random.default_rng(0).uniform(0, 1, (4, 3, 28, 28)).astype(np.float32)
    with torch.no_grad():
        expected = build_network(config_of("image"), seed=2).eval()(torch.from_numpy(pixels)).softmax(dim=1)
    np.testing.assert_allclose(engine.probabilities(pixels), expected.numpy(), atol=1e-5)
    with pytest.raises(ValueError):
        engine.predict(sound_of(noise(CLIP)))


def test_what_does_not_fit_the_model_is_refused(engine: Engine) -> None:
    with pytest.raises(ValueError):
        engine.predict(sound_of(noise(CLIP), rate=8000))
    for inputs in (noise(CLIP), noise(CLIP - 1)[None], np.zeros((1, 3, 28, 28), np.float32)):
        with pytest.raises(ValueError):
            engine.probabilities(inputs)


@pytest.mark.parametrize(("modality", "shape"), [("audio", (CLIP,)), ("image", (3, 28, 28))])
def test_embeddings_are_the_vectors_below_the_head(modality: Modality, shape: tuple[int, ...], tmp_path: Path) -> None:
    save(tmp_path, config_of(modality))
    engine, network = Engine.load(tmp_path), build_network(config_of(modality), seed=2).eval()
    inputs = np.random.default_rng(0).uniform(0, 0.5, (19, *shape)).astype(np.float32)  # more than are run at once
    with torch.no_grad():
        _, expected = (waveform_model if modality == "audio" else picture_model)(network)(torch.from_numpy(inputs))
    found = engine.embeddings(inputs)
    assert found.shape == (19, network.backbone.features) == (19, engine.embedding_size)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)
    assert engine.embeddings(inputs[:0]).shape == (0, network.backbone.features)
    with pytest.raises(ValueError, match="inputs have shape"):
        engine.embeddings(inputs[0])


def test_a_graph_of_an_older_version_predicts_and_has_no_embedding(artifact: Path, engine: Engine, tmp_path: Path) -> None:
    model = onnx.load(artifact / GRAPH)
    del model.graph.output[1]
    older = Engine.load(with_graph(artifact, tmp_path, model.SerializeToString()))
    clips = np.stack([noise(CLIP, seed) for seed in range(3)])
    assert np.array_equal(older.probabilities(clips), engine.probabilities(clips))
    assert older.embedding_size is None
    with pytest.raises(ArtifactError) as caught:
        older.embeddings(clips)
    assert caught.value.code == "embedding_unavailable"


def _graph(
    *nodes: onnx.NodeProto, output: str = "probabilities", input_name: str = "waveform", batch: str | int = "batch", samples: int = CLIP
) -> onnx.ModelProto:
    """A graph around `nodes`, which make `output` of the waveform."""
    taken = helper.make_tensor_value_info(input_name, TensorProto.FLOAT, [batch, samples])
    given_out = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "g", [taken], [given_out])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _constant(name: str, values: list[int] | list[float], kind: int = TensorProto.INT64) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=helper.make_tensor(name, kind, [len(values)], values))


def _slice(columns: int, output: str, source: str = "waveform") -> list[onnx.NodeProto]:
    """The first `columns` samples."""
    bounds = [_constant("from", [0]), _constant("to", [columns]), _constant("axis", [1])]
    return [*bounds, helper.make_node("Slice", [source, "from", "to", "axis"], [output])]


def _softmax(columns: int = 3, output: str = "probabilities", source: str = "waveform") -> list[onnx.NodeProto]:
    return [*_slice(columns, "logits", source), helper.make_node("Softmax", ["logits"], [output], axis=1)]


def _with_second(name: str, *nodes: onnx.NodeProto, columns: int | None = 4) -> bytes:
    """A graph without fault whose second output `name` is made by `nodes` and declared to have `columns`, if any."""
    model = _graph(*_softmax(), *nodes)
    shape = None if columns is None else ["batch", columns]
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return model.SerializeToString()


def _vectors(output: str = "embedding") -> list[onnx.NodeProto]:
    bounds = [_constant("begin", [0]), _constant("end", [4]), _constant("along", [1])]
    return [*bounds, helper.make_node("Slice", ["waveform", "begin", "end", "along"], [output])]


GRAPHS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "not onnx": lambda: b"not a graph at all" * 10,
    "another number of labels": lambda: _graph(*_softmax(4)).SerializeToString(),
    "logits": lambda: _graph(*_slice(3, "probabilities")).SerializeToString(),
    "another input": lambda: _graph(*_softmax(source="sound"), input_name="sound").SerializeToString(),
    "another output": lambda: _graph(*_softmax(output="scores"), output="scores").SerializeToString(),
    "another clip": lambda: _graph(*_softmax(), samples=CLIP + 1).SerializeToString(),
    "one batch only": lambda: _graph(*_softmax(), batch=1).SerializeToString(),
    "not a number": lambda: _graph(*_slice(3, "s"), helper.make_node("Div", ["s", "s"], ["probabilities"])).SerializeToString(),
    "another second output": lambda: _with_second("vector", *_vectors("vector")),
    "an embedding that is one number": lambda: _with_second(
        "embedding", *_vectors("v"), helper.make_node("ReduceMean", ["v", "along"], ["embedding"], keepdims=0), columns=None
    ),
    "an embedding that is not a number": lambda: _with_second(
        "embedding", *_vectors("v"), helper.make_node("Div", ["v", "v"], ["embedding"])
    ),
    "unknown operation": lambda: _graph(helper.make_node("Steal", ["waveform"], ["probabilities"], domain="evil")).SerializeToString(),
}


def test_a_graph_with_a_second_output_without_fault_is_believed(artifact: Path, tmp_path: Path) -> None:
    assert Engine.load(with_graph(artifact, tmp_path, _with_second("embedding", *_vectors()))).embedding_size == 4


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_that_is_not_the_models_is_refused(name: str, artifact: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = with_graph(artifact, tmp_path, GRAPHS[name]())
    with pytest.raises(ArtifactError) as caught:
        Engine.load(folder)
    assert caught.value.param == GRAPH
    assert str(tmp_path) not in caught.value.message
    assert capfd.readouterr() == ("", "")


def test_a_graph_reads_no_other_file(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A graph without fault, but that a constant of it lies in a file beside it, which is there."""
    model = _graph(*_softmax(3, "raw"), helper.make_node("Mul", ["raw", "w"], ["probabilities"]))
    weight = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="w.bin")
    folder = with_graph(artifact, tmp_path, model.SerializeToString())
    np.ones(3, np.float32).tofile(folder / "w.bin")
    onnxruntime.InferenceSession(folder / GRAPH, providers=["CPUExecutionProvider"])  # opened by its path it would read it
    monkeypatch.chdir(folder)
    with pytest.raises(ArtifactError) as caught:
        Engine.load(folder)
    assert caught.value.param == GRAPH
    assert capfd.readouterr() == ("", "")


def test_a_fair_graph_is_taken(artifact: Path, tmp_path: Path) -> None:
    """That the graphs above are refused for what is wrong with them, not for how they are made."""
    engine = Engine.load(with_graph(artifact, tmp_path, _graph(*_softmax()).SerializeToString()))
    np.testing.assert_allclose(engine.predict(sound_of(np.zeros(CLIP, np.float32))).probabilities, [1 / 3] * 3, atol=1e-6)


@pytest.mark.parametrize("update", [{"labels": ()}, {"features": FeatureConfig()}], ids=["no labels", "open auto"])
def test_a_manifest_that_names_no_model_is_refused(update: dict[str, object], artifact: Path, tmp_path: Path) -> None:
    folder = with_graph(artifact, tmp_path, (artifact / GRAPH).read_bytes())
    manifest = read_manifest(folder)
    changed = manifest.model_copy(update={"network": manifest.network.model_copy(update=update)})
    (folder / MANIFEST).write_text(changed.model_dump_json())
    with pytest.raises(ArtifactError):
        Engine.load(folder)


def test_input_of_the_graph() -> None:
    assert graph_input(config_of("audio")) == ("waveform", (8000,))
    assert graph_input(config_of("image")) == ("pixels", (3, 28, 28))
    with pytest.raises(ConfigError):
        graph_input(config_of("image").model_copy(update={"features": FeatureConfig()}))


def test_the_log_mels_are_computed_outside_of_the_graph_and_change_nothing(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Engine.load(artifact)
    assert quick._graph.front is not None
    monkeypatch.setattr("models.engine.QuickLogMel", unavailable)
    whole = Engine.load(artifact)
    assert whole._graph.front is None
    sounds = [sound_of(noise(n_samples, seed)) for seed, n_samples in enumerate((CLIP, 3 * CLIP, 100))]
    for left, right in zip(quick.predict_many(sounds), whole.predict_many(sounds), strict=True):
        np.testing.assert_allclose(left.probabilities, right.probabilities, atol=1e-6)
        assert len(left.segments) == len(right.segments)
    clips = noise(2 * CLIP).reshape(2, CLIP)
    np.testing.assert_allclose(quick.embeddings(clips), whole.embeddings(clips), atol=1e-4, rtol=1e-4)


def test_a_way_that_answers_otherwise_is_not_taken(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = QuickLogMel.__call__
    monkeypatch.setattr(QuickLogMel, "__call__", lambda self, waveforms: original(self, waveforms) + np.float32(0.5))
    assert Engine.load(artifact)._graph.front is None


def test_sounds_are_answered_together_as_one_by_one(engine: Engine) -> None:
    sounds = [sound_of(noise(n_samples, seed)) for seed, n_samples in enumerate((CLIP, 5 * CLIP, 10, CLIP + 1, 40 * CLIP))]
    for together, sound in zip(engine.predict_many(sounds), sounds, strict=True):
        alone = engine.predict(sound)
        np.testing.assert_allclose(together.probabilities, alone.probabilities, atol=1e-6)
        assert [(part.start, part.end) for part in together.segments] == [(part.start, part.end) for part in alone.segments]


def unavailable(*_: object) -> None:
    raise ImportError("no scipy here")
