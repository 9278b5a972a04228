"""TensorBoard's event files, read back by the format's own rules."""

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, unknown_fields
from google.protobuf.message import Message

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


def event_class() -> type[Message]:
    """tensorflow.Event as far as scalars need it, for the library that TensorBoard itself reads with."""
    file = descriptor_pb2.FileDescriptorProto(name="event.proto", package="tensorflow", syntax="proto3")
    fields = {
        "Value": [("tag", 1, "TYPE_STRING", ""), ("simple_value", 2, "TYPE_FLOAT", "")],
        "Summary": [("value", 1, "TYPE_MESSAGE", "Value")],
        "Event": [("wall_time", 1, "TYPE_DOUBLE", ""), ("step", 2, "TYPE_INT64", ""), ("file_version", 3, "TYPE_STRING", ""),
                  ("summary", 5, "TYPE_MESSAGE", "Summary")],
    }  # fmt: skip
    for name, rows in fields.items():
        message = file.message_type.add(name=name)
        for field, number, kind, inner in rows:
            label = "LABEL_REPEATED" if inner == "Value" else "LABEL_OPTIONAL"
            message.field.add(name=field, number=number, type=kind, label=label, type_name=f".tensorflow.{inner}" if inner else None)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Event"))


def test_the_formats_own_library_reads_back_what_was_written(tmp_path: Path) -> None:
    odd = [Scalar("final/größe", 1e-30, 0, 1.25), Scalar("loss", -2.5, 2**40, 1_700_000_000.123), *SCALARS]
    kind = event_class()
    version, *events = [kind.FromString(message) for message in records(write_scalars(tmp_path, odd, "job_1").read_bytes())]
    assert (version.file_version, version.wall_time) == ("brain.Event:2", 1.25)
    found = [Scalar(value.tag, value.simple_value, event.step, event.wall_time) for event in events for value in event.summary.value]
    assert found == [replace(scalar, value=float(np.float32(scalar.value))) for scalar in odd]
    assert all(len(unknown_fields.UnknownFieldSet(event)) == 0 for event in (version, *events))


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    first = write_scalars(tmp_path, SCALARS, "job_1").read_bytes()
    assert write_scalars(tmp_path, SCALARS, "job_1").read_bytes() == first
    assert len(list(tmp_path.iterdir())) == 1


def test_without_metrics_there_is_an_empty_run(tmp_path: Path) -> None:
    assert len(records(write_scalars(tmp_path, [], "job_1").read_bytes())) == 1
