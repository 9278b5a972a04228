"""Archives on their way to the disk: streamed into the scratch folder with a running sha256, gone again unless somebody takes them."""

import asyncio
import contextlib
import hashlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.errors import UnsupportedTypeError, ValidationError
from app.filebody import FILE_PART, FORM_TYPE, FileBody
from worker.archive_formats import HEAD_BYTES, MEDIA_TYPES, formats_of
from worker.errors import OverloadedError
from worker.settings import Settings

MAX_UPLOADS = 8  # at once in one process: they share the disk, and predictions need the event loop
FLUSH_BYTES = 2**20  # are hashed and written at once, in a thread: some 2 ms each, far more than the hop costs
STALE_SECONDS = 24 * 3600.0  # what a killed process left behind is older than any upload may take
_PREFIX = "upload-"

ARCHIVE_TYPES = {
    MEDIA_TYPES["zip"]: "zip",
    "application/x-zip-compressed": "zip",
    MEDIA_TYPES["tar"]: "tar",
    MEDIA_TYPES["tar.gz"]: "tar.gz",
    "application/x-gzip": "tar.gz",
    "application/octet-stream": None,  # told by the bytes
}


@dataclass(frozen=True)
class Upload:
    """A file on the disk, whole, or several in one. Whoever wants to keep it moves it away."""

    path: Path
    sha256: str
    size: int
    """bytes"""
    format: str | None
    """zip, tar or tar.gz, by its first bytes"""
    fields: dict[str, str]
    names: tuple[str | None, ...] = (None,)
    """of the files that `path` holds one behind the other, as the client calls them"""
    sizes: tuple[int, ...] = ()
    """bytes of each of them"""


class Uploads:
    """Counts and receives the uploads of one process."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is written before the first upload."""
        self._folder = settings.scratch_dir
        self._running = 0

    def sweep(self) -> None:
        """Remove what earlier processes left half received."""
        oldest = time.time() - STALE_SECONDS
        for folder in self._folder.glob(f"{_PREFIX}*"):
            with contextlib.suppress(FileNotFoundError):  # another process sweeps too
                if folder.stat().st_mtime < oldest:
                    shutil.rmtree(folder, ignore_errors=True)

    @contextlib.asynccontextmanager
    async def receive(self, body: FileBody) -> AsyncIterator[Upload]:
        """Write the file of `body` to the disk; it is removed at the end of the block, whatever happens in it.

        Raises OverloadedError above MAX_UPLOADS, ValidationError for an empty file, and what FileBody raises.
        """
        if self._running >= MAX_UPLOADS:
            raise OverloadedError(f"{self._running} uploads are running, no more are taken at once", retry_after=10)
        self._running += 1
        folder: Path | None = None
        try:
            folder = await asyncio.to_thread(self._new_folder)
            yield await _write(body, folder / "body")
        finally:
            self._running -= 1
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def _new_folder(self) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._folder))


def require_format(upload: Upload, media_type: str) -> str:
    """Return the archive's format. Raises UnsupportedTypeError where it is none, or not the one that was declared."""
    declared = ARCHIVE_TYPES.get(media_type)
    if upload.format is None or (declared is not None and media_type != FORM_TYPE and declared != upload.format):
        raise UnsupportedTypeError(
            f"the file begins like {'no archive' if upload.format is None else upload.format} and came as {media_type}",
            hint="send a .zip, .tar or .tar.gz",
        )
    return upload.format


async def _write(body: FileBody, path: Path) -> Upload:
    digest = hashlib.sha256()
    sizes: list[int] = []
    head = b""
    waiting: list[bytes] = []
    waiting_bytes = 0
    with path.open("xb", buffering=0) as file:
        async for number, chunk in body.numbered():
            sizes += [0] * (number + 1 - len(sizes))
            sizes[number] += len(chunk)
            head = head if len(head) >= HEAD_BYTES else head + chunk[:HEAD_BYTES]
            waiting.append(chunk)
            waiting_bytes += len(chunk)
            if waiting_bytes >= FLUSH_BYTES:
                await asyncio.to_thread(_flush, file, digest, waiting)
                waiting, waiting_bytes = [], 0
        await asyncio.to_thread(_flush, file, digest, waiting)
    sizes += [0] * (len(body.names) - len(sizes))
    size = sum(sizes)
    if size == 0:
        raise ValidationError([{"pointer": f"/{FILE_PART}" if body.is_form else "", "detail": "the file is empty"}])
    kind = next(iter(formats_of(head)), None)
    return Upload(path, digest.hexdigest(), size, kind, body.fields, tuple(body.names), tuple(sizes))


def _flush(file: BinaryIO, digest: "hashlib._Hash", chunks: list[bytes]) -> None:
    data = b"".join(chunks)
    digest.update(data)
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
