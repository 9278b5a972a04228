import asyncio
import errno
import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.errors import MalformedError, UnsupportedTypeError, ValidationError
from app.filebody import FileBody
from app.uploads import ARCHIVE_TYPES, FLUSH_BYTES, MAX_UPLOADS, STALE_SECONDS, Upload, Uploads, require_format
from tests.app.conftest import request_of
from worker.errors import OverloadedError
from worker.settings import Settings


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(Settings(data_dir=tmp_path))


def body_of(*chunks: bytes, kind: str = "application/zip") -> FileBody:
    return FileBody(request_of(chunks, {"Content-Type": kind}), fields=frozenset(), takes=lambda _: True, expected="a zip")


def receive(uploads: Uploads, body: FileBody, *, keep: Path | None = None) -> Upload:
    async def run() -> Upload:
        async with uploads.receive(body) as upload:
            assert upload.path.stat().st_size == upload.size
            if keep:
                upload.path.rename(keep)
            return upload

    return asyncio.run(run())


def left(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("size", [1, FLUSH_BYTES - 1, FLUSH_BYTES, 2 * FLUSH_BYTES + 7])
def test_what_is_written_is_what_came(uploads: Uploads, tmp_path: Path, size: int) -> None:
    content = (b"PK\x03\x04" + os.urandom(size))[:size]
    upload = receive(uploads, body_of(*(content[start : start + 100_003] for start in range(0, size, 100_003))), keep=tmp_path / "kept")
    assert (tmp_path / "kept").read_bytes() == content
    assert (upload.size, upload.sha256) == (size, hashlib.sha256(content).hexdigest())
    assert left(tmp_path) == []


def test_several_files_lie_one_behind_the_other(uploads: Uploads, tmp_path: Path) -> None:
    form = b"".join(
        b'--X\r\nContent-Disposition: form-data; name="file"' + name + b"\r\n\r\n" + content + b"\r\n"
        for name, content in ((b'; filename="a.wav"', b"one"), (b"", b""), (b'; filename="\xc3\xa4.wav"', b"three"), (b"", b""))
    )
    request = request_of([form[:90], form[90:], b"--X--\r\n"], {"Content-Type": "multipart/form-data; boundary=X"})
    body = FileBody(request, fields=frozenset(), takes=lambda _: False, expected="", most_files=4)
    upload = receive(uploads, body, keep=tmp_path / "kept")
    assert (tmp_path / "kept").read_bytes() == b"onethree"
    assert (upload.names, upload.sizes) == (("a.wav", None, "ä.wav", None), (3, 0, 5, 0))


def test_the_format_is_seen_across_chunks(uploads: Uploads) -> None:
    tar = bytes(257) + b"ustar\x0000" + bytes(300)
    assert receive(uploads, body_of(*(bytes([byte]) for byte in tar))).format == "tar"


def test_an_empty_file_is_refused(uploads: Uploads, tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        receive(uploads, body_of())
    assert left(tmp_path) == []


def test_nothing_stays_of_what_breaks(uploads: Uploads, tmp_path: Path) -> None:
    with pytest.raises(MalformedError):
        receive(uploads, body_of(b"nonsense", kind="multipart/form-data; boundary=x"))
    assert left(tmp_path) == []


def test_a_full_disk_leaves_nothing(uploads: Uploads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("app.uploads._flush", full)
    with pytest.raises(OSError, match="No space"):
        receive(uploads, body_of(b"PK\x03\x04"))
    assert left(tmp_path) == []


def test_only_so_many_at_once(uploads: Uploads) -> None:
    async def run() -> None:
        gate = asyncio.Event()

        class Waiting(FileBody):
            async def numbered(self) -> AsyncIterator[tuple[int, bytes]]:
                yield 0, b"PK\x03\x04"
                await gate.wait()

        async def one() -> str:
            async with uploads.receive(Waiting(request_of([], {}), fields=frozenset(), takes=lambda _: True, expected="")) as upload:
                return upload.sha256

        running = [asyncio.create_task(one()) for _ in range(MAX_UPLOADS)]
        await asyncio.sleep(0.05)
        with pytest.raises(OverloadedError):
            await one()
        gate.set()
        assert len(set(await asyncio.gather(*running))) == 1
        assert await one(), "there is room again"

    asyncio.run(run())


def test_old_leftovers_are_swept_and_young_ones_stay(uploads: Uploads, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    for name, age in (("upload-old", STALE_SECONDS + 60), ("upload-young", 60), ("job_1", STALE_SECONDS * 9)):
        (scratch / name).mkdir(parents=True)
        (scratch / name / "body").write_bytes(b"x")
        os.utime(scratch / name, (time.time() - age,) * 2)
    uploads.sweep()
    assert sorted(path.name for path in left(tmp_path)) == ["job_1", "upload-young"]


@pytest.mark.parametrize("media_type", [*ARCHIVE_TYPES, "multipart/form-data"])
@pytest.mark.parametrize("found", ["zip", "tar", "tar.gz", None])
def test_what_was_declared_must_be_there(media_type: str, found: str | None) -> None:
    upload = Upload(Path("x"), "", 1, found, {})
    declared = ARCHIVE_TYPES.get(media_type)
    if found is not None and declared in (None, found):
        assert require_format(upload, media_type) == found
    else:
        with pytest.raises(UnsupportedTypeError):
            require_format(upload, media_type)
