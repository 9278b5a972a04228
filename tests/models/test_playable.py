"""Items as files, read back by other programs' readers."""

import io
import wave

import numpy as np
import pytest
from PIL import Image

from models.audio import decode_audio, from_pcm16
from models.playable import to_png, to_wav


@pytest.mark.parametrize(("n_samples", "rate"), [(8000, 16000), (1601, 8000)])
def test_a_sound_comes_back_bit_for_bit(n_samples: int, rate: int) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, n_samples, np.int16)
    content = to_wav(samples, rate)
    with wave.open(io.BytesIO(content)) as found:
        assert (found.getnchannels(), found.getsampwidth(), found.getframerate()) == (1, 2, rate)
        assert found.readframes(n_samples + 1) == samples.tobytes()
    np.testing.assert_array_equal(decode_audio(content, sample_rate=rate).waveform, from_pcm16(samples))


def test_a_picture_comes_back_pixel_for_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 33, 3), np.uint8)
    with Image.open(io.BytesIO(to_png(pixels))) as found:
        assert (found.format, found.size) == ("PNG", (33, 20))
        np.testing.assert_array_equal(np.asarray(found), pixels)
