"""What a benchmark ran on, as its table tells it."""

import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path


def machine(libraries: Iterable[str]) -> str:
    """Return processor, cores, Python and the versions of `libraries` in one line."""
    versions = ", ".join(f"{name} {version(name)}" for name in libraries)
    return f"{processor()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, {versions}"


def processor() -> str:
    """Return the processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
