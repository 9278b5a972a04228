"""What a task and all that it calls should know without being told: a context variable that is bound for a block."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TypeVar

_Value = TypeVar("_Value")


@contextlib.contextmanager
def bound(variable: ContextVar[_Value], value: _Value) -> Iterator[None]:
    """Let `variable` be `value` until the block ends; tasks, and threads of asyncio, that are started meanwhile know it too."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)
