"""TensorBoard's event files, written without TensorBoard: records of protocol buffers, each with its length and two checksums.

A record is: length (8 bytes), checksum of that, the message, checksum of that. A message is an `Event`: field 1 the time, 2 the step,
3 the version (of the first record), 5 a summary, whose field 1 is a value with 1 a tag and 2 a float.
"""

import functools
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_VERSION = "brain.Event:2"
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
_MASK = 0xA282EAD8


@dataclass(frozen=True)
class Scalar:
    """One value of one measure."""

    tag: str
    value: float
    step: int
    seconds: float
    """since 1970"""


def write_scalars(folder: Path, scalars: Iterable[Scalar], name: str) -> Path:
    """Write `scalars` into a file of `folder`, which TensorBoard shows as a run; return the file. The same name is written anew."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = list(scalars)
    began = rows[0].seconds if rows else 0.0
    target = folder / f"events.out.tfevents.{name}"
    records = [_double(1, began) + _bytes(3, _VERSION.encode()), *(_event(row) for row in rows)]
    target.write_bytes(b"".join(_record(record) for record in records))
    return target


def crc32c(data: bytes) -> int:
    """Return Castagnoli's checksum of `data`."""
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@functools.cache
def _table() -> tuple[int, ...]:
    return tuple(functools.reduce(lambda crc, _: (crc >> 1) ^ (_POLYNOMIAL * (crc & 1)), range(8), byte) for byte in range(256))


def _masked(data: bytes) -> bytes:
    """Return a checksum as it is stored: turned and shifted, so that a checksum of checksums is not trivial."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF)


def _record(message: bytes) -> bytes:
    length = struct.pack("<Q", len(message))
    return length + _masked(length) + message + _masked(message)


def _event(scalar: Scalar) -> bytes:
    value = _bytes(1, scalar.tag.encode()) + _key(2, 5) + struct.pack("<f", scalar.value)
    return _double(1, scalar.seconds) + _key(2, 0) + _varint(scalar.step) + _bytes(5, _bytes(1, value))


def _double(field: int, value: float) -> bytes:
    return _key(field, 1) + struct.pack("<d", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _key(field, 2) + _varint(len(value)) + value


def _key(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _varint(number: int) -> bytes:
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])
