"""Answers as they leave the routes: JSON, lists, problems in the documentation, and POSTs that are answered once per key."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import Request
from starlette.responses import JSONResponse

from app.dependencies import caller_of
from app.errors import PROBLEM_TYPE
from worker import idempotency

_ALWAYS = (401, 403, 429, 500)  # may answer every request that needs a key
_encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode  # json.dumps would make one each time
_PROBLEM_CONTENT = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}


class Answer(JSONResponse):
    """JSON in which a number that JSON does not have is null: a metric that was never measured is no reason for a 500."""

    def render(self, content: Any) -> bytes:
        """Return `content` as UTF-8."""
        return json_bytes(content)


def json_bytes(content: Any) -> bytes:
    """Return JSON as UTF-8, in which a number that JSON does not have is null."""
    try:
        return _encode(content).encode()
    except ValueError:
        return _encode(_finite(content)).encode()


@dataclass(frozen=True)
class Made:
    """What a POST made."""

    status: int
    body: dict[str, Any]
    location: str

    def answer(self, *, replayed: bool = False) -> Answer:
        """Return it as an answer with its address."""
        headers = {"Location": self.location} | ({"Idempotent-Replayed": "true"} if replayed else {})
        return Answer(self.body, self.status, headers)


@dataclass(frozen=True)
class Kind:
    """What a POST makes: the status that says so, the address of all of them, and how one is found by its id."""

    status: int
    address: str
    find: Callable[[str], dict[str, Any]]

    def made(self, body: dict[str, Any]) -> Made:
        """Return that one was made, of which `body` tells."""
        return Made(self.status, body, f"{self.address}/{body['id']}")


def answer_once(request: Request, key: str | None, fingerprint: str, kind: Kind, make: Callable[[], dict[str, Any]]) -> Answer:
    """Answer with what `make` makes; a repeated `key` gets the first answer again. Blocks: call it in a thread.

    What an earlier request with the key made, and died before it could say so, is found and not made again.

    Raises ConflictError (still in progress), InputError (the key stood with another fingerprint), and what `make` raises.
    """
    if key is None:
        return kind.made(make()).answer()
    outcome = idempotency.begin(f"{caller_of(request)}:{request.scope['route'].name}", key, fingerprint)
    if isinstance(outcome, idempotency.Replay):
        return Made(outcome.status, outcome.body, outcome.location or "").answer(replayed=True)
    made: Made | None = None
    try:
        with idempotency.answering(outcome):
            made = kind.made(make() if outcome.made is None else kind.find(outcome.made))
    finally:
        if made is None:
            idempotency.abandon(outcome)
    idempotency.finish(outcome, status=made.status, body=made.body, location=made.location)
    return made.answer()


def fingerprint_of(*parts: str) -> str:
    """Return a sha256 over `parts`, which are told apart from each other."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def listing(rows: Sequence[dict[str, Any]], *, has_more: bool = False, key: str = "id") -> Answer:
    """Return one page of a list."""
    ids = [row.get(key) for row in rows]
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    return Answer({"object": "list", "data": rows, "first_id": first, "last_id": last, "has_more": has_more})


def deleted(kind: str, name: str) -> Answer:
    """Return the answer to a DELETE that was carried out."""
    return Answer({"id": name, "object": kind, "deleted": True})


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI responses for the problems that a route may answer with."""
    return {status: {"description": HTTPStatus(status).phrase, "content": _PROBLEM_CONTENT} for status in (*statuses, *_ALWAYS)}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
