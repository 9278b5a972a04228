import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.config import FeatureConfig, ModelManifest, NetworkConfig, Normalization
from models.engine import Engine
from models.streaming_detector import HOP_SECONDS, Detection, StreamingDetector, Tuning, offline
from tests.conftest import RATE, tone

HOP = round(HOP_SECONDS * RATE)
SENSITIVE = Tuning(enter=0.36, leave=0.42, refractory_seconds=0.1)  # of answers that hardly differ: as many detections as can be


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Random weights that tell the tones below apart well enough; the numbers that the tests use are looked at, not assumed."""
    from models.artifact import save_artifact
    from models.evaluation import evaluation_document
    from models.network import build_network

    config = NetworkConfig(
        modality="audio",
        architecture="resnet_tiny",
        labels=("no", "yes", "stop"),
        features=FeatureConfig(clip_seconds=0.5, image_size=28),
        normalization=Normalization(mean=(-4.0,) * 40, std=(3.0,) * 40),
    )
    folder = tmp_path_factory.mktemp("artifact")
    save_artifact(folder, build_network(config, seed=2), manifest=ModelManifest(network=config), evaluation=evaluation_document({}))
    return Engine.load(folder)


class Script(Engine):
    """The real engine with its answers replaced: decisions are looked at apart from what a network makes of a sound."""

    def __init__(self, like: Engine, answers: list[list[float]]) -> None:
        vars(self).update(vars(like))
        self._answers = iter(answers)
        self.runs = 0

    def probabilities(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        self.runs += 1
        return np.array([next(self._answers, [1 / 3] * 3)], np.float32)


def scene() -> NDArray[np.float32]:
    """Tones and chirps between stretches of silence, 3 s."""
    quiet = np.zeros(4800, np.float32)
    rise = tone(300, 0.4) * np.hanning(6400).astype(np.float32)
    return np.concatenate([quiet, tone(400, 0.3), quiet, rise, quiet, tone(2000, 0.25, seed=1), quiet, tone(5000, 0.5), quiet])


SCENE = scene()


@pytest.fixture(scope="module")
def whole(engine: Engine) -> list[Detection]:
    """What is detected in the scene as a whole."""
    found = offline(engine, SCENE, SENSITIVE)
    assert len(found) > 1, "the scene holds something to detect"
    return found


def in_packets(engine: Engine, waveform: NDArray[np.float32], cuts: list[int], tuning: Tuning = SENSITIVE) -> list[Detection]:
    detector = StreamingDetector(engine, tuning)
    edges = [0, *sorted(cuts), len(waveform)]
    found = [hit for start, end in pairwise(edges) for hit in detector.feed(waveform[start:end])]
    return found + detector.finish()


@examples(max_examples=25)
@given(st.lists(st.integers(0, len(SCENE)), max_size=30))
def test_packets_do_not_matter(engine: Engine, whole: list[Detection], cuts: list[int]) -> None:
    assert in_packets(engine, SCENE, cuts) == whole


@pytest.mark.parametrize("size", [1, 7, 320, HOP - 1, HOP, HOP + 1, 5 * HOP])
def test_packets_of_one_size_do_not_matter(engine: Engine, size: int) -> None:
    short = SCENE[: 4800 + 4800 + 4800 + 6400]
    assert in_packets(engine, short, list(range(size, len(short), size))) == offline(engine, short, SENSITIVE)


def test_what_is_judged_is_the_newest_clip(engine: Engine) -> None:
    seen: list[NDArray[np.float32]] = []

    class Watched(Script):
        def probabilities(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
            seen.append(inputs.copy())
            return super().probabilities(inputs)

    noise = np.random.default_rng(3).normal(0, 0.1, 20 * HOP).astype(np.float32)
    StreamingDetector(Watched(engine, [])).feed(noise)
    before = np.concatenate([np.zeros(8000, np.float32), noise])
    assert len(seen) == 20
    for index, clip in enumerate(seen, 1):
        np.testing.assert_array_equal(clip, before[None, index * HOP : index * HOP + 8000])


def test_silence_runs_no_model(engine: Engine) -> None:
    script = Script(engine, [])
    detector = StreamingDetector(script)
    assert detector.feed(np.zeros(10 * RATE, np.float32)) == []
    assert (script.runs, detector.position) == (0, pytest.approx(10))
    detector.feed(tone(400, HOP_SECONDS))
    assert script.runs == 1
    detector.feed(np.zeros(10 * RATE, np.float32))
    assert script.runs == 7, "as long as something of the tone is in the clip of 0.5 s"


def test_steady_noise_becomes_the_background(engine: Engine) -> None:
    script = Script(engine, [])
    detector = StreamingDetector(script)
    noise = np.random.default_rng(0).normal(0, 0.02, 10 * RATE).astype(np.float32)
    detector.feed(noise)
    runs = script.runs
    assert runs < 48, "3 s and a clip: then the background is known"
    detector.feed(noise)
    assert script.runs == runs
    detector.feed(noise[:RATE] + tone(400, 1.0, level=0.1))
    assert script.runs > runs


def judged(engine: Engine, answers: list[list[float]], tuning: Tuning) -> list[Detection]:
    """Detections where each hop of a loud sound is answered as given."""
    noise = np.random.default_rng(0).normal(0, 0.1, (len(answers)) * HOP).astype(np.float32)
    return StreamingDetector(Script(engine, answers), tuning).feed(noise)


NO, YES, NOTHING = [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.3]
ONCE = Tuning(enter=0.6, leave=0.5, refractory_seconds=4 * HOP_SECONDS, smoothing=1)


def times(detections: list[Detection]) -> list[tuple[str, int]]:
    """Labels, and at which hop."""
    return [(found.label, round(found.position / HOP_SECONDS)) for found in detections]


def test_a_word_is_detected_once_while_it_lasts(engine: Engine) -> None:
    assert times(judged(engine, [NOTHING, NO, NO, [0.55, 0.2, 0.2], NO, NOTHING], ONCE)) == [("no", 2)]


def test_another_word_may_follow_at_once(engine: Engine) -> None:
    assert times(judged(engine, [NO, NO, YES, YES, NOTHING], ONCE)) == [("no", 1), ("yes", 3)]


def test_the_same_word_again_needs_a_pause(engine: Engine) -> None:
    for pause, count in ((1, 1), (3, 1), (4, 2), (6, 2)):
        # The refractory time counts from the hop at which the word was over, the first one of the pause.
        assert len(judged(engine, [NO, *[NOTHING] * pause, NO, NOTHING], ONCE)) == count, pause


def test_after_another_word_the_same_may_come_again(engine: Engine) -> None:
    assert times(judged(engine, [NO, YES, NO, NOTHING], ONCE)) == [("no", 1), ("yes", 2), ("no", 3)]


def test_the_mean_of_the_last_answers_decides(engine: Engine) -> None:
    smooth = dataclasses.replace(ONCE, smoothing=3)
    assert judged(engine, [NOTHING, NOTHING, NO, NOTHING, NOTHING], smooth) == []
    (found,) = judged(engine, [NOTHING, NOTHING, NO, NO, NO, NO], smooth)
    assert (found.position, found.probability) == (pytest.approx(4 * HOP_SECONDS), pytest.approx(1.9 / 3))


def test_a_labels_reject_threshold_is_its_level(engine: Engine) -> None:
    strict = Script(engine, [NO, YES])
    strict.thresholds = np.array([0.9, 0.0, 0.0], np.float32)
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * HOP).astype(np.float32)
    assert times(StreamingDetector(strict, ONCE).feed(noise)) == [("yes", 2)]


def test_begin_and_end_are_those_of_the_sound(engine: Engine) -> None:
    sound = np.zeros(30 * HOP, np.float32)
    sound[RATE : RATE + 3200] = tone(400, 0.2)
    hops = round(RATE / HOP)
    script = Script(engine, [NOTHING, NOTHING, NOTHING, NO])  # the first run is the hop in which the tone begins
    (found,) = StreamingDetector(script, ONCE).feed(sound)
    assert (found.start, found.end) == (pytest.approx(1.0, abs=0.011), pytest.approx(1.2, abs=0.011))
    assert round(found.position / HOP_SECONDS) == hops + 4
    (early,) = StreamingDetector(Script(engine, [NOTHING, NO]), ONCE).feed(sound)
    assert early.end == early.position, "it still sounds"


def test_the_last_word_is_heard_to_its_end(engine: Engine) -> None:
    detector = StreamingDetector(Script(engine, [NOTHING, NOTHING, NOTHING, NO]), ONCE)
    assert detector.feed(tone(400, 0.1)) == []
    assert times(detector.finish()) == [("no", 4)]


@pytest.mark.parametrize("cut", [0, 1, HOP - 1])
def test_whether_samples_complete_a_hop_is_known_before(engine: Engine, cut: int) -> None:
    detector = StreamingDetector(Script(engine, []))
    detector.feed(np.zeros(cut, np.float32))
    assert not detector.fills(HOP - cut - 1)
    assert detector.fills(HOP - cut)


def test_models_of_pictures_hear_nothing(engine: Engine) -> None:
    picture = Script(engine, [])
    network = engine.manifest.network.model_copy(update={"modality": "image"})
    picture.manifest = engine.manifest.model_copy(update={"network": network})
    with pytest.raises(ValueError, match="hears nothing"):
        StreamingDetector(picture)


def test_no_torch_is_needed() -> None:
    import subprocess
    import sys

    code = "import sys, models.streaming_detector, models.streaming_audio; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=root).returncode == 0
