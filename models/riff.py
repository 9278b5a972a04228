"""RIFF/WAVE bytes → samples: a strict reader of uncompressed WAV (RIFF, RIFX, RF64, BW64, WAVE_FORMAT_EXTENSIBLE).

Strict, because the lenient readers answer a cut or lying file with fewer samples and no error, and such a clip would be trained on.
Layout and tags: Microsoft and IBM, "Multimedia Programming Interface and Data Specifications 1.0", 1991, and mmreg.h;
ds64: EBU Tech 3306.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.errors import MediaContentError

PCM, IEEE_FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
# The last 14 bytes of every KSDATAFORMAT_SUBTYPE GUID; the first two are the plain format tag.
_SUBTYPE_TAIL = bytes.fromhex("000000001000800000aa00389b71")
# What writers put into a length that they can't go back to fill in: the format's own mark, and SoX's.
_UNKNOWN_LENGTHS = frozenset({0xFFFFFFFF, 0x7FFFF000})
# Some writers count the eight bytes of the first header in the RIFF length, or leave out the last pad byte.
_LENGTH_SLACK = 9
# Real files have a handful; a file of empty chunks would cost seconds to walk.
_MAX_CHUNKS = 4096
_SAMPLE_TYPES: dict[tuple[int, int], str] = {
    (PCM, 8): "u1",
    (PCM, 16): "i2",
    (PCM, 24): "i3",  # no numpy type: see _widen_24
    (PCM, 32): "i4",
    (IEEE_FLOAT, 32): "f4",
    (IEEE_FLOAT, 64): "f8",
}
# Full scale becomes 1; 24 bits stand in the upper part of 32.
_SCALES = {"u1": np.float32(2.0**-7), "i2": np.float32(2.0**-15), "i3": np.float32(2.0**-31), "i4": np.float32(2.0**-31)}
# What nearly all writers write: RIFF, fmt with 16 bytes, data, in this order.
_PLAIN = struct.Struct("<4sI8sI16s4sI")
_PLAIN_HEAD = 44


@dataclass(frozen=True)
class RiffSound:
    """A checked header and the bytes that it describes."""

    tag: int
    """Format tag, EXTENSIBLE resolved: 1 PCM, 3 float, others compressed."""
    channels: int
    rate: int
    """Hz"""
    bits: int
    """Bits that one sample takes in the file."""
    frames: int
    """Samples a channel; 0 for compressed encodings, which only their decoder can count."""
    big_endian: bool
    body: memoryview

    @property
    def uncompressed(self) -> bool:
        """Whether `samples` can read it."""
        return self.tag in (PCM, IEEE_FLOAT)

    def samples(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return float32 of shape (frames, channels), not to be written to; integers are scaled so that full scale is 1."""
        name, order = _SAMPLE_TYPES[self.tag, self.bits], ">" if self.big_endian else "<"
        if name == "f4":
            return np.frombuffer(self.body, order + name).astype(np.float32, copy=False).reshape(self.frames, self.channels)
        if name == "f8":
            # A double beyond float32 becomes infinite, a signalling NaN a quiet one; the caller refuses both.
            with np.errstate(over="ignore", invalid="ignore"):
                return np.frombuffer(self.body, order + name).astype(np.float32).reshape(self.frames, self.channels)
        whole = _widen_24(self.body, big_endian=self.big_endian) if name == "i3" else np.frombuffer(self.body, order + name)
        flat = whole.astype(np.float32)  # and in place from here on: a second array of this size costs as much as the arithmetic
        if name == "u1":
            flat -= np.float32(128)
        flat *= _SCALES[name]
        return flat.reshape(self.frames, self.channels)


def is_riff_wave(data: bytes) -> bool:
    """Tell whether the bytes begin like a WAV, cut ones included."""
    return data[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and data[8:12] in (b"WAVE", b"WAV", b"WA", b"W", b"")


def read_riff(data: bytes) -> RiffSound:
    """Check the chunks of a WAV and return its header with a view of its body; no sample is converted yet.

    Raises MediaContentError: audio_truncated (a length beyond the bytes), audio_empty (no sample),
    audio_channels (none), audio_unreadable (all else).
    """
    if len(data) < 12:
        raise MediaContentError("The WAV file ends inside its first header.", code="audio_truncated")
    big_endian = data[:4] == b"RIFX"
    form = _plain(data) or _fmt_and_data(data, ">" if big_endian else "<")
    tag, channels, rate, _, block, bits = struct.unpack_from(">HHIIHH" if big_endian else "<HHIIHH", form.fmt)
    tag = _resolve_extensible(tag, form.fmt)
    if channels == 0:
        raise MediaContentError("The WAV header declares 0 channels.", code="audio_channels")
    frames = _check_encoding(tag, channels, block, bits, form.length) if tag in (PCM, IEEE_FLOAT) else 0
    if form.length == 0 or (tag in (PCM, IEEE_FLOAT) and frames == 0):
        raise MediaContentError("The WAV file holds no samples.", code="audio_empty")
    end = form.start + (frames * block or form.length)
    return RiffSound(tag, channels, rate, bits, frames, big_endian, memoryview(data)[form.start : end])


@dataclass(frozen=True)
class _Form:
    fmt: bytes
    start: int
    length: int


def _plain(data: bytes) -> _Form | None:
    """Return the two chunks of a file of the plainest form, whose lengths are all true; None for any other, however good."""
    if len(data) < _PLAIN_HEAD:
        return None
    name, riff_length, wave, fmt_length, fmt, second, length = _PLAIN.unpack_from(data)
    fits = length == len(data) - _PLAIN_HEAD and riff_length == len(data) - 8 and fmt_length == len(fmt)
    return _Form(fmt, _PLAIN_HEAD, length) if fits and (name, wave, second) == (b"RIFF", b"WAVEfmt ", b"data") else None


def _fmt_and_data(data: bytes, order: str) -> _Form:
    """Find the two chunks that matter; what stands behind the data chunk may be cut or odd, as nothing there changes the sound."""
    head, start, declared = _head_chunks(data, order)
    if b"fmt " not in head:
        raise _unreadable("has no fmt chunk before its data")
    length = _data_length(data, order, start, declared, head.get(b"ds64"))
    # From the true end: behind an unknown length the samples themselves would be walked as chunks.
    if any(name == b"data" for name, _, _ in _chunks(data, order, start + length + length % 2)):
        raise _unreadable("has two data chunks, so its sound is ambiguous")
    return _Form(head[b"fmt "], start, length)


def _head_chunks(data: bytes, order: str) -> tuple[dict[bytes, bytes], int, int]:
    """Return the fmt and ds64 chunks that precede the data chunk, its start and its declared length."""
    head: dict[bytes, bytes] = {}
    for name, start, length in _chunks(data, order, 12):
        if name == b"data":
            return head, start, length
        if start + length > len(data):
            raise MediaContentError(
                f"The WAV chunk {name!r} declares {length} bytes, {len(data) - start} are there.", code="audio_truncated"
            )
        if name == b"fmt " and (name in head or length < 16):
            raise _unreadable("has two fmt chunks or one shorter than 16 bytes")
        if name in (b"fmt ", b"ds64"):
            head[name] = data[start : start + length]
    raise MediaContentError("The WAV file ends before its data chunk.", code="audio_truncated")


def _chunks(data: bytes, order: str, position: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, start, declared length) of each chunk from `position` whose header is there; stop at the first that leaves the file."""
    for _ in range(_MAX_CHUNKS):
        if position + 8 > len(data):
            return
        name, length = struct.unpack_from(order + "4sI", data, position)
        yield name, position + 8, length
        position += 8 + length + length % 2
    raise _unreadable(f"has more than {_MAX_CHUNKS} chunks")


def _data_length(data: bytes, order: str, start: int, length: int, ds64: bytes | None) -> int:
    """Return the true length of the data chunk at `start`, or raise audio_truncated where bytes are missing."""
    present = len(data) - start
    (riff_length,) = struct.unpack_from(order + "I", data, 4)
    if ds64 is not None and len(ds64) >= 16 and data[:4] in (b"RF64", b"BW64"):
        riff_length, wide = struct.unpack_from("<QQ", ds64)
        length = wide if length == 0xFFFFFFFF else length
    # A pipe's writer leaves both lengths 0; a 0 in the data chunk alone is an empty file.
    unknown = length in _UNKNOWN_LENGTHS or (length == 0 and (riff_length == 0 or riff_length in _UNKNOWN_LENGTHS))
    if unknown:
        return present
    riff_lies = riff_length not in _UNKNOWN_LENGTHS and riff_length + 8 > len(data) + _LENGTH_SLACK
    if length > present or riff_lies:
        raise MediaContentError(f"The WAV header declares {max(length, riff_length)} bytes, {present} are there.", code="audio_truncated")
    return length


def _resolve_extensible(tag: int, fmt: bytes) -> int:
    """Return the tag inside WAVE_FORMAT_EXTENSIBLE's GUID, any other tag unchanged."""
    if tag != EXTENSIBLE:
        return tag
    if len(fmt) < 40 or (fmt[26:40] != _SUBTYPE_TAIL):
        raise _unreadable("is of an extensible format with an unknown subformat")
    return int.from_bytes(fmt[24:26], "little")


def _check_encoding(tag: int, channels: int, block: int, bits: int, length: int) -> int:
    """Return the number of frames in `length` bytes; raise audio_unreadable for sample widths that are not read."""
    if (tag, bits) not in _SAMPLE_TYPES:
        raise _unreadable(f"has {bits}-bit samples; PCM of 8, 16, 24, 32 bits and float of 32, 64 bits are read")
    if block != channels * bits // 8:
        raise _unreadable(f"declares blocks of {block} bytes for {channels} channels of {bits} bits")
    return length // block


def _widen_24(body: memoryview, *, big_endian: bool) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Return 24-bit samples in the upper three bytes of int32, so that the sign comes right by itself.

    Each is read as four bytes, with one of a neighbour in the lowest place, which is then cleared: eight times as quick as moving bytes.
    """
    padded = b"".join((body, b"\0") if big_endian else (b"\0", body))
    overlapping = np.ndarray((len(body) // 3,), ">i4" if big_endian else "<i4", padded, 0, (3,))
    wide = np.empty(len(overlapping), np.int32)
    np.bitwise_and(overlapping, np.int32(-256), out=wide)
    return wide


def _unreadable(what: str) -> MediaContentError:
    return MediaContentError(f"The WAV file {what}.", code="audio_unreadable", hint="Save it again as 16-bit PCM.")
