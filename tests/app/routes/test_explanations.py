"""Sounds as pictures, and which part of one decided."""

import base64
import time
from collections.abc import Callable

import numpy as np
import pytest
from starlette.testclient import TestClient

from app.schemas.pictures import Explanation, Spectrogram
from models.audio import decode_audio
from models.spectrogram import spectrogram_of
from tests.app.conftest import check_problem
from tests.conftest import tone, wav_bytes

WAV = {"Content-Type": "audio/wav"}
SOUND = wav_bytes(tone(440, 0.4, seed=1))


@pytest.mark.parametrize("seconds", [0.4, 7.0])
def test_a_posted_sound_becomes_a_picture(client: TestClient, seconds: float) -> None:
    sound = wav_bytes(tone(440, seconds, seed=1))
    found = Spectrogram.model_validate(client.post("/spectrograms", content=sound, headers=WAV).json())
    expected = spectrogram_of(decode_audio(sound).waveform, 16000)
    assert (found.bands, found.frames) == expected.levels.shape
    assert found.duration_seconds == seconds
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(found.levels), np.uint8).reshape(expected.levels.shape), expected.levels)
    form = client.post("/spectrograms", files={"file": ("a.wav", sound)})
    assert form.json() == found.model_dump()


def test_an_explanation_agrees_with_the_prediction(client: TestClient, make_model: Callable[..., str]) -> None:
    model = make_model(alias="default")
    answer = client.post("/predict", content=SOUND, headers=WAV).json()
    began = time.perf_counter()
    response = client.post("/explanations", content=SOUND, headers=WAV)
    spent = time.perf_counter() - began
    found = Explanation.model_validate(response.json())
    assert (found.model, found.label, found.rejected) == (model, answer["label"], answer["rejected"])
    assert found.probability == pytest.approx(answer["probability"], abs=1e-5)
    assert [row.label for row in found.top_k] == [row["label"] for row in answer["top_k"]]
    part = found.occlusion
    assert np.shape(part.losses) == (len(part.hertz) - 1, len(part.seconds) - 1)
    assert (part.hertz[0], part.hertz[-1], part.seconds[0], part.seconds[-1]) == (0, 8000, 0, 0.5)
    assert np.abs(part.losses).max() > 0
    assert found.spectrogram.duration_seconds == 0.5  # the clip, filled up
    assert spent < 5, "a second on a machine of its own, and this one is shared"
    assert client.post(f"/explanations?model={model}", content=SOUND, headers=WAV).json()["occlusion"] == response.json()["occlusion"]


@pytest.mark.parametrize("path", ["/spectrograms", "/explanations"])
def test_what_is_no_sound_is_refused(client: TestClient, make_model: Callable[..., str], path: str) -> None:
    make_model(alias="default")
    check_problem(client.post(path, content=b"words", headers=WAV), 415, "media_type_unsupported")
    check_problem(client.post(path, content=SOUND[:200], headers=WAV), 422, "audio_truncated")
    check_problem(client.post(path, content=SOUND, headers={"Content-Type": "image/png"}), 415, "unsupported_media_type")
    check_problem(client.post("/explanations?model=nobody", content=SOUND, headers=WAV), 404, "model_not_found")
