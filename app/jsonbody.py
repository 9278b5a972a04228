"""Bytes of a request → a validated description. Stricter than json and pydantic alone, and never a 500.

Refused as `malformed_json`: bytes that are not UTF-8, a byte order mark, NaN and infinities, lone surrogates, duplicate keys,
integers beyond 64 bits, floats that overflow, nesting beyond 32 levels. Refused as `validation_error`: what the model does not take.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NoReturn, TypeVar

import pydantic
from pydantic import BaseModel
from starlette.requests import Request

from app.errors import BodyTooLargeError, MalformedError, UnsupportedTypeError, ValidationError

JSON_TYPE = "application/json"
MAX_DEPTH = 32
MAX_INTEGER_DIGITS = 19  # of 2**63 - 1; also bounds the quadratic conversion of long digit strings
_HINT = "RFC 8259 says what JSON is"

M = TypeVar("M", bound=BaseModel)


def json_body(model: type[M]) -> Callable[[Request], Awaitable[M]]:
    """Return a dependency that reads the body as `model`."""

    async def read(request: Request) -> M:
        if not is_json(request):
            raise UnsupportedTypeError(
                f"the body is {_media_type(request) or 'of no declared type'}, application/json is taken here",
                hint="send Content-Type: application/json",
            )
        return validated(model, await request.body())

    return read


def is_json(request: Request) -> bool:
    """Return whether the body is declared to be JSON."""
    media_type = _media_type(request)
    return media_type == JSON_TYPE or media_type.endswith("+json")


async def small_body(request: Request, limit: int) -> bytes:
    """Return the body of a request whose address takes larger ones too. Raises BodyTooLargeError above `limit` bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise BodyTooLargeError(f"as JSON the body may have {limit} bytes", hint="GET /limits lists all limits")
    return bytes(body)


def validated(model: type[M], body: bytes) -> M:
    """Return `body` as `model`. Raises MalformedError, ValidationError."""
    document = parse(body)
    try:
        # From the bytes: strict mode knows that JSON has no tuples; what pydantic's parser is lax about has been refused.
        return model.model_validate_json(body)
    except pydantic.ValidationError as error:
        raise ValidationError(_pointed(error, document)) from None


def validated_fields(model: type[M], fields: dict[str, str]) -> M:
    """Return form fields or query parameters as `model`. Raises ValidationError."""
    try:
        return model.model_validate(fields)
    except pydantic.ValidationError as error:
        raise ValidationError(_pointed(error, fields)) from None


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def parse(body: bytes) -> Any:
    """Return the JSON document in `body`. Raises MalformedError."""
    if not body:
        raise MalformedError("the body is empty, JSON was expected")
    try:
        document = json.loads(
            body.decode("utf-8"), parse_constant=_refuse_constant, parse_int=_integer, parse_float=_float, object_pairs_hook=_unique
        )
    except UnicodeDecodeError as error:
        raise MalformedError(f"the body is not UTF-8 at byte {error.start}", hint=_HINT) from None
    except json.JSONDecodeError as error:
        raise MalformedError(f"line {error.lineno}, column {error.colno}: {error.msg}", hint=_HINT) from None
    except RecursionError:
        raise _too_deep() from None
    _check_tree(document)
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedError(f"{name} is not a JSON number", hint=_HINT)


def _integer(digits: str) -> int:
    number = int(digits) if len(digits) <= MAX_INTEGER_DIGITS + 1 else 2**63
    if not -(2**63) <= number < 2**63:
        raise MalformedError(f"the integer {digits[:25]} is beyond 64 bits")
    return number


def _float(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise MalformedError(f"the number {digits[:25]} is beyond what a double holds")
    return number


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise MalformedError(f"the key {twice[:100]!r} stands twice in one object")
    return found


def _check_tree(document: Any) -> None:
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH + 1):
        for value in _strings(level):
            _check_text(value)
        level = [child for value in level for child in _children(value)]
        if not level:
            return
    raise _too_deep()


def _strings(level: Iterable[Any]) -> Iterable[str]:
    for value in level:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from value


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _check_text(value: str) -> None:
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise MalformedError("a string holds half of a surrogate pair", hint=_HINT)


def _too_deep() -> MalformedError:
    return MalformedError(f"the body is nested more than {MAX_DEPTH} levels deep")


def _pointed(error: pydantic.ValidationError, document: Any) -> list[dict[str, str]]:
    """Return pydantic's errors as JSON pointers into `document`; the alternatives of one field become one entry."""
    found: dict[str, list[str]] = {}
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        details = found.setdefault(_pointer(item["loc"], document, item["type"]), [])
        detail = _plain(item["msg"])
        if detail not in details:
            details.append(detail)
    return [{"pointer": pointer, "detail": "; or ".join(details)} for pointer, details in found.items()]


def _pointer(location: Sequence[str | int], document: Any, kind: str) -> str:
    """Follow `location` through the document: what is not there is a union's tag, except the name of a missing field."""
    parts: list[str] = []
    here = document
    for step in location:
        if isinstance(here, dict) and step in here:
            here = here[str(step)]
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            here = here[step]
        elif kind != "missing" or step is not location[-1]:
            continue
        parts.append(str(step).replace("~", "~0").replace("/", "~1"))
    return "".join(f"/{part}" for part in parts)


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")
