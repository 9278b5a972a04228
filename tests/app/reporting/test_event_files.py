"""TensorBoard's event files, read back by the format's own rules."""

import struct
from pathlib import Path

from app.reporting.event_files import Scalar, crc32c, write_scalars

SCALARS = [Scalar("validation_accuracy", 0.25 * step, 300 * step, 1_700_000_000.5 + step) for step in range(4)]


def records(content: bytes) -> list[bytes]:
    """The messages of a file, both checksums of each verified."""
    found = []
    while content:
        length = struct.unpack("<Q", content[:8])[0]
        check(content[:8], content[8:12])
        check(content[12 : 12 + length], content[12 + length : 16 + length])
        found.append(content[12 : 12 + length])
        content = content[16 + length :]
    return found


def check(data: bytes, stored: bytes) -> None:
    crc = crc32c(data)
    assert struct.unpack("<I", stored)[0] == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32


def test_the_checksum_is_castagnolis() -> None:
    """RFC 3720, B.4."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43


def test_records_hold_what_was_said(tmp_path: Path) -> None:
    path = write_scalars(tmp_path / "new", SCALARS, "job_1")
    version, *events = records(path.read_bytes())
    assert version.endswith(b"brain.Event:2")
    assert len(events) == 4
    last = events[-1]
    assert last[:9] == b"\x09" + struct.pack("<d", 1_700_000_003.5)
    assert last[9:12] == b"\x10\x84\x07"  # the step, 900
    assert b"validation_accuracy" in last
    assert last.endswith(b"\x15" + struct.pack("<f", 0.75))


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    first = write_scalars(tmp_path, SCALARS, "job_1").read_bytes()
    assert write_scalars(tmp_path, SCALARS, "job_1").read_bytes() == first
    assert len(list(tmp_path.iterdir())) == 1


def test_without_metrics_there_is_an_empty_run(tmp_path: Path) -> None:
    assert len(records(write_scalars(tmp_path, [], "job_1").read_bytes())) == 1
