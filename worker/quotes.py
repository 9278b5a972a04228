"""What a job would take, before it is queued: the checks of a posted job, then a probe in a process of its own. Nothing is stored."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import structlog

from models.config import JobSpec
from models.errors import ArtifactError, ConfigError, SynesthesiaError, UnavailableError
from worker.database import Job, new_id, read
from worker.errors import CapacityError, OverloadedError
from worker.jobs import check_job, count_by_state
from worker.processes import HostLock
from worker.settings import Settings, get_settings
from worker.work import training_order

MAX_QUOTES = 2  # at once on this host: each imports torch and trains for seconds
QUOTE_SECONDS = 60.0  # then the child is ended
_RETRY_SECONDS = 5
_COMMAND = (sys.executable, "-m", "worker.quoter")
# What the job would fail with is the caller's to change, unless the machine lacks something or a stored model is damaged.
_FAMILIES: dict[str, type[SynesthesiaError]] = {"UnavailableError": UnavailableError, "ArtifactError": ArtifactError}
_log = structlog.get_logger(__name__)


def quote_job(spec: JobSpec) -> dict[str, Any]:
    """Return what `spec` would take, as JSON. Blocks for seconds.

    Raises what `create_job` raises, what the job would fail with at its start, OverloadedError where as many quotes are being made as
    this host makes at once, and CapacityError: quote_timeout, quote_failed.
    """
    settings = get_settings()
    with read() as session:
        checked = check_job(session, spec)
    job = Job(
        id=new_id("job"), type=checked.spec.type, dataset_id=checked.dataset.id, spec=checked.spec.model_dump(mode="json"),
        base_model_id=checked.base_model_id, owned_by=checked.dataset.owned_by, token=0, resolved=None, checkpoints=[],
    )  # fmt: skip
    with _place(settings):
        # The folder is the one that the job would have; the probe writes nothing, so it is not made.
        order = training_order(job, settings.scratch_dir / "jobs" / job.id)
        quote = _quoted(order.model_dump_json().encode())
    quote["warnings"] += _warnings(quote, settings)
    return {"object": "quote", **quote}


@contextlib.contextmanager
def _place(settings: Settings) -> Iterator[None]:
    """Hold one of the places of this host. Raises OverloadedError where none is free."""
    for number in range(MAX_QUOTES):
        lock = HostLock(settings.lock_dir, f"quote-{number}")
        if lock.acquire():
            try:
                yield
            finally:
                lock.release()
            return
    raise OverloadedError(f"{MAX_QUOTES} quotes are being made, which is as many as are made at once", retry_after=_RETRY_SECONDS)


def _quoted(order: bytes) -> dict[str, Any]:
    """Return the child's report. Raises what it failed with; the child is gone in any case."""
    child = subprocess.Popen(
        _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )  # fmt: skip
    try:
        out, err = child.communicate(order, timeout=QUOTE_SECONDS)
    except subprocess.TimeoutExpired:
        raise CapacityError(
            f"no quote within {QUOTE_SECONDS:.0f} s: the machine is busy, or the network is large", code="quote_timeout", retry_after=60,
            hint="post the job without dry_run; its progress tells how long it takes",
        ) from None  # fmt: skip
    finally:
        _end(child)
    report = _last_report(out)
    if report is None:
        _log.warning("quoter_died", code=child.returncode, log=err[-2000:].decode(errors="replace"))
        what = signal.Signals(-child.returncode).name if child.returncode < 0 else f"exit code {child.returncode}"
        raise CapacityError(f"the probe ended with {what}", code="quote_failed", retry_after=_RETRY_SECONDS)
    if report.pop("kind") == "failed":
        family = _FAMILIES.get(report["family"], ConfigError)
        raise family(report["message"], code=report["code"], param=report["param"], hint=report["hint"])
    return report


def _last_report(out: bytes) -> dict[str, Any] | None:
    """Return the result or the failure that the child reported, None where it did not come so far."""
    for line in reversed(out.splitlines()):
        try:
            report = json.loads(line)
        except ValueError:
            continue
        if isinstance(report, dict) and report.get("kind") in ("result", "failed"):
            return report
    return None


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)  # it leads its own session, so its own children go with it
    child.wait()
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()


def _warnings(quote: dict[str, Any], settings: Settings) -> list[str]:
    """Return what else a caller should know: limits of this service, and jobs that come first."""
    found = []
    if quote["estimated_seconds"]["expected"] > settings.job_seconds:
        found.append(f"the service ends a job after {settings.job_seconds:.0f} s, before this one is done")
    free = shutil.disk_usage(settings.data_dir).free
    if quote["disk_bytes"] > free:
        found.append(f"the disk has {free} bytes left, fewer than the job needs")
    counts, _ = count_by_state()
    waiting = counts.get("queued", 0) + counts.get("running", 0)
    if waiting:
        found.append(f"jobs that are queued or running: {waiting}; waiting for them is not counted")
    return found
