"""What a child process tells its supervisor: one JSON object a line on standard output.

Kinds: progress, metrics, checkpoint, message, resolved, result, failed. The supervisor alone writes the database, so a child that
was fenced off can't. Libraries that print would break the protocol: `claim_stdout` moves their output to standard error.
"""

import json
import os
import sys
from typing import Any, TextIO

RESULT_EXIT = 0
FAILED_EXIT = 1  # a "failed" line was written: the job can't succeed, do not retry
RELEASED_EXIT = 75  # EX_TEMPFAIL: asked to stop, checkpoint written, the job goes on later


class Reporter:
    """Writes report lines to the pipe that was standard output when the process began."""

    def __init__(self, stream: TextIO) -> None:
        """`stream` stays open as long as the process."""
        self._stream = stream

    def __call__(self, kind: str, **fields: Any) -> None:
        """Write one line. Raises BrokenPipeError when the supervisor is gone, which ends the child."""
        self._stream.write(json.dumps({"kind": kind, **fields}, allow_nan=False) + "\n")
        self._stream.flush()


def claim_stdout() -> Reporter:
    """Keep standard output for reports; whatever else is printed goes to standard error. Call once, first."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return Reporter(pipe)
