"""Who changed what: a row for each change, in the transaction that makes it, and one for each that was not allowed.

Rows are only ever added. A change that is undone by a failure leaves none, as its transaction leaves nothing.
"""

from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from models.errors import ConfigError
from worker.bound import bound
from worker.database import Audit, now, read, write
from worker.pages import Page, rfc3339

Outcome = Literal["done", "refused"]
_PREFIX = "aud_"
_MOST_CHARACTERS = 200  # of an action, which holds an address that a stranger may have chosen
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Origin:
    """Where a change comes from."""

    key_id: str
    """of the key that was shown; `open` where none is asked for, `cli` on the command line of the machine itself"""
    request_id: str
    action: str
    """method and address, or the command"""


_origin: ContextVar[Origin | None] = ContextVar("origin", default=None)


def done_by(origin: Origin) -> AbstractContextManager[None]:
    """Let the changes that are made until the block ends be those of `origin`; threads that are started meanwhile know it too."""
    return bound(_origin, origin)


def note(session: Session, object_id: str) -> None:
    """Add that something was changed to the caller's transaction. What no person asked for, as a worker's deeds, is not noted."""
    origin = _origin.get()
    if origin is not None:
        _add(session, origin, object_id, "done")


def note_refusal(origin: Origin) -> None:
    """Write that a change was not allowed."""
    with write() as session:
        _add(session, origin, None, "refused")


def list_audit(*, limit: int = 20, after: str | None = None, key_id: str | None = None) -> Page:
    """Return what was changed, newest first; `after` is the last id of the page before. Raises ConfigError for an id of another form."""
    query = select(Audit).order_by(Audit.id.desc()).limit(limit + 1)
    query = query.where(Audit.id < _number_of(after)) if after is not None else query
    query = query.where(Audit.key_id == key_id) if key_id is not None else query
    with read() as session:
        rows = session.scalars(query).all()
    return Page([_as_json(row) for row in rows[:limit]], len(rows) > limit)


def _add(session: Session, origin: Origin, object_id: str | None, outcome: Outcome) -> None:
    action = origin.action[:_MOST_CHARACTERS]
    session.add(
        Audit(
            created_at=now(session), key_id=origin.key_id, request_id=origin.request_id, action=action, object_id=object_id, outcome=outcome
        )
    )

    def tell(_: Session) -> None:
        log.info("audit", key=origin.key_id, action=action, object=object_id, outcome=outcome)

    if origin.request_id:  # a command has no log, and its standard output is for its own words
        event.listen(session, "after_commit", tell, once=True)


def _number_of(audit_id: str) -> int:
    digits = audit_id.removeprefix(_PREFIX)
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise ConfigError(f"{audit_id[:50]!r} is no id of the audit log", param="after")
    return int(digits)


def _as_json(row: Audit) -> dict[str, Any]:
    return {
        "id": f"{_PREFIX}{row.id:012d}",
        "object": "audit",
        "created_at": rfc3339(row.created_at),
        "key": row.key_id,
        "request_id": row.request_id,
        "action": row.action,
        "object_id": row.object_id,
        "outcome": row.outcome,
    }
