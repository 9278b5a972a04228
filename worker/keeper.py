"""The janitor and the relay, and the collector beside them: in every API process and worker, so that some keeper lives while anything does.

Its work is idempotent, so two keepers at once do no harm; on one host a file lock lets one of them do it all.
"""

import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import structlog
from sqlalchemy import and_, func, or_, select
from sqlalchemy.exc import DBAPIError

from models.errors import SynesthesiaError
from worker import webhooks
from worker.collector import Collector
from worker.database import Job, Outbox, db_now, read, write
from worker.judgement import settle
from worker.kept_embeddings import KeptEmbeddings
from worker.lease import requeue, send
from worker.logs import configure_logging
from worker.processes import HostLock, die_with_parent, owner_lock
from worker.queue import BrokerError, relay, waiting_messages
from worker.retention import forget_old
from worker.settings import Settings, get_settings, host_name
from worker.states import ACTIVE, TERMINAL

_RELAY_SECONDS = 0.25  # a queued job waits this long for its message at most
_COLLECT_SECONDS = 60.0
_ANNOUNCE_SECONDS = 1.0
_PAUSE_SECONDS = 1.0  # after a failure, so that a broker that is down costs no processor
_BATCH = 200  # rows one sweep deals with at most
_FOLDER_SECONDS = 600.0  # a failed job's log stays so long
_log = structlog.get_logger(__name__)


class Keeper:
    """Publishes the outbox and sweeps the jobs table until stopped."""

    def __init__(self, settings: Settings) -> None:
        """Nothing starts yet."""
        self._settings = settings
        self._lock = HostLock(settings.lock_dir, "keeper")
        self._stop = threading.Event()
        # A thread each: a storage or a receiver that is slow or does not answer must not keep messages waiting.
        works = {"keeper": self._run, "collector": self._collect, "webhooks": self._announce}
        self._threads = [threading.Thread(target=work, name=name, daemon=True) for name, work in works.items()]
        self._leading = False
        self._next_sweep = 0.0

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ask the threads to end, and wait for them."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=10)
        self._lock.release()

    def _run(self) -> None:
        pause = 0.0
        while not self._stop.wait(max(_RELAY_SECONDS, pause)):
            self._leading = self._leading or self._lock.acquire()
            pause = self._round() if self._leading else 1.0

    def _collect(self) -> None:
        collector = Collector(self._settings)
        while not self._stop.wait(_COLLECT_SECONDS):
            try:
                if self._leading:
                    collector.sweep()
                    forget_old(self._settings)
                    webhooks.clear()
            except (SynesthesiaError, DBAPIError) as error:
                _log.warning("nothing_collected", error=str(error)[:200])
            except Exception:  # noqa: BLE001 - the border of a task: recorded
                _log.exception("collector_failed")

    def _announce(self) -> None:
        while not self._stop.wait(_ANNOUNCE_SECONDS):
            try:
                if self._leading:
                    webhooks.deliver(self._settings)
            except DBAPIError as error:
                _log.warning("no_webhook_sent", error=str(error)[:200])
            except Exception:  # noqa: BLE001 - the border of a task: recorded
                _log.exception("webhooks_failed")

    def _round(self) -> float:
        """Do what is due; return seconds to pause beyond the usual."""
        try:
            if time.monotonic() >= self._next_sweep:
                self._next_sweep = time.monotonic() + self._settings.janitor_seconds
                sweep(self._settings)
            relay()
        except BrokerError as error:
            _log.warning("broker_unavailable", error=str(error)[:200])
            return _PAUSE_SECONDS
        except DBAPIError as error:
            _log.warning("database_unavailable", error=str(error)[:200])
            return _PAUSE_SECONDS
        except Exception:  # noqa: BLE001 - the border of a task: recorded
            # A thread that ended here would hold the lock, and nobody would keep.
            _log.exception("keeper_failed")
            return _PAUSE_SECONDS
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
            settle(session, job.id)
    _clear_folders(settings)
    KeptEmbeddings(settings.embeddings_dir).sweep()
    _send_again(settings)


def _orphans(settings: Settings) -> list[Job]:
    """Return jobs whose lease has run out, and those of this host whose lock nobody holds any more."""
    with read() as session:
        expired = Job.lease_until < db_now()
        here = Job.owner.startswith(f"{host_name()}:", autoescape=True)
        rows = session.execute(select(Job, expired).where(Job.state.in_(ACTIVE), or_(expired, here))).all()
    return [job for job, is_expired in rows if is_expired or owner_lock(settings.lock_dir, job.owner or "").is_abandoned()]


def _send_again(settings: Settings) -> None:
    """Ask for messages for jobs that are due and have none, or whose message nobody claims while the broker holds too few.

    Where it holds as many as jobs wait, none is lost, and none is sent twice: jobs can wait for hours behind others, and the broker's
    memory is bounded. Raises BrokerError.
    """
    losing = _losing_queues()
    late = Job.published_at < db_now() - settings.republish_seconds
    unclaimed = or_(Job.published_at.is_(None), and_(late, Job.queue.in_(losing)))
    due = or_(Job.not_before.is_(None), Job.not_before <= db_now())
    # Not `exists`, which would walk the outbox for each job: with 10,000 of both that is half a minute, with the writer's place taken.
    unsent = Job.id.not_in(select(Outbox.job_id))
    with write() as session:
        jobs = session.scalars(select(Job).where(Job.state == "queued", unclaimed, due, unsent).order_by(Job.id).limit(_BATCH)).all()
        for job in jobs:
            send(session, job.id, job.queue)
            if job.published_at is not None:
                _log.info("message_sent_again", job_id=job.id)


def _losing_queues() -> list[str]:
    """Return the queues that hold fewer messages than jobs wait for one of theirs."""
    with read() as session:
        sent = select(Job.queue, func.count()).where(Job.state == "queued", Job.published_at.is_not(None)).group_by(Job.queue)
        expected = session.execute(sent).all()
    return [queue for queue, count in expected if waiting_messages(queue) < count]


def _clear_folders(settings: Settings) -> None:
    """Remove the local folders of jobs that ended a while ago: checkpoints that nobody goes on from, half-made artifacts, logs."""
    folders = {path.name: path for path in (settings.scratch_dir / "jobs").glob("job_*")}
    if not folders:
        return
    with read() as session:
        ended = session.scalars(
            select(Job.id).where(Job.id.in_(list(folders)), Job.state.in_(TERMINAL), Job.finished_at < db_now() - _FOLDER_SECONDS)
        ).all()
    for job_id in ended:
        shutil.rmtree(folders[job_id], ignore_errors=True)


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
