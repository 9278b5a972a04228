"""Answers kept by Idempotency-Key, so that a POST that is sent again gets its first answer and makes nothing twice.

What a keyed request makes is written beside its key in the transaction that makes it (`note_made`): a process that dies before it has
kept its answer, and one that comes back after another took the key over, leave one thing and not two.
"""

from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from models.errors import InputError
from worker.bound import bound
from worker.database import Idempotency, now, write
from worker.errors import ConflictError
from worker.settings import get_settings

TAKEOVER_SECONDS = 60.0  # an answer that has been in the making for so long died with its process


@dataclass(frozen=True)
class Ticket:
    """The right to answer a keyed request. `token` tells it from an earlier one that was taken over."""

    id: int
    token: float
    made: str | None = None
    """id of what an earlier request with the key made, before it died without an answer"""


_ticket: ContextVar[Ticket | None] = ContextVar("ticket", default=None)


@dataclass(frozen=True)
class Replay:
    """The answer that was given before."""

    status: int
    body: dict[str, Any]
    location: str | None


def begin(scope: str, key: str, fingerprint: str) -> Ticket | Replay:
    """Claim `key` for a request, or return the answer that it had.

    `scope` names caller and operation, `fingerprint` is a sha256 of what is asked. Raises ConflictError
    (`idempotency_in_progress`) while another request with the key is being answered, InputError (`idempotency_mismatch`)
    where the key stood with another fingerprint.
    """
    try:
        with write() as session:
            return _begin(session, scope, key, fingerprint)
    except IntegrityError:  # another process inserted the key between our read and our write (Postgres only)
        with write() as session:
            return _begin(session, scope, key, fingerprint)


def answering(ticket: Ticket) -> AbstractContextManager[None]:
    """Let what is made until the block ends be what the request of `ticket` made."""
    return bound(_ticket, ticket)


def note_made(session: Session, object_id: str) -> None:
    """Add to the caller's transaction what a keyed request makes; without a key, nothing.

    Raises ConflictError (`idempotency_in_progress`) where another request took the key over.
    """
    ticket = _ticket.get()
    if ticket is None:
        return
    held = update(Idempotency).where(*_held(ticket)).values(location=object_id).returning(Idempotency.id)
    if session.scalar(held) is None:
        raise ConflictError("another request with this Idempotency-Key has taken this one's place", code="idempotency_in_progress")


def finish(ticket: Ticket, *, status: int, body: dict[str, Any], location: str | None = None) -> None:
    """Keep the answer. Without effect where the ticket was taken over."""
    with write() as session:
        session.execute(
            update(Idempotency).where(*_held(ticket)).values(status=status, body=body, location=location),
        )


def abandon(ticket: Ticket) -> None:
    """Give the key back, so that the next request with it is as good as the first; where something was made, that one will find it."""
    with write() as session:
        session.execute(delete(Idempotency).where(*_held(ticket), Idempotency.location.is_(None)))


def purge() -> int:
    """Delete answers that are older than the settings keep them; return how many."""
    with write() as session:
        oldest = now(session) - get_settings().idempotency_seconds
        gone = session.scalars(delete(Idempotency).where(Idempotency.created_at < oldest).returning(Idempotency.id)).all()
        return len(gone)


def _begin(session: Session, scope: str, key: str, fingerprint: str) -> Ticket | Replay:
    moment = now(session)
    row = session.scalar(select(Idempotency).where(Idempotency.scope == scope, Idempotency.key == key).with_for_update())
    if row is not None and row.created_at < moment - get_settings().idempotency_seconds:
        session.delete(row)
        session.flush()
        row = None
    if row is None:
        row = Idempotency(scope=scope, key=key, fingerprint=fingerprint, status=None, body=None, location=None, created_at=moment)
        session.add(row)
        session.flush()
        return Ticket(row.id, row.created_at)
    if row.fingerprint != fingerprint:
        raise InputError(
            "this Idempotency-Key was used with another request", code="idempotency_mismatch", hint="make a new key for a new request"
        )
    if row.status is not None:
        return Replay(row.status, row.body or {}, row.location)
    if row.created_at > moment - TAKEOVER_SECONDS:
        raise ConflictError("the first request with this Idempotency-Key is still being answered", code="idempotency_in_progress")
    row.created_at = moment
    session.flush()
    return Ticket(row.id, row.created_at, row.location)


def _held(ticket: Ticket) -> tuple[Any, ...]:
    return Idempotency.id == ticket.id, Idempotency.created_at == ticket.token, Idempotency.status.is_(None)
