import io
from itertools import pairwise

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.audio import decode_audio, to_pcm16
from models.errors import MediaContentError, MediaError
from models.streaming_audio import INLETS, OPUS_RATE, Inlet, PcmInlet, WebmInlet
from tests.conftest import tone, wav_bytes


def recorded(seconds: float = 0.6, *, channels: int = 1) -> bytes:
    """What a recorder of audio/webm;codecs=opus gives."""
    sink = io.BytesIO()
    wave = np.ascontiguousarray(np.stack([tone(440, seconds, rate=OPUS_RATE)] * channels))
    with av.open(sink, "w", format="webm", options={"live": "1"}) as container:
        track = container.add_stream("libopus", rate=OPUS_RATE, layout="mono" if channels == 1 else "stereo")
        for start in range(0, wave.shape[1], 960):
            packed = np.ascontiguousarray(wave[:, start : start + 960].T.reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(packed, format="flt", layout="mono" if channels == 1 else "stereo")
            frame.sample_rate, frame.pts = OPUS_RATE, start
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return sink.getvalue()


RECORDED = recorded()
STEREO = recorded(channels=2)
PCM = to_pcm16(tone(440, 0.3, rate=44100, seed=1)).tobytes()


def heard(inlet: Inlet, data: bytes, cuts: list[int]) -> NDArray[np.float32]:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return np.concatenate([*(inlet.feed(data[start:end]) for start, end in pairwise(edges)), inlet.finish()])


@given(st.lists(st.integers(0, len(PCM)), max_size=20), st.sampled_from([8000, 16000, 44100]))
def test_pieces_of_pcm_do_not_matter(cuts: list[int], target: int) -> None:
    whole = heard(PcmInlet(44100, 1, target), PCM, [])
    np.testing.assert_array_equal(heard(PcmInlet(44100, 1, target), PCM, cuts), whole)


@given(st.lists(st.integers(0, len(RECORDED)), max_size=20))
def test_pieces_of_webm_do_not_matter(cuts: list[int]) -> None:
    np.testing.assert_array_equal(heard(WebmInlet(0, 0, 16000), RECORDED, cuts), heard(WebmInlet(0, 0, 16000), RECORDED, []))


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 192000])
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_pcm_is_what_the_same_file_would_be(rate: int, channels: int) -> None:
    pcm = to_pcm16(np.stack([tone(300 + 50 * index, 0.3, rate=rate) for index in range(channels)], axis=1))
    inlet = PcmInlet(rate, channels, 16000)
    found = heard(inlet, pcm.tobytes(), list(range(0, pcm.nbytes, 1000)))
    np.testing.assert_array_equal(found, decode_audio(wav_bytes(pcm, rate)).waveform)
    assert inlet.taken == len(pcm)


@pytest.mark.parametrize("data", [RECORDED, STEREO])
def test_webm_is_what_the_same_file_would_be(data: bytes) -> None:
    inlet = WebmInlet(0, 0, 16000)
    found = heard(inlet, data, list(range(0, len(data), 300)))
    of_file = decode_audio(data).waveform
    assert len(found) >= len(of_file), "a recorder may fill up its last packet"
    inner = slice(100, len(of_file) - 100)  # the file ends sooner, which the resampler hears
    np.testing.assert_allclose(found[inner], of_file[inner], atol=2 / 32768)
    assert (inlet.rate, inlet.taken >= 0.6 * OPUS_RATE) == (OPUS_RATE, True)


def test_a_sound_that_ends_inside_a_sample() -> None:
    inlet = PcmInlet(16000, 2, 16000)
    assert len(inlet.feed(bytes(7))) == 1
    with pytest.raises(MediaContentError) as caught:
        inlet.finish()
    assert caught.value.code == "audio_truncated"


@given(st.lists(st.tuples(st.integers(0, len(RECORDED) - 1), st.integers(0, 255)), min_size=1, max_size=10))
def test_damaged_webm_raises_nothing_but_our_own_errors(damage: list[tuple[int, int]]) -> None:
    data = bytearray(RECORDED)
    for at, value in damage:
        data[at] = value
    try:
        assert np.isfinite(heard(WebmInlet(0, 0, 16000), bytes(data), [500, 1000])).all()
    except MediaError:
        pass


def test_a_track_without_its_header_is_refused() -> None:
    with pytest.raises(MediaContentError, match="OpusHead"):
        WebmInlet(0, 0, 16000).feed(RECORDED.replace(b"OpusHead", b"OpusTail"))


def test_every_encoding_of_the_protocol_has_an_inlet() -> None:
    from typing import get_args

    from app.schemas.stream import StreamStart

    assert set(INLETS) == set(get_args(StreamStart.model_fields["encoding"].annotation))
