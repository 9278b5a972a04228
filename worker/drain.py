"""A flag from a worker's parent to the child that supervises: this worker is going away, let the trainer checkpoint.

Celery tells only its parent process that it shuts down. The flag is one byte of memory that the fork shares: it is set inside a signal
handler, where a lock that a killed or stopped child holds would hang the worker.
"""

import mmap
from typing import Any

from celery import signals

_flags: list[mmap.mmap] = []


def install() -> None:
    """Make the flag and let Celery set it when shutdown begins. Call in the parent, before it forks."""
    _flags[:] = [mmap.mmap(-1, 1)]
    signals.worker_shutting_down.connect(_set, weak=False)


def requested() -> bool:
    """Return whether the worker was asked to end."""
    return bool(_flags) and _flags[0][0] != 0


def _set(**_: Any) -> None:
    _flags[0][0] = 1
