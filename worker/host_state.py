"""What an operator wants to know of the machine and the queue at this moment, beside what the API counts itself."""

import csv
import shutil
import subprocess
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import case, func, select

from worker.database import Job, Outbox, db_now, read
from worker.disk import Room, room
from worker.owners import ALL_OWNERS
from worker.settings import Settings
from worker.states import ACTIVE

_MIB = 2**20
_NVIDIA = "nvidia-smi"
_NVIDIA_SECONDS = 3.0
_NVIDIA_QUERY = ("--query-gpu=index,memory.used,memory.total", "--format=csv,noheader,nounits")


class Gpu(NamedTuple):
    """One GPU; memory in bytes."""

    number: str
    used: int
    total: int


@dataclass(frozen=True)
class HostState:
    """The moment."""

    disk: Room
    overdue: int
    """jobs that run by their row, and whose lease has run out: nobody has taken them back yet"""
    restarts: int
    """starts beyond the first of each job: after a lost lease, a failure, a drain or a pause"""
    failures: int
    """of these, those that count against a job"""
    unsent: int
    """messages that the broker has not been given yet"""
    gpus: tuple[Gpu, ...]


def observe(settings: Settings) -> HostState:
    """Look at disk, jobs of all owners, and GPUs; takes some milliseconds, with GPUs a little more."""
    overdue = case((Job.state.in_(ACTIVE) & (Job.lease_until < db_now()), 1))
    again = case((Job.token > 1, Job.token - 1), else_=0)
    with read() as session:
        jobs = select(func.count(overdue), func.coalesce(func.sum(again), 0), func.coalesce(func.sum(Job.failures), 0))
        late, restarts, failures = session.execute(jobs, execution_options=ALL_OWNERS).one()
        unsent = session.scalar(select(func.count()).select_from(Outbox)) or 0
    return HostState(room(settings), late, restarts, failures, unsent, gpus())


def gpus() -> tuple[Gpu, ...]:
    """Return the GPUs as NVIDIA's tool reports them, none where there is no such tool or it fails. Loads no CUDA into this process."""
    program = shutil.which(_NVIDIA)
    if program is None:
        return ()
    try:
        found = subprocess.run([program, *_NVIDIA_QUERY], capture_output=True, text=True, timeout=_NVIDIA_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = csv.reader(found.stdout.splitlines(), skipinitialspace=True)
    return tuple(Gpu(row[0], int(row[1]) * _MIB, int(row[2]) * _MIB) for row in rows if _is_told(row))


def _is_told(row: list[str]) -> bool:
    """Whether a line tells memory in numbers; of a GPU that shares its memory with the machine it says `[N/A]`."""
    return len(row) == len(Gpu._fields) and row[1].isdigit() and row[2].isdigit()
