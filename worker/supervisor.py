"""Runs one job's child process: starts it, renews the lease, stores its reports, stops it, and judges its end.

One thread and one loop. It never imports torch (a forked CUDA process can't use the GPU) and holds no transaction while it waits.
"""

import os
import selectors
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError

from models.errors import SynesthesiaError
from worker import drain
from worker.database import Job, write
from worker.errors import CapacityError, DependencyError, StorageFullError
from worker.inbox import Inbox
from worker.judgement import settle
from worker.lease import add_status, claim, close, furthest_checkpoint, renew, requeue
from worker.previews import publish_preview
from worker.processes import owner_lock, owner_name
from worker.reports import RELEASED_EXIT
from worker.settings import Settings, get_settings
from worker.versions import is_understood
from worker.work import WORK, Work, job_folder

_TICK_SECONDS = 0.2  # how late a drain, a stall or a lease is noticed at most
_FINISH = signal.SIGUSR1  # to the trainer: end now, keep the best checkpoint as a model
_RELEASE = signal.SIGTERM  # to the trainer: write a checkpoint and exit, the job goes on later
_REASONS = ("", "drain", "pause", "time_limit", "cancel", "stalled", "lost")  # to stop a child, weakest first
_FINISHING = ("evaluating", "exporting")  # phases in which a trainer makes a model of what it has learnt
_PASSING = (StorageFullError.code, DependencyError.code)  # failures of a child that say nothing against its job
_log = structlog.get_logger(__name__)


def supervise(job_id: str) -> None:
    """Run the job `job_id` if it can be claimed; return when this start of it is over."""
    if not is_understood(job_id):
        _log.warning("job_of_another_version", job_id=job_id)  # its message is used up; the keeper sends another one later
        return
    settings = get_settings()
    owner = owner_name()
    lock = owner_lock(settings.lock_dir, owner)
    lock.acquire()  # before the claim: a running job whose owner's lock is free has a dead owner
    try:
        claimed = claim(job_id, owner)
        if claimed is None:
            _log.info("nothing_to_claim", job_id=job_id)
        else:
            with structlog.contextvars.bound_contextvars(job_id=job_id, token=claimed.token):
                _run(Supervisor(claimed.job, WORK[claimed.job.type], settings))
        lock.remove()  # not after an exception: the job may still name its owner, and the janitor takes it back when the lock is free
    finally:
        lock.release()


def _run(supervisor: "Supervisor") -> None:
    try:
        supervisor.run()
    except (OperationalError, InterfaceError):
        raise  # nothing can be written now: the janitor gives the job back once the database answers, and it costs no attempt
    except Exception as error:  # noqa: BLE001 - the border of a task: recorded, and judged like the death of a child
        _log.exception("supervisor_failed")
        supervisor.try_again({"code": "internal", "message": f"the worker failed with {type(error).__name__}", "param": None})


class Supervisor:
    """One start of one job."""

    def __init__(self, job: Job, work: Work, settings: Settings) -> None:
        """`job` is the claimed row, detached from its session."""
        self._job = job
        self._work = work
        self._settings = settings
        self._folder = job_folder(job.id)
        self._inbox = Inbox(job)
        self._began = time.monotonic()
        self._resumed_from = furthest_checkpoint(job.id)
        self._asked = ""  # why the child was told to stop, one of _REASONS
        self._kill_at = float("inf")
        self._drain_at = float("inf")  # when this worker was told to end

    def run(self) -> None:
        """Start the child, see it through, write down how it ended."""
        try:
            child = self._start()
        except SynesthesiaError as error:
            self._refused(error)
            return
        try:
            self._watch(child)
        finally:
            _end(child)
        self._conclude(child.returncode)

    def _start(self) -> subprocess.Popen[bytes]:
        start = self._work.start(self._job, self._folder)
        _log.info("child_starts", type=self._job.type)
        with (self._folder / "log").open("ab") as log:
            child = subprocess.Popen(start.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True)
        assert child.stdin is not None
        try:
            child.stdin.write(start.order)
            child.stdin.close()
        except BrokenPipeError:  # it died before it read its order; _watch sees the end of its output
            pass
        return child

    def _watch(self, child: subprocess.Popen[bytes]) -> None:
        """Read reports and keep the lease until the child closes its output."""
        assert child.stdout is not None
        os.set_blocking(child.stdout.fileno(), False)
        next_beat = 0.0
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while True:
                if selector.select(_TICK_SECONDS) and not self._inbox.feed(os.read(child.stdout.fileno(), 65536)):
                    return
                self._publish_preview()
                if time.monotonic() >= next_beat:
                    next_beat = time.monotonic() + self._settings.heartbeat_seconds
                    self._beat(child)
                self._check_clocks(child)

    def _publish_preview(self) -> None:
        report, self._inbox.preview = self._inbox.preview, None
        if report is not None:
            publish_preview(self._job, self._folder, report)

    def _beat(self, child: subprocess.Popen[bytes]) -> None:
        directive = renew(self._job.id, self._job.token, self._inbox.take_progress(), ran_seconds=self._ran_seconds())
        if directive == "lost" or self._inbox.lost:
            self._ask(child, "lost", signal.SIGKILL)
        elif directive == "cancel":
            self._ask(child, "cancel", _FINISH)
        elif directive == "pause":
            self._ask(child, "pause", _RELEASE)

    def _check_clocks(self, child: subprocess.Popen[bytes]) -> None:
        now = time.monotonic()
        if drain.requested():
            self._drain_at = min(self._drain_at, now)
            self._ask(child, "drain", _RELEASE)
        if now - self._inbox.heard_at > self._settings.stall_seconds:
            self._ask(child, "stalled", signal.SIGKILL)
        if self._ran_seconds() > self._settings.job_seconds:
            self._ask(child, "time_limit", _RELEASE)
        if now > max(self._kill_at, self._finish_by()):
            child.kill()

    def _ran_seconds(self) -> float:
        """Return for how long the job has been worked on.

        A job that is killed or paused again and again must come to its end too, so its starts are added up; what it waits in between
        is not its doing. Kept by heartbeats, so a start that is lost with its supervisor counts as far as the last of them.
        """
        return self._job.ran_seconds + time.monotonic() - self._began

    def _finish_by(self) -> float:
        """Return until when a child that was asked for its model may evaluate and export it, whatever the grace.

        The grace is for a child that trains. It holds again once this worker is to end: whoever ends it waits no longer than that.
        """
        if self._asked != "cancel" or self._inbox.phase not in _FINISHING:
            return float("-inf")
        return min(self._kill_at + self._settings.finish_seconds, self._drain_at + self._settings.stop_grace_seconds)

    def _ask(self, child: subprocess.Popen[bytes], why: str, how: signal.Signals) -> None:
        """Tell the child to stop, once a reason; only a stronger reason follows a weaker one."""
        if _REASONS.index(why) <= _REASONS.index(self._asked):
            return
        _log.info("child_asked_to_stop", why=why)
        self._asked = why
        self._kill_at = min(self._kill_at, time.monotonic() + self._settings.stop_grace_seconds)
        child.send_signal(how)

    def _conclude(self, code: int) -> None:
        """Write the end of this start. Whatever is written is fenced, so a lost job is left alone.

        The last line counts, not the exit status: a library that crashes while the process ends takes nothing back.
        """
        if self._asked == "lost":
            return
        if self._inbox.result is not None:
            self._succeed(self._inbox.result)
        elif self._inbox.failure is not None:
            self._judge(self._inbox.failure)
        elif self._asked == "time_limit":
            self._fail({"code": "time_limit", "message": f"was worked on for more than {self._settings.job_seconds:.0f} s", "param": None})
        elif self._asked in ("cancel", "pause", "drain") and (code == RELEASED_EXIT or code < 0):
            self._requeue("stopped as asked; the checkpoint is kept")
        else:
            self._child_died(code)

    def _succeed(self, result: dict[str, Any]) -> None:
        try:
            published = self._work.succeed(self._job, self._folder, result)
        except SynesthesiaError as error:
            self._refused(error)
            return
        _log.info("job_succeeded" if published else "job_taken_over")

    def _refused(self, error: SynesthesiaError) -> None:
        """Deal with what this process could not do for the child: later it may, if only disk, storage or database was short."""
        failure = {"code": error.code, "message": error.message, "param": error.param}
        if isinstance(error, CapacityError):
            self.try_again(failure)
        else:
            self._fail(failure)

    def _judge(self, failure: dict[str, Any]) -> None:
        """Deal with what the child could not do: a disk that was full may have room again soon, and what was uploaded is still there."""
        if failure["code"] in _PASSING:
            self.try_again(failure)
        else:
            self._fail(failure)

    def _fail(self, error: dict[str, Any]) -> None:
        with write() as session:
            if close(session, self._job.id, self._job.token, "failed", error=error):
                self._work.lose(session, self._job, error)
                add_status(session, self._job.id, "failed", error["message"], level="error", error=error)
        _log.warning("job_failed", error=error)

    def _requeue(self, reason: str, *, delay: float = 0.0, counted: bool = False) -> None:
        with write() as session:
            job = session.get_one(Job, self._job.id, with_for_update=True)
            if job.token == self._job.token:
                job.ran_seconds = self._ran_seconds()
                requeue(session, job, reason, delay=delay, counted=counted)
                settle(session, job.id)  # a control that was to be cancelled has ended so

    def _child_died(self, code: int) -> None:
        """The child died by itself. New progress since its start forgives it; three deaths without any end the job."""
        stalled = self._asked == "stalled"
        what = "made no step for too long" if stalled else f"ended with {_describe(code)}"
        forgiven = self._inbox.checkpoint_step > self._resumed_from
        _log.warning("child_died", code=code, forgiven=forgiven, log=_tail(self._folder / "log"))
        if forgiven:
            self._requeue(f"the trainer {what}; it goes on from its checkpoint")
        else:
            self.try_again({"code": "stalled" if stalled else "worker_lost", "message": f"the trainer {what}", "param": None})

    def try_again(self, error: dict[str, Any]) -> None:
        """Count a failure: the job waits a while and starts again, or has failed with `error` where that was the last one allowed."""
        failures = self._job.failures + 1
        if failures >= self._settings.max_failures:
            self._fail({**error, "message": f"{error['message']}, {failures} times"})
        else:
            self._requeue(f"{error['message']}; it starts again", delay=2.0**failures, counted=True)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Leave no process behind: the child leads its own session, so its own children go with it."""
    try:
        child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    if child.stdout is not None:
        child.stdout.close()


def _describe(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _tail(path: Path, size: int = 2000) -> str:
    """Return the end of the child's log, empty where a newer owner has already removed it."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return file.read().decode(errors="replace")
