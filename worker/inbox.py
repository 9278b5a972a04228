"""A child's report lines, as they arrive: each kind stored where clients read it. Every write is fenced by the job's token."""

import json
import time
from collections.abc import Callable
from typing import Any

import structlog

from worker.database import Job
from worker.lease import record

_MAX_LINE = 16 * 2**20  # an evaluation with a large confusion matrix is the longest line
_log = structlog.get_logger(__name__)


class Inbox:
    """What one child has said so far."""

    def __init__(self, job: Job) -> None:
        """`job` is the claimed row; only its id and token are used."""
        self._job_id, self._token = job.id, job.token
        self._buffer = b""
        self._progress: dict[str, Any] | None = None
        self.heard_at = time.monotonic()  # the last sign of work, for the stall clock
        self.lost = False  # a write was refused: somebody else owns the job now
        self.phase = ""  # of the work, as the child named it last
        self.checkpoint_step = 0  # of the newest checkpoint
        self.preview: dict[str, Any] | None = None  # a first answer that is to be published
        self.result: dict[str, Any] | None = None
        self.failure: dict[str, Any] | None = None
        self._handlers: dict[str, Callable[[dict[str, Any]], None]] = {
            "progress": self._on_progress,
            "metrics": self._on_metrics,
            "message": self._on_message,
            "resolved": self._on_resolved,
            "checkpoint": self._on_checkpoint,
            "preview": self._on_preview,
            "result": self._on_result,
            "failed": self._on_failed,
        }

    def feed(self, data: bytes) -> bool:
        """Take what was read; False at the end of the stream. Lines that are no JSON object are logged and dropped."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in filter(None, lines):
            self._take(line)
        if len(self._buffer) > _MAX_LINE:
            # Without this line the job would go on from its checkpoint, end with the same line, and never end.
            _log.error("report_line_too_long")
            self._buffer = b""
            self.failure = {"code": "internal", "message": f"the trainer's report is larger than {_MAX_LINE} bytes", "param": None}
        return bool(data)

    def take_progress(self) -> dict[str, Any] | None:
        """Return the newest progress not yet returned; None when there is none."""
        progress, self._progress = self._progress, None
        return progress

    def _take(self, line: bytes) -> None:
        try:
            report = json.loads(line)
            handler = self._handlers[report.pop("kind")]
        except (ValueError, KeyError, TypeError, AttributeError):
            _log.warning("report_not_understood", line=line[:200].decode(errors="replace"))
            return
        self.heard_at = time.monotonic()
        handler(report)

    def _store(self, events: list[dict[str, Any]], **columns: Any) -> None:
        if not record(self._job_id, self._token, events, **columns):
            self.lost = True

    def _on_progress(self, report: dict[str, Any]) -> None:
        self._progress = report
        self.phase = str(report.get("phase", self.phase))

    def _on_metrics(self, report: dict[str, Any]) -> None:
        message = ", ".join(f"{name} {value:.4g}" for name, value in report.items() if isinstance(value, float))
        self._store([{"kind": "metrics", "message": message, "data": report}], metrics=report)

    def _on_message(self, report: dict[str, Any]) -> None:
        self._store(
            [{"kind": "message", "message": report["message"], "level": report.get("level", "info"), "data": report.get("data") or {}}]
        )

    def _on_resolved(self, report: dict[str, Any]) -> None:
        # From now on the job builds on this model, which can't be deleted before the job has ended.
        columns = {"resolved": report["spec"], "base_model_id": report.get("base_model_id")}
        self._store([{"kind": "message", "message": "values resolved", "data": report["spec"]}], **columns)

    def _on_checkpoint(self, report: dict[str, Any]) -> None:
        self.checkpoint_step = int(report["step"])
        self._store([{"kind": "checkpoint", "message": f"checkpoint at step {report['step']}", "data": report}])

    def _on_preview(self, report: dict[str, Any]) -> None:
        self.preview = report

    def _on_result(self, report: dict[str, Any]) -> None:
        self.result = report

    def _on_failed(self, report: dict[str, Any]) -> None:
        self.failure = {"code": report["code"], "message": report["message"], "param": report.get("param")}
