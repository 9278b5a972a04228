"""Packed items as files that every browser plays or shows."""

import io
import struct

from models.dataset import Items
from models.riff import PCM

_HEAD = struct.Struct("<4sI4s4sIHHIIHH4sI")  # RIFF, WAVE; fmt with its 16 bytes; data
_HEAD_REST = _HEAD.size - 8  # of the head, as the RIFF length counts it
_BYTES = 2  # of a sample


def to_wav(samples: Items, sample_rate: int) -> bytes:
    """Return int16 samples of shape (n,) as a mono WAV file, 16-bit PCM."""
    body = samples.astype("<i2", copy=False).tobytes()
    form = (PCM, 1, sample_rate, sample_rate * _BYTES, _BYTES, 8 * _BYTES)
    return _HEAD.pack(b"RIFF", _HEAD_REST + len(body), b"WAVE", b"fmt ", 16, *form, b"data", len(body)) + body


def to_png(pixels: Items) -> bytes:
    """Return uint8 pixels of shape (height, width, 3) as a PNG file."""
    from PIL import Image  # noqa: PLC0415 - a service that hears starts sooner without it

    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()
