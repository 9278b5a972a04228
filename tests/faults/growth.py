"""How fast processes grow, where they are killed and started again all the time."""

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import psutil

_WARM_SECONDS = 120.0  # of a process's life, in which it fills its caches and pools
_JUDGED_SECONDS = 300.0  # a process that was seen for less tells nothing: allocators take memory in steps


@dataclass
class Growth:
    """Resident memory of the processes of one part, each seen against itself.

    A line through all of them together would miss a leak: whoever is killed each few minutes begins anew before it shows.
    """

    seen: dict[tuple[int, float], list[tuple[float, float]]] = field(default_factory=dict)
    """(pid, moment of its start) → (age in seconds, resident bytes), once it is warm"""

    def weigh(self, processes: Iterable[psutil.Process]) -> None:
        """Look at the processes that live now."""
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.note(process.pid, process.create_time(), time.time() - process.create_time(), process.memory_info().rss)

    def note(self, pid: int, started: float, age: float, rss: float) -> None:
        """Add one look; of a process that is not warm yet it is left out."""
        if age >= _WARM_SECONDS:
            self.seen.setdefault((pid, started), []).append((age, rss))

    @property
    def a_minute(self) -> float | None:
        """Bytes that a process grows by in a minute, by least squares within each process; None where none was seen for long enough."""
        looks = [np.array(found) for found in self.seen.values()]
        if not any(found[-1, 0] - found[0, 0] >= _JUDGED_SECONDS for found in looks):
            return None
        centered = np.concatenate([found - found.mean(axis=0) for found in looks])
        ages, sizes = centered[:, 0], centered[:, 1]
        return float(ages @ sizes / (ages @ ages)) * 60
