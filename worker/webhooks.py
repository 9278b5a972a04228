"""The end of a job is told to those who asked, signed as the Standard Webhooks specification says.

A row is written in the transaction that ends the job, so that a crash leaves both or neither; the keeper sends it and tries again for a
day. A receiver may get one message twice, after a crash between the answer and its record: `webhook-id` is the same then.
"""

import base64
import binascii
import hashlib
import hmac
import json
import time
from typing import Any
from urllib.parse import urlsplit

import structlog
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from models.errors import ConfigError
from worker.database import Job, Webhook, db_now, new_id, now, read, write
from worker.errors import NotFoundError
from worker.pages import rfc3339
from worker.posting import PostError, post_once
from worker.settings import Settings, get_settings
from worker.states import INTERNAL

RETRY_SECONDS = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 21600.0)  # after each attempt; the last one from then on
GIVE_UP_SECONDS = 24 * 3600.0
_KEEP_SECONDS = 7 * 24 * 3600.0  # what has been delivered or given up can be looked at for so long
_CLAIM_SECONDS = 60.0  # a sender that died in between is followed by another one after this
_SECRET_PREFIX = "whsec_"  # noqa: S105 - what marks a secret in base 64, not a secret
_BATCH = 20
_log = structlog.get_logger(__name__)


def announce(session: Session, job_id: str) -> None:
    """Ask, in the transaction that ends a job, that those who want to know be told. Controls and what makes datasets end silently."""
    job = session.execute(select(Job.type, Job.control_of, Job.webhook).where(Job.id == job_id)).one()
    if job.type in INTERNAL or job.control_of is not None:
        return
    created = now(session)
    for url in sorted({url for url in (get_settings().webhook_url, job.webhook) if url}):
        session.add(Webhook(id=new_id("msg"), job_id=job_id, url=url, status="pending", attempts=0, due_at=created, created_at=created))


def check_webhook(url: str | None) -> None:
    """Raise ConfigError where a job's end can't be told to `url`: messages without a signature would be worth nothing."""
    if url is not None and get_settings().webhook_secret is None:
        raise ConfigError(
            "this service has no secret to sign messages with", param="webhook", hint="its operator sets SYNESTHESIA_WEBHOOK_SECRET"
        )


def list_deliveries(job_id: str) -> list[dict[str, Any]]:
    """Return what became of the messages about a job's end. Raises NotFoundError."""
    with read() as session:
        if session.scalar(select(Job.id).where(Job.id == job_id, Job.type.not_in(INTERNAL))) is None:
            raise NotFoundError(f"there is no job {job_id!r}", code="job_not_found")
        return [_as_json(row) for row in session.scalars(select(Webhook).where(Webhook.job_id == job_id).order_by(Webhook.id))]


def deliver(settings: Settings) -> int:
    """Send what is due, oldest first, and return how many messages were taken in hand."""
    with read() as session:
        due = session.scalars(
            select(Webhook.id).where(Webhook.status == "pending", Webhook.due_at <= db_now()).order_by(Webhook.due_at).limit(_BATCH)
        ).all()
    return sum(_deliver_one(settings, webhook_id) for webhook_id in due)


def clear() -> None:
    """Forget what ended long ago."""
    with write() as session:
        session.execute(delete(Webhook).where(Webhook.status != "pending", Webhook.created_at < db_now() - _KEEP_SECONDS))


def signed_headers(secret: str, webhook_id: str, moment: int, body: bytes) -> dict[str, str]:
    """Return the headers of a message that is sent at `moment`, whole seconds since 1970."""
    content = f"{webhook_id}.{moment}.".encode() + body
    signature = base64.b64encode(hmac.digest(_key_of(secret), content, hashlib.sha256)).decode()
    return {
        "Content-Type": "application/json",
        "User-Agent": "synesthesia-webhooks",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(moment),
        "webhook-signature": f"v1,{signature}",
    }


def _deliver_one(settings: Settings, webhook_id: str) -> bool:
    """Send one message unless another keeper has taken it meanwhile; no transaction is open while it is on its way."""
    with write() as session:
        taken = session.scalar(
            update(Webhook)
            .where(Webhook.id == webhook_id, Webhook.status == "pending", Webhook.due_at <= db_now())
            .values(due_at=db_now() + _CLAIM_SECONDS, attempts=Webhook.attempts + 1)
            .returning(Webhook)
        )
        if taken is None:
            return False
        body = _message(session.get_one(Job, taken.job_id))
    values = _outcome(settings, taken, body)
    with write() as session:
        moments = {"delivered_at": db_now()} if values["status"] == "delivered" else {}
        session.execute(update(Webhook).where(Webhook.id == webhook_id).values(**values, **moments))
    _log.info("webhook_sent", webhook_id=webhook_id, job_id=taken.job_id, **{name: values[name] for name in ("status", "answer", "error")})
    return True


def _outcome(settings: Settings, taken: Webhook, body: bytes) -> dict[str, Any]:
    """Send a message and return the columns that tell what became of it."""
    if settings.webhook_secret is None:
        return {"status": "failed", "answer": None, "error": "there is no SYNESTHESIA_WEBHOOK_SECRET any more"}
    headers = signed_headers(settings.webhook_secret.get_secret_value(), taken.id, int(time.time()), body)
    try:
        answer = post_once(taken.url, body, headers, private=settings.webhook_private)
    except PostError as error:
        return _not_delivered(taken, None, str(error)[:300], final=error.final)
    if 200 <= answer < 300:
        return {"status": "delivered", "answer": answer, "error": None}
    # 410: the receiver says that it wants no more of these.
    return _not_delivered(taken, answer, f"the receiver answered {answer}", final=answer == 410)


def _not_delivered(taken: Webhook, answer: int | None, error: str, *, final: bool) -> dict[str, Any]:
    pause = RETRY_SECONDS[min(taken.attempts, len(RETRY_SECONDS)) - 1]
    with read() as session:
        due = now(session) + pause
    final = final or due > taken.created_at + GIVE_UP_SECONDS
    return {"status": "failed" if final else "pending", "due_at": due, "answer": answer, "error": error}


def _message(job: Job) -> bytes:
    """Return the body: the same bytes at every attempt, as a job that has ended does not change."""
    document = {
        "type": f"job.{job.state}",
        "timestamp": rfc3339(job.finished_at),
        "data": {
            "id": job.id,
            "object": "job",
            "type": job.type,
            "status": job.state,
            "name": job.name,
            "dataset": job.dataset_id,
            "model": job.model_id,
            "metadata": job.meta,
            "error": job.error,
        },
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _key_of(secret: str) -> bytes:
    """Return the bytes of a secret: those behind `whsec_` in base 64, as the specification writes it, else its text."""
    if not secret.startswith(_SECRET_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except binascii.Error:
        return secret.encode()


def _as_json(row: Webhook) -> dict[str, Any]:
    parts = urlsplit(row.url)
    moments = {"created_at": row.created_at, "delivered_at": row.delivered_at, "next_at": row.due_at if row.status == "pending" else None}
    return {
        "id": row.id,
        "object": "delivery",
        "job": row.job_id,
        "receiver": f"{parts.scheme}://{parts.netloc}",  # what follows is often a secret
        "status": row.status,
        "attempts": row.attempts,
        "answer": row.answer,
        "error": row.error,
        **{name: rfc3339(moment) for name, moment in moments.items()},
    }
