"""One JSON object a line on standard error, from our code and from libraries."""

import json
import subprocess
import sys
from typing import Any

CODE = """
import logging, sys, structlog
from worker.logs import configure_logging
configure_logging(sys.argv[1])
log = structlog.get_logger("ours")
with structlog.contextvars.bound_contextvars(job_id="job_1"):
    log.info("started", step=3)
    logging.getLogger("theirs").warning("two\\nlines %s", "here")
log.debug("quiet")
try:
    raise KeyError("x")
except KeyError:
    log.exception("broke")
"""


def lines(level: str) -> list[dict[str, Any]]:
    ended = subprocess.run([sys.executable, "-c", CODE, level], capture_output=True, check=True, text=True)
    assert ended.stdout == ""
    return [json.loads(line) for line in ended.stderr.splitlines()]


def test_every_line_is_an_object_with_its_context() -> None:
    ours, theirs, broke = lines("info")
    assert (ours["event"], ours["step"], ours["job_id"], ours["level"], ours["logger"]) == ("started", 3, "job_1", "info", "ours")
    assert (theirs["event"], theirs["job_id"], theirs["level"]) == ("two\nlines here", "job_1", "warning")
    assert "KeyError" in broke["exception"]
    assert "job_id" not in broke
    assert all(line["timestamp"].endswith("Z") for line in (ours, theirs, broke))


def test_the_level_is_a_threshold() -> None:
    assert [line["event"] for line in lines("warning")] == ["two\nlines here", "broke"]
    assert "quiet" in [line["event"] for line in lines("debug")]
