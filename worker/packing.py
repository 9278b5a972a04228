"""What ingester and generator share: an order in, a complete packed dataset or nothing out, and how far it has come meanwhile."""

import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

from models.config import Modality
from models.dataset import PackedWriter
from models.errors import SynesthesiaError
from worker.items import write_items
from worker.orders import PackingOrder
from worker.processes import die_with_parent
from worker.reports import FAILED_EXIT, RELEASED_EXIT, RESULT_EXIT, Reporter, claim_stdout
from worker.storage import make_durable, storage_errors
from worker.summaries import describe, summarize
from worker.verdicts import Ledger

_REPORT_SECONDS = 0.25

Order = TypeVar("Order", bound=PackingOrder)
Fill = Callable[[Ledger], None]


def carry_out(kind: type[Order], make: Callable[[Order, Reporter], dict[str, Any]]) -> int:
    """Do what the order on standard input says, report a result or a failure, and return the exit status.

    Asked to stop (SIGTERM) it throws away what it has: beginning again is cheaper than a way to go on from the middle.
    """
    report = claim_stdout()
    signal.signal(signal.SIGTERM, _release)
    order = kind.model_validate_json(sys.stdin.buffer.read())
    die_with_parent(order.parent_pid)
    done = False
    try:
        result = make(order, report)
        done = True
    except SynesthesiaError as error:
        report("failed", code=error.code, message=error.message, param=error.param)
        return FAILED_EXIT
    finally:
        if not done:
            shutil.rmtree(order.staging, ignore_errors=True)
    report("result", **result)
    return RESULT_EXIT


class Progress:
    """Says how far packing has come, at most four times a second."""

    def __init__(self, report: Reporter) -> None:
        """Nothing is reported yet."""
        self._report = report
        self._phase, self._done, self._total = "opening", 0, 0
        self._began = self._said_at = time.monotonic()

    def enter(self, phase: str, total: int | None = None) -> None:
        """Begin a phase; `total` items are to come in this and all later ones."""
        if total is not None:
            self._total, self._began = total, time.monotonic()
        self._phase = phase
        self._say()

    def step(self, items: int = 1) -> None:
        """Count items."""
        self._done += items
        if time.monotonic() - self._said_at >= _REPORT_SECONDS:
            self._say()

    def finished(self) -> dict[str, object]:
        """Return the progress of a dataset that is ready."""
        return {"phase": "done", "done": self._done, "total": self._total, "fraction": 1.0, "eta_seconds": 0.0}

    def _say(self) -> None:
        self._said_at = time.monotonic()
        spent = self._said_at - self._began
        self._report(
            "progress",
            phase=self._phase,
            done=self._done,
            total=self._total,
            fraction=round(self._done / max(1, self._total), 4),
            eta_seconds=round(spent / self._done * (self._total - self._done), 1) if self._done else None,
        )


def pack(
    staging: Path, modality: Modality, fill: Fill, progress: Progress, *, sample_rate: int | None, warnings: list[dict[str, str]]
) -> dict[str, Any]:
    """Make the folder `staging` a packed dataset of what `fill` gives to the ledger; return modality, summary and last progress.

    `warnings` are read when `fill` is through. Raises DatasetError for what makes the dataset unusable, StorageFullError on a full disk.
    """
    with storage_errors("the packed dataset"):
        staging.mkdir(parents=True)
        with PackedWriter(staging, modality, sample_rate=sample_rate) as writer:
            ledger = Ledger(writer)
            fill(ledger)
            progress.enter("writing")
            described = describe(ledger.items, ledger.inherited)
            summary = summarize(ledger.items, modality, ledger.findings, warnings)
            writer.finish(**vars(described), summary=summary)
        write_items(staging, ledger.items)
        make_durable(staging)
    return {"modality": modality, "summary": summary, "progress": progress.finished()}


def _release(_number: int, _frame: FrameType | None) -> NoReturn:
    """Leave by way of every `finally`: processes are ended and the staging folder goes."""
    raise SystemExit(RELEASED_EXIT)
