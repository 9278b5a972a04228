"""Progress and metrics of a trainer as report lines: often enough to watch, seldom enough not to slow the loop."""

import time
from typing import Any

from models.training import Progress
from worker.reports import Reporter

_SECONDS = 0.25  # between two progress lines


class Telemetry:
    """Turns the loop's reports into lines, with the time left."""

    def __init__(self, report: Reporter) -> None:
        """Nothing is reported yet."""
        self._report = report
        self._sent_at = float("-inf")
        self._began: tuple[float, int] | None = None  # when the loop began here, and at which step
        self.last: dict[str, Any] = {"epoch": 0, "epochs": None, "step": 0, "steps": None, "fraction": 0.0, "eta_seconds": None}

    def phase(self, name: str) -> None:
        """Report that something else than training is being done."""
        self._send({**self.last, "phase": name, "eta_seconds": None})

    def training(self, progress: Progress) -> None:
        """Report a batch, at most some times a second, or an epoch with its metrics."""
        if progress.metrics is not None:
            self._report("metrics", **progress.metrics)
        elif time.monotonic() - self._sent_at < _SECONDS:
            return
        self._send(
            {
                "phase": progress.phase,
                "epoch": progress.epoch,
                "epochs": progress.epochs,
                "step": progress.step,
                "steps": progress.steps,
                "fraction": round(progress.step / max(1, progress.steps), 4),
                "eta_seconds": self._seconds_left(progress),
            }
        )

    def _seconds_left(self, progress: Progress) -> float | None:
        """Return the steps left at the pace of this start, validation included; None before there is a pace."""
        if self._began is None:
            self._began = (time.monotonic(), progress.step)
        began, first = self._began
        done = progress.step - first
        return round((time.monotonic() - began) / done * (progress.steps - progress.step), 1) if done > 0 else None

    def _send(self, line: dict[str, Any]) -> None:
        self.last = line
        self._sent_at = time.monotonic()
        self._report("progress", **line)
