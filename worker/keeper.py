"""The janitor and the relay: one thread in every API process and worker, so that some keeper lives while anything does.

Its work is idempotent, so two keepers at once do no harm; on one host a file lock lets one of them do it all.
"""

import functools
import os
import signal
import subprocess
import sys
import threading
import time

import structlog
from sqlalchemy import exists, or_, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from worker.database import Job, Outbox, db_now, read, write
from worker.lease import ACTIVE, requeue, send
from worker.logs import configure_logging
from worker.processes import HostLock, die_with_parent, owner_lock
from worker.queue import BROKER_ERRORS, relay
from worker.settings import Settings, get_settings, host_name

_RELAY_SECONDS = 0.25  # a queued job waits this long for its message at most
_BROKER_PAUSE_SECONDS = 1.0  # after a failed publish, so that a broker that is down costs no processor
_log = structlog.get_logger(__name__)


class Keeper:
    """Publishes the outbox and sweeps the jobs table until stopped."""

    def __init__(self, settings: Settings) -> None:
        """Nothing starts yet."""
        self._settings = settings
        self._lock = HostLock(settings.lock_dir, "keeper")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._next_sweep = 0.0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end, and wait for it."""
        self._stop.set()
        self._thread.join(timeout=10)
        self._lock.release()

    def _run(self) -> None:
        leading = False
        pause = 0.0
        while not self._stop.wait(max(_RELAY_SECONDS, pause)):
            leading = leading or self._lock.acquire()
            pause = self._round() if leading else 1.0

    def _round(self) -> float:
        """Do what is due; return seconds to pause beyond the usual."""
        try:
            if time.monotonic() >= self._next_sweep:
                self._next_sweep = time.monotonic() + self._settings.janitor_seconds
                sweep(self._settings)
            relay()
        except BROKER_ERRORS as error:
            _log.warning("broker_unavailable", error=str(error)[:200])
            return _BROKER_PAUSE_SECONDS
        except DBAPIError as error:
            _log.warning("database_unavailable", error=str(error)[:200])
            return _BROKER_PAUSE_SECONDS
        return 0.0


def start_beside() -> subprocess.Popen[bytes]:
    """Start a keeper in a process of its own, which dies with the caller: a worker forks, and a thread would not survive that."""
    return subprocess.Popen(
        [sys.executable, "-m", "worker.keeper"],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=functools.partial(die_with_parent, os.getpid()),  # noqa: PLW1509 - the worker has one thread here
    )


def sweep(settings: Settings) -> None:
    """Give back what dead owners held, and send again what nobody has claimed."""
    for job in _orphans(settings):
        with write() as session:
            if requeue(session, job, f"{job.owner} is gone; the job goes on from its checkpoint"):
                _log.warning("job_reclaimed", job_id=job.id, owner=job.owner, token=job.token)
                owner_lock(settings.lock_dir, job.owner or "").remove()
    with write() as session:
        _send_again(session, settings)


def _orphans(settings: Settings) -> list[Job]:
    """Return jobs whose lease has run out, and those of this host whose lock nobody holds."""
    with read() as session:
        expired = Job.lease_until < db_now()
        here = Job.owner.startswith(f"{host_name()}:", autoescape=True)
        rows = session.execute(select(Job, expired).where(Job.state.in_(ACTIVE), or_(expired, here))).all()
    return [job for job, is_expired in rows if is_expired or owner_lock(settings.lock_dir, job.owner or "").is_free()]


def _send_again(session: Session, settings: Settings) -> None:
    unclaimed = or_(Job.published_at.is_(None), Job.published_at < db_now() - settings.republish_seconds)
    due = or_(Job.not_before.is_(None), Job.not_before <= db_now())
    waiting = ~exists().where(Outbox.job_id == Job.id)
    jobs = session.scalars(select(Job).where(Job.state == "queued", unclaimed, due, waiting).limit(200)).all()
    for job in jobs:
        send(session, job.id, job.queue)
        if job.published_at is not None:
            _log.info("message_sent_again", job_id=job.id)


def main() -> None:
    """`python -m worker.keeper`: keep until SIGTERM."""
    settings = get_settings()
    configure_logging(settings.log_level)
    keeper = Keeper(settings)
    keeper.start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    keeper.stop()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
