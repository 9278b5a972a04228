"""How much room there is where the data lies, and from when on less is taken in."""

import shutil
from pathlib import Path
from typing import NamedTuple

from worker.settings import Settings


class Room(NamedTuple):
    """Of the data directory's disk, in bytes."""

    free: int
    total: int

    @property
    def share(self) -> float:
        """What is free, 0 to 1."""
        return self.free / self.total


def room(settings: Settings) -> Room:
    """Return the room on the data directory's disk; a folder that is not there yet counts with the disk where it will be."""
    folder: Path = settings.data_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    return Room(usage.free, usage.total)


def is_scarce(settings: Settings) -> bool:
    """Whether so little is left that what nothing names is removed at once, and not little by little."""
    return room(settings).share < settings.collect_free_fraction
