"""Every container that is read: encoded here, decoded, compared, cut and damaged."""

import io
from collections.abc import Callable
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from models.audio import decode_audio
from models.decoders import CONTAINERS, open_sound, sniff_container
from models.errors import MediaContentError, MediaError, MediaTypeError

Samples = np.ndarray[Any, np.dtype[np.float32]]


def tone(rate: int, channels: int = 1, seconds: float = 0.5, hertz: float = 440.0) -> Samples:
    """A sine of half scale, shape (frames, channels), softer in each further channel, which tells them apart."""
    time = np.arange(round(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * time)[:, None] / np.arange(1, channels + 1)).astype(np.float32)


def with_soundfile(container: str, subtype: str) -> Callable[[Samples, int], bytes]:
    def encode(samples: Samples, rate: int) -> bytes:
        file = io.BytesIO()
        soundfile.write(file, samples, rate, subtype, None, container)
        return file.getvalue()

    return encode


def with_ffmpeg(container: str, codec: str) -> Callable[[Samples, int], bytes]:
    def encode(samples: Samples, rate: int) -> bytes:
        file = io.BytesIO()
        layout = "mono" if samples.shape[1] == 1 else f"{samples.shape[1]} channels" if samples.shape[1] > 2 else "stereo"
        with av.open(file, "w", format=container) as output:
            stream = output.add_stream(codec, rate=rate)
            stream.layout = layout
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.reshape(1, -1)), "flt", layout)
            frame.sample_rate, frame.pts = rate, 0
            fifo = av.AudioResampler(stream.format, layout, rate, stream.codec_context.frame_size or None)
            for piece in [*fifo.resample(frame), *fifo.resample(None)]:
                output.mux(stream.encode(piece))
            output.mux(stream.encode(None))
        return file.getvalue()

    return encode


def video(container: str, codec: str) -> bytes:
    """Pictures without sound."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(3):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
        output.mux(stream.encode(None))
    return file.getvalue()


# name → (container, encoder, a rate that the codec knows, the greatest error of a tone)
ENCODINGS: dict[str, tuple[str, Callable[[Samples, int], bytes], int, float]] = {
    "wav": ("wav", with_soundfile("WAV", "PCM_16"), 16000, 2e-5),
    "wav-ulaw": ("wav", with_soundfile("WAV", "ULAW"), 16000, 0.02),
    "wav-adpcm": ("wav", with_soundfile("WAV", "IMA_ADPCM"), 16000, 0.02),
    "flac": ("flac", with_soundfile("FLAC", "PCM_16"), 16000, 2e-5),
    "vorbis": ("ogg", with_soundfile("OGG", "VORBIS"), 16000, 0.02),
    "opus": ("ogg", with_soundfile("OGG", "OPUS"), 48000, 0.02),
    "mp3": ("mp3", with_soundfile("MP3", "MPEG_LAYER_III"), 16000, 0.02),
    "m4a": ("mp4", with_ffmpeg("mp4", "aac"), 16000, 0.02),
    "webm": ("webm", with_ffmpeg("webm", "libopus"), 48000, 0.02),
    "aac": ("aac", with_ffmpeg("adts", "aac"), 16000, 0.02),
}
ENCODED = {name: encoder(tone(rate), rate) for name, (_, encoder, rate, _) in ENCODINGS.items()}
# What a container without a length can't tell when it is cut.
CUTS_SHOW = sorted(set(ENCODINGS) - {"mp3", "aac"})


def refusal(data: bytes) -> str:
    with pytest.raises(MediaContentError) as caught:
        decode_audio(data)
    return caught.value.code


def similarity(found: Samples, hertz: float, rate: int) -> float:
    """Share of the sound's energy that is a sine of this frequency, whatever its phase."""
    inner = found[3 * rate // 20 : 8 * rate // 20]  # away from the silence that AAC puts around
    carrier = np.exp(-2j * np.pi * hertz / rate * np.arange(len(inner)))
    return float(2 * abs(np.vdot(carrier.conj(), inner)) ** 2 / len(inner) / np.vdot(inner, inner).real)


def test_every_container_is_tried_here() -> None:
    assert {container for container, *_ in ENCODINGS.values()} == set(CONTAINERS)


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_tone_stays_a_tone(name: str) -> None:
    container, _, rate, error = ENCODINGS[name]
    assert sniff_container(ENCODED[name]) == container
    sound = decode_audio(ENCODED[name])
    assert (sound.container, sound.source_rate, sound.channels, sound.sample_rate) == (container, rate, 1, 16000)
    assert sound.duration_seconds == pytest.approx(0.5, abs=0.11)
    assert len(sound.waveform) == pytest.approx(sound.duration_seconds * 16000, abs=2)
    assert similarity(sound.waveform, 440, 16000) > 0.999
    assert np.sqrt(2 * np.mean(np.square(sound.waveform[2000:6000]))) == pytest.approx(0.5, abs=max(error, 1e-3))


@pytest.mark.parametrize("name", ["wav", "flac"])
def test_lossless_containers_lose_nothing(name: str) -> None:
    expected = np.rint(tone(16000)[:, 0] * 32768) / 32768
    np.testing.assert_allclose(decode_audio(ENCODED[name]).waveform, expected, atol=2**-15)


@pytest.mark.parametrize("name", ["wav", "flac", "vorbis"])
@pytest.mark.parametrize("channels", range(1, 9))
def test_channels_keep_their_places(name: str, channels: int) -> None:
    data = ENCODINGS[name][1](tone(16000, channels), 16000)
    with open_sound(data) as stream:
        samples = np.concatenate(list(stream.blocks))
    assert samples.shape == (8000, channels)
    loudness = np.sqrt(np.mean(np.square(samples), axis=0))
    if name == "vorbis":  # which has an order of channels of its own
        loudness = np.sort(loudness)[::-1]
    np.testing.assert_allclose(loudness / loudness[0], 1 / np.arange(1, channels + 1), rtol=0.05)


@pytest.mark.parametrize("name", ["mp3", "m4a", "webm", "aac", "opus"])
def test_stereo(name: str) -> None:
    _, encoder, rate, _ = ENCODINGS[name]
    sound = decode_audio(encoder(tone(rate, 2), rate))
    assert sound.channels == 2
    assert np.abs(sound.waveform[2000:6000]).max() == pytest.approx(0.375, abs=0.03)


@pytest.mark.parametrize(
    ("name", "rates"), [("m4a", (8000, 22050, 44100, 96000)), ("mp3", (8000, 22050, 44100)), ("vorbis", (8000, 44100, 192000))]
)
def test_other_rates(name: str, rates: tuple[int, ...]) -> None:
    for rate in rates:
        sound = decode_audio(ENCODINGS[name][1](tone(rate), rate))
        assert sound.source_rate == rate
        assert similarity(sound.waveform, 440, 16000) > 0.98  # low bit rates hiss


@pytest.mark.parametrize("name", CUTS_SHOW)
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_cut_file_is_refused(name: str, kept: float) -> None:
    data = ENCODED[name]
    assert refusal(data[: int(kept * len(data))]) in {"audio_truncated", "audio_unreadable"}


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_header_without_sound_is_refused(name: str) -> None:
    data = ENCODED[name]
    for kept in (12, 16, 30):
        assert refusal(data[:kept]).startswith("audio_")


def test_a_flac_of_sound_header_and_broken_body_is_refused() -> None:
    data = bytearray(ENCODED["flac"])
    middle = len(data) // 2
    data[middle : middle + 16] = bytes(16)
    with soundfile.SoundFile(io.BytesIO(bytes(data))) as file:
        assert file.frames == 8000  # the header is as it was
    assert refusal(bytes(data)) in {"audio_truncated", "audio_unreadable"}


def test_ogg_that_ends_inside_its_last_page_is_refused() -> None:
    assert refusal(ENCODED["vorbis"][:-1]) == "audio_truncated"
    assert refusal(b"OggS") == "audio_truncated"


def test_webm_of_unknown_length_is_read() -> None:
    data = bytearray(ENCODED["webm"])
    segment = data.index(b"\x18\x53\x80\x67") + 4
    assert data[segment] == 1  # eight bytes of length
    data[segment : segment + 8] = b"\x01" + b"\xff" * 7
    np.testing.assert_array_equal(decode_audio(bytes(data)).waveform, decode_audio(ENCODED["webm"]).waveform)


def test_pictures_without_sound_are_refused() -> None:
    assert refusal(video("mp4", "mpeg4")) == "audio_empty"
    assert refusal(video("webm", "libvpx")) == "audio_empty"


def test_a_sound_that_changes_its_rate_is_refused() -> None:
    encode = ENCODINGS["aac"][1]
    assert refusal(encode(tone(16000), 16000) + encode(tone(32000), 32000)) == "audio_unreadable"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"#EXTM3U\nhttp://localhost/a.ts",
        b"ffconcat version 1.0\nfile /etc/passwd",
        b"hello",
        b"RIFF\0\0\0\0AVI ",
        b"\x89PNG\r\n\x1a\n",
        b"\0" * 64,
        b"FORM\0\0\0\0AIFF",
        b".snd",
        b"\xff\xff\xff\xff",
        b"\xff\xfe\xff\xff",
    ],
)
def test_other_bytes_are_no_sound(data: bytes) -> None:
    with pytest.raises(MediaTypeError) as caught:
        sniff_container(data)
    assert caught.value.code == "media_type_unsupported"
    assert "WAV" in (caught.value.hint or "")


def test_nothing_is_decoded_before_it_is_asked_for() -> None:
    data = bytearray(ENCODED["flac"])
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    with open_sound(bytes(data)) as stream:
        assert (stream.container, stream.rate, stream.channels, stream.declared_frames) == ("flac", 16000, 1, 8000)


@pytest.mark.parametrize("name", ENCODINGS)
def test_nothing_but_a_media_error_escapes(name: str) -> None:
    original = ENCODED[name]

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(
        st.lists(st.tuples(st.integers(0, len(original) - 1), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6),
        st.integers(0, 300),
    )
    def damage(patches: list[tuple[int, bytes]], cut: int) -> None:
        data = bytearray(original)
        for position, patch in patches:
            # Half the patches go to the first 200 bytes, where the headers are.
            place = position % 200 if position % 2 else position
            data[place : place + len(patch)] = patch
        try:
            sound = decode_audio(bytes(data[: len(data) - cut]))
        except MediaError:
            return
        assert np.isfinite(sound.waveform).all()

    damage()
