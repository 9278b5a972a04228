"""Files that survive a power cut."""

import os
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """Write a file and flush it to the disk: without that, a crash can leave a file that has its name and size, but not its bytes.

    The folder that names it is the caller's to flush, once for all files. Raises OSError and may leave half a file.
    """
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
