"""The WAV reader: every kind that is read, and every lie that is refused."""

import io
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile

from models.errors import MediaContentError
from models.riff import EXTENSIBLE, IEEE_FLOAT, PCM, is_riff_wave, read_riff
from tests.conftest import FUZZ_FACTOR

GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
SOUND = np.round(np.random.default_rng(0).uniform(-0.9, 0.9, (50, 2)) * 32768) / 32768


def chunk(name: bytes, body: bytes, length: int | None = None, order: str = "<") -> bytes:
    """A chunk, padded to an even length; `length` is what it claims."""
    return name + struct.pack(order + "I", len(body) if length is None else length) + body + b"\0" * (len(body) % 2)


@dataclass
class Wav:
    """A WAV file to be built, each field a thing that can be wrong with it."""

    body: bytes = b"\1\0\2\0\3\0\4\0"
    tag: int = PCM
    channels: int = 1
    rate: int = 16000
    bits: int = 16
    block: int | None = None
    form: bytes = b"RIFF"
    data_length: int | None = None
    riff_length: int | None = None
    before: list[bytes] = field(default_factory=list)
    after: list[bytes] = field(default_factory=list)
    extra: bytes = b""

    def fmt(self) -> bytes:
        order = self.order()
        block = self.channels * self.bits // 8 if self.block is None else self.block
        numbers = struct.pack(order + "HHIIHH", self.tag, self.channels, self.rate, self.rate * block, block, self.bits)
        return chunk(b"fmt ", numbers + self.extra, order=order)

    def order(self) -> str:
        return ">" if self.form == b"RIFX" else "<"

    def build(self) -> bytes:
        data = chunk(b"data", self.body, self.data_length, self.order())
        rest = b"WAVE" + b"".join([*self.before, self.fmt(), data, *self.after])
        length = len(rest) if self.riff_length is None else self.riff_length
        return self.form + struct.pack(self.order() + "I", length) + rest


def samples_of(wav: Wav) -> list[float]:
    return read_riff(wav.build()).samples().ravel().tolist()


def refusal(data: bytes) -> str:
    with pytest.raises(MediaContentError) as caught:
        read_riff(data).samples()
    return caught.value.code


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "RIFX"])
def test_reads_the_samples_that_libsndfile_reads(subtype: str, kind: str) -> None:
    file = io.BytesIO()
    container = "WAV" if kind == "RIFX" else kind
    soundfile.write(file, SOUND, 44100, subtype, "BIG" if kind == "RIFX" else None, container)
    data = file.getvalue()
    assert data[:4] == (b"RIFF" if kind.startswith("WAV") else kind.encode())
    sound = read_riff(data)
    assert (sound.channels, sound.rate, sound.frames, sound.uncompressed) == (2, 44100, 50, True)
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    np.testing.assert_array_equal(sound.samples(), expected)


@pytest.mark.parametrize(("dtype", "scale"), [("u1", 128), ("i2", 2**15), ("i4", 2**31), ("f4", 1), ("f8", 1)])
def test_reads_the_samples_that_scipy_reads(dtype: str, scale: int) -> None:
    stored = (SOUND * scale + (128 if dtype == "u1" else 0)).astype(dtype)
    file = io.BytesIO()
    wavfile.write(file, 8000, stored)
    _, reference = wavfile.read(io.BytesIO(file.getvalue()))
    expected = (reference.astype(np.float64) - (128 if dtype == "u1" else 0)) / scale
    np.testing.assert_array_equal(read_riff(file.getvalue()).samples(), expected.astype(np.float32))


@pytest.mark.parametrize(
    ("bits", "body", "expected"),
    [
        (8, b"\x00\x80\xff\x40", [-1.0, 0.0, 127 / 128, -0.5]),
        (16, b"\x00\x80\xff\x7f", [-1.0, 32767 / 32768]),
        (24, b"\x00\x00\x80\xff\xff\x7f\xff\xff\xff", [-1.0, 1 - 2.0**-23, -(2.0**-23)]),
        (32, b"\x00\x00\x00\x80\x00\x00\x00\x40", [-1.0, 0.5]),
    ],
)
def test_full_scale_is_one(bits: int, body: bytes, expected: list[float]) -> None:
    assert samples_of(Wav(body, bits=bits)) == expected


def test_floats_come_as_they_are_and_doubles_beyond_range_as_infinities() -> None:
    assert samples_of(Wav(struct.pack("<2f", 1.5, -0.25), IEEE_FLOAT, bits=32)) == [1.5, -0.25]
    assert samples_of(Wav(struct.pack("<2d", 1e300, 0.5), IEEE_FLOAT, bits=64)) == [float("inf"), 0.5]


def test_the_extensible_tag_is_resolved() -> None:
    extra = struct.pack("<HHI", 22, 16, 4) + struct.pack("<H", PCM) + GUID_TAIL
    sound = read_riff(Wav(tag=EXTENSIBLE, extra=extra).build())
    assert (sound.tag, sound.frames) == (PCM, 4)
    assert refusal(Wav(tag=EXTENSIBLE, extra=extra[:-1] + b"\0").build()) == "audio_unreadable"
    assert refusal(Wav(tag=EXTENSIBLE).build()) == "audio_unreadable"


def test_chunks_of_odd_length_are_padded() -> None:
    assert len(samples_of(Wav(before=[chunk(b"LIST", b"odd")]))) == 4
    assert len(samples_of(Wav(b"\x80\x80\x80", bits=8, after=[chunk(b"LIST", b"odd")]))) == 3
    assert refusal(Wav(b"\x80\x80\x80", bits=8, after=[chunk(b"data", b"\x80")]).build()) == "audio_unreadable"


def test_a_last_pad_byte_may_be_missing() -> None:
    wav = Wav(b"\x80\x80\x80", bits=8).build()
    assert read_riff(wav[:-1]).frames == 3


@pytest.mark.parametrize(
    "after",
    [[chunk(b"LIST", b"INFO")], [chunk(b"LIST", b"cut", 1000)], [b"LIS"], [b"\0" * 100], [chunk(b"fmt ", b"x")], [chunk(b"ds64", b"")]],
)
def test_what_stands_behind_the_sound_does_not_matter(after: list[bytes]) -> None:
    assert samples_of(Wav(after=after)) == samples_of(Wav())


def test_a_half_frame_at_the_end_is_left_out() -> None:
    assert read_riff(Wav(b"\0\0\1", channels=1).build()).frames == 1


@pytest.mark.parametrize(
    ("data_length", "riff_length"),
    [(0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0), (0x7FFFF000, 0x7FFFF024), (0, 0), (0, 0xFFFFFFFF), (0xFFFFFFFF, None)],
)
@pytest.mark.parametrize("body", [b"\1\0\2\0\3\0\4\0", b"\0" * 80000, chunk(b"data", b"\1\0") * 2])
def test_a_pipe_leaves_the_length_open(data_length: int, riff_length: int | None, body: bytes) -> None:
    if riff_length == 0x7FFFF024:
        riff_length = 0x7FFFF000
    assert read_riff(Wav(body, data_length=data_length, riff_length=riff_length).build()).frames == len(body) // 2


def test_rf64_takes_its_length_from_ds64() -> None:
    sizes = chunk(b"ds64", struct.pack("<QQQI", 72, 4, 2, 0))
    wav = Wav(form=b"RF64", before=[sizes], data_length=0xFFFFFFFF, riff_length=0xFFFFFFFF)
    assert read_riff(wav.build()).frames == 2
    wav.before = [chunk(b"ds64", struct.pack("<QQQI", 2**40, 2**40, 2**39, 0))]
    assert refusal(wav.build()) == "audio_truncated"
    wav.form = b"BW64"
    assert refusal(wav.build()) == "audio_truncated"


@pytest.mark.parametrize(
    ("wav", "code"),
    [
        (Wav(channels=0), "audio_channels"),
        (Wav(b""), "audio_empty"),
        (Wav(b"\0"), "audio_empty"),
        (Wav(bits=12, block=2), "audio_unreadable"),
        (Wav(bits=64), "audio_unreadable"),
        (Wav(tag=IEEE_FLOAT), "audio_unreadable"),
        (Wav(block=4), "audio_unreadable"),
        (Wav(block=0), "audio_unreadable"),
        (Wav(channels=65535, block=2), "audio_unreadable"),
        (Wav(data_length=9), "audio_truncated"),
        (Wav(data_length=0x7FFFFFFF), "audio_truncated"),
        (Wav(riff_length=1000), "audio_truncated"),
        (Wav(before=[chunk(b"LIST", b"", 1000)]), "audio_truncated"),
        (Wav(before=[chunk(b"data", b"\0\0")]), "audio_unreadable"),
        (Wav(before=[Wav().fmt()]), "audio_unreadable"),
        (Wav(before=[chunk(b"fmt ", b"\1\0")]), "audio_unreadable"),
        (Wav(after=[chunk(b"data", b"\1\0")]), "audio_unreadable"),
        (Wav(before=[chunk(b"junk", b"")] * 4097), "audio_unreadable"),
        (Wav(after=[chunk(b"junk", b"")] * 4097), "audio_unreadable"),
    ],
)
def test_lies_are_refused(wav: Wav, code: str) -> None:
    assert refusal(wav.build()) == code


def test_a_riff_length_that_counts_its_own_header_is_forgiven() -> None:
    assert len(samples_of(Wav(riff_length=len(Wav().build())))) == 4
    assert len(samples_of(Wav(riff_length=4))) == 4


def test_many_chunks_are_still_a_file() -> None:
    assert len(samples_of(Wav(before=[chunk(b"junk", b"")] * 4000, after=[chunk(b"junk", b"")] * 4000))) == 4


@pytest.mark.parametrize("cut", range(1, len(Wav().build()) - 1))
def test_a_file_cut_anywhere_is_refused(cut: int) -> None:
    assert refusal(Wav().build()[:-cut]) == "audio_truncated"


def test_compressed_kinds_are_left_to_their_decoder() -> None:
    sound = read_riff(Wav(tag=6, bits=8).build())
    assert (sound.tag, sound.uncompressed, sound.frames, len(sound.data) - sound.start) == (6, False, 0, 8)


@pytest.mark.parametrize("start", [b"RIFF\0\0\0\0WAVE", b"RIFX\0\0\0\0WAVEfmt ", b"RF64\0\0\0\0WAVE", b"BW64", b"RIFF", b"RIFF\0\0\0\0WA"])
def test_knows_its_files_cut_ones_included(start: bytes) -> None:
    assert is_riff_wave(start)


@pytest.mark.parametrize("start", [b"", b"RIF", b"RIFF\0\0\0\0AVI ", b"RIFF\0\0\0\0WEBP", b"FORM\0\0\0\0WAVE", b"riff\0\0\0\0WAVE"])
def test_leaves_other_files_alone(start: bytes) -> None:
    assert not is_riff_wave(start)


def build_any(forms: tuple[bytes, Any], numbers: list[int], body: bytes, lengths: tuple[int | None, int | None]) -> bytes:
    tag, channels, block, bits = numbers
    data_length, riff_length = lengths
    return Wav(body, tag, channels, 16000, bits, block, forms[0], data_length, riff_length, *forms[1]).build()


LENGTHS = st.none() | st.integers(0, 100) | st.sampled_from([0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF])
CHUNKS = st.lists(st.builds(chunk, st.sampled_from([b"fmt ", b"data", b"ds64", b"LIST"]), st.binary(max_size=40), LENGTHS), max_size=3)


@settings(max_examples=300 * FUZZ_FACTOR)
@given(
    forms=st.tuples(st.sampled_from([b"RIFF", b"RIFX", b"RF64", b"BW64"]), st.tuples(CHUNKS, CHUNKS, st.binary(max_size=30))),
    numbers=st.tuples(
        st.sampled_from([PCM, IEEE_FLOAT, EXTENSIBLE, 2, 6]), st.integers(0, 9), st.integers(0, 20), st.sampled_from([8, 16, 24, 32, 64, 7])
    ).map(list),
    body=st.binary(max_size=64),
    lengths=st.tuples(LENGTHS, LENGTHS),
    cut=st.integers(0, 60),
)
def test_nothing_but_a_media_error_escapes(
    forms: tuple[bytes, Any], numbers: list[int], body: bytes, lengths: tuple[int | None, int | None], cut: int
) -> None:
    data = build_any(forms, numbers, body, lengths)
    data = data[: len(data) - cut]
    try:
        sound = read_riff(data)
    except MediaContentError:
        return
    assert sound.frames > 0 or not sound.uncompressed
    if sound.uncompressed:
        assert sound.samples().shape == (sound.frames, sound.channels)


@settings(max_examples=200 * FUZZ_FACTOR)
@given(st.binary(max_size=100), st.integers(0, 12))
def test_nothing_but_a_media_error_escapes_from_noise(noise: bytes, kept: int) -> None:
    try:
        read_riff(Wav().build()[:kept] + noise)
    except MediaContentError:
        pass
