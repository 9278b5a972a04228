"""From outbox to broker. The only caller of Celery's send_task.

Celery is imported when the first message has to go out: it would be a quarter of the time that an API process takes to start.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

import structlog
from sqlalchemy import delete, not_, select, update

from worker.database import Job, Outbox, db_now, read, write
from worker.embedded import socket_path
from worker.lease import put_off
from worker.settings import get_settings

if TYPE_CHECKING:
    from celery import Celery

RUN_TASK = "synesthesia.run"
_BATCH = 100
_PING_SECONDS = 1.0
_log = structlog.get_logger(__name__)


class BrokerError(Exception):
    """The broker is down, hung or confused."""


@functools.cache
def _celery() -> "Celery":
    from worker.celery_app import create_celery  # noqa: PLC0415

    return create_celery(get_settings())


@contextlib.contextmanager
def _broker() -> Iterator["Celery"]:
    """Give the application; what kombu raises, which does not wrap all of redis-py's and the socket's own errors, becomes BrokerError."""
    from kombu.exceptions import OperationalError  # noqa: PLC0415
    from redis.exceptions import RedisError  # noqa: PLC0415

    try:
        yield _celery()
    except (OperationalError, RedisError, OSError) as error:
        raise BrokerError(str(error)) from error


def relay() -> int:
    """Publish what waits in the outbox, oldest first, and return how many messages went out. Controls let other jobs go first.

    A row is deleted after its message was sent: a crash between the two sends it twice, and the second is a no-op at the claim.
    Raises BrokerError when the broker does not take a message; what was not sent stays.
    """
    with read() as session:
        rows = select(Outbox.id, Outbox.job_id, Outbox.queue).outerjoin(Job, Job.id == Outbox.job_id)
        waiting = session.execute(rows.where(not_(put_off())).order_by(Outbox.id).limit(_BATCH)).all()
    sent: list[tuple[int, str]] = []
    try:
        for outbox_id, job_id, queue in waiting:
            with _broker() as celery:
                celery.send_task(RUN_TASK, args=[job_id], queue=queue)
            sent.append((outbox_id, job_id))
    finally:
        _mark_sent(sent)
    return len(sent)


def waiting_messages(queue: str) -> int:
    """Return how many messages of `queue` lie in the broker. Raises BrokerError."""
    with _broker() as celery, celery.pool.acquire(block=True) as connection:
        return int(connection.default_channel.client.llen(queue))


def ping() -> bool:
    """Return whether the broker answers within two seconds. Without Celery: the first probe of a service would wait for its import."""
    from redis import Redis  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.exceptions import RedisError  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    settings = get_settings()
    url = settings.redis_url or f"unix://{quote(str(socket_path(settings.data_dir)))}"
    once = Retry(NoBackoff(), 0)
    try:
        with Redis.from_url(url, socket_timeout=_PING_SECONDS, socket_connect_timeout=_PING_SECONDS, retry=once) as client:
            return bool(client.ping())
    except (RedisError, OSError):
        return False


def _mark_sent(sent: list[tuple[int, str]]) -> None:
    if not sent:
        return
    with write() as session:
        session.execute(delete(Outbox).where(Outbox.id.in_([outbox_id for outbox_id, _ in sent])))
        session.execute(update(Job).where(Job.id.in_([job_id for _, job_id in sent])).values(published_at=db_now()))
