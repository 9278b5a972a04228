"""A flag from a worker's parent to the child that supervises: this worker is going away, let the trainer checkpoint.

Celery tells only its parent process that it shuts down. The event is made before the fork and set by the parent's signal handler.
"""

import multiprocessing
from multiprocessing.synchronize import Event
from typing import Any

from celery import signals

_events: list[Event] = []


def install() -> None:
    """Make the flag and let Celery set it when shutdown begins. Call in the parent, before it forks."""
    _events[:] = [multiprocessing.get_context("fork").Event()]
    signals.worker_shutting_down.connect(_set, weak=False)


def requested() -> bool:
    """Return whether the worker was asked to end."""
    return bool(_events) and _events[0].is_set()


def _set(**_: Any) -> None:
    _events[0].set()
