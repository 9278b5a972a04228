"""Progress and metrics of a trainer as report lines: often enough to watch, seldom enough not to slow the loop."""

import time
from typing import Any

from models.training import Progress
from worker.reports import Reporter

_SECONDS = 0.25  # between two progress lines
_TRAINING = "training"
_SETTLED = 0.1  # share of the steps after which the time left is worth something


class Telemetry:
    """Turns the loop's reports into lines, with the time left."""

    def __init__(self, report: Reporter) -> None:
        """Nothing is reported yet."""
        self._report = report
        self._sent_at = float("-inf")
        self._stage: tuple[str, int] = ("", 0)  # which training is reported, and its last step: races and searches have several
        self._began: tuple[float, int] | None = None  # when it began here, and at which step
        self._promise: tuple[float, float] | None = None  # when the first time left was shown that counts, and which one
        self._heard_at = 0.0  # when training was heard of last
        self.last: dict[str, Any] = {"epoch": 0, "epochs": None, "step": 0, "steps": None, "fraction": 0.0, "eta_seconds": None}

    def phase(self, name: str) -> None:
        """Report that something else than training is being done."""
        self._send({**self.last, "phase": name, "eta_seconds": None})

    def training(self, progress: Progress) -> None:
        """Report a batch, at most some times a second, or an epoch with its metrics."""
        self._follow(progress)
        if progress.metrics is not None:
            self._report("metrics", **progress.metrics)
        elif time.monotonic() - self._sent_at < _SECONDS:
            return
        seconds_left = self._seconds_left(progress)
        self._send(
            {
                "phase": progress.phase,
                "epoch": progress.epoch,
                "epochs": progress.epochs,
                "step": progress.step,
                "steps": progress.steps,
                "fraction": round(progress.step / max(1, progress.steps), 4),
                "eta_seconds": seconds_left,
            }
        )
        if (
            self._promise is None
            and seconds_left is not None
            and self._stage[0] == _TRAINING
            and progress.step >= _SETTLED * progress.steps
        ):
            self._promise = (time.monotonic(), seconds_left)

    def eta_error(self) -> dict[str, float]:
        """Return by how much the first time left that was shown after a tenth of the steps was wrong, relative to what it then took.

        Nothing where training was over before one was shown. A training that stops early is wrong by what it did not use.
        """
        if self._promise is None:
            return {}
        shown_at, promised = self._promise
        took = self._heard_at - shown_at
        return {"eta_error": round(abs(promised - took) / took, 4)} if took > 0 else {}

    def _follow(self, progress: Progress) -> None:
        """Measure the pace anew where another training has begun: that of a race or a search tells nothing of the one that counts."""
        name = _TRAINING if progress.phase in (_TRAINING, "validation") else progress.phase
        before, step = self._stage
        if name != before or progress.step < step:
            self._began = None
        self._stage = (name, progress.step)
        if name == _TRAINING:
            self._heard_at = time.monotonic()

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
