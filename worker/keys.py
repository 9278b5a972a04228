"""API keys: made, listed, revoked, and found by the hash of what a caller shows. The text is shown once and kept nowhere."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError, ProgrammingError

from models.errors import ConfigError
from worker.audit import note
from worker.database import Key, db_now, get_engine, new_id, now, read, write
from worker.errors import NotFoundError
from worker.owners import NO_OWNER, View
from worker.pages import rfc3339

Scope = Literal["read", "write", "admin"]
"""What a key allows, each more than the one before: to look and predict; to make, change and delete what is its owner's; everything."""
_PREFIX = "syn_"  # so that a key that was published by accident is known for what it is
_RANDOM_BYTES = 32


@dataclass(frozen=True)
class Caller:
    """Who a request comes from."""

    key_id: str
    scope: Scope
    view: View

    @classmethod
    def of(cls, key_id: str, scope: Scope, owner: str = NO_OWNER) -> "Caller":
        """Return the caller that holds a key: administrators see what is anybody's."""
        return cls(key_id, scope, View(owner, scope == "admin"))


@dataclass(frozen=True)
class Found:
    """What the database has of keys that let somebody in."""

    callers: dict[bytes, Caller]
    """by sha256 of the key"""
    any_ever: bool
    """a key was made once, even if all are revoked by now: a service that was closed does not open by itself"""


def create_key(scope: str, *, name: str | None = None, owner: str = NO_OWNER) -> tuple[str, dict[str, Any]]:
    """Make a key; return its text, which can't be had again, and the key as JSON. Raises ConfigError for what no key can have."""
    if scope not in get_args(Scope):
        raise ConfigError(f"there is no scope {scope[:50]!r}", param="scope", hint=f"one of {', '.join(get_args(Scope))}")
    _require_line("name", name or "", 200)
    _require_line("owner", owner, 100)
    text = _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    with write() as session:
        key = Key(id=new_id("key"), name=name, scope=scope, owner=owner, sha256=hash_of(text.encode()).hex(), created_at=now(session))
        session.add(key)
        session.flush()
        note(session, key.id)
        return text, _as_json(key)


def list_keys() -> list[dict[str, Any]]:
    """Return all keys, newest first, revoked ones too."""
    with read() as session:
        return [_as_json(key) for key in session.scalars(select(Key).order_by(Key.id.desc()))]


def revoke_key(key_id: str) -> dict[str, Any]:
    """Let a key open nothing any more; one that is revoked stays so. Raises NotFoundError."""
    with write() as session:
        key = session.get(Key, key_id, with_for_update=True)
        if key is None:
            raise NotFoundError(f"there is no key {key_id[:80]!r}", code="key_not_found", hint="`synesthesia keys list` shows them")
        if key.revoked_at is None:
            key.revoked_at = now(session)
            note(session, key_id)
        return _as_json(key)


def hash_of(text: bytes) -> bytes:
    """Return what is kept of a key. It has 256 random bits, so a slow hash, which is to protect weak ones, would protect nothing."""
    return hashlib.sha256(text).digest()


def find_key(digest: bytes) -> Caller | None:
    """Return who holds the key of this hash, None for an unknown or revoked one: one indexed read."""
    with read() as session:
        key = session.scalar(select(Key).where(Key.sha256 == digest.hex(), Key.revoked_at.is_(None)))
    return _caller(key) if key is not None and hmac.compare_digest(bytes.fromhex(key.sha256), digest) else None


def load_keys() -> Found:
    """Return every key that lets somebody in."""
    with read() as session:
        rows = session.scalars(select(Key).where(Key.revoked_at.is_(None))).all()
        ever = bool(rows) or session.scalar(select(Key.id).limit(1)) is not None
    return Found({bytes.fromhex(key.sha256): _caller(key) for key in rows}, ever)


def has_key() -> bool:
    """Whether a key of the database lets somebody in. False where there is no database yet; it is not made by asking."""
    path = get_engine().url.database
    if get_engine().dialect.name == "sqlite" and not _is_file(path):
        return False
    try:
        return bool(load_keys().callers)
    except (OperationalError, ProgrammingError):  # its schema is older than keys, or it does not answer, and then nothing will work
        return False


def mark_used(key_ids: Iterable[str]) -> None:
    """Write that keys have been used a moment ago."""
    with write() as session:
        session.execute(update(Key).where(Key.id.in_(list(key_ids))).values(last_used_at=db_now()))


def _require_line(field: str, value: str, most: int) -> None:
    if len(value) > most or not value.isprintable() or value != value.strip():
        raise ConfigError(f"{field} is one line of at most {most} characters, without blanks around it", param=field)


def _is_file(path: str | None) -> bool:
    return path is not None and Path(path).is_file()


def _caller(key: Key) -> Caller:
    return Caller.of(key.id, cast("Scope", key.scope), key.owner)  # the column holds nothing else


def _as_json(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "object": "key",
        "name": key.name,
        "scope": key.scope,
        "owner": key.owner or None,
        **{moment: rfc3339(getattr(key, moment)) for moment in ("created_at", "last_used_at", "revoked_at")},
    }
