"""What a plain `POST /predict` is: the form that nearly all have, and that needs no framework to be read.

A raw sound, or a form with one file and nothing else, of a length that is told, with known parameters that stand once. Whatever is not
plain goes to the route, body and all, which answers it or says what is wrong with it; so nothing is judged in two places.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from app.hearing import Options

PATH = "/predict"
MAX_BYTES = 1024 * 1024  # of a plain body; the rest of a larger one should be read bit by bit, as the route does
_RAW = re.compile(rb"(?:audio/[\w.+-]+|application/octet-stream)", re.IGNORECASE)
_FORM = re.compile(rb"multipart/form-data; ?boundary=([\w'+-]{1,70})", re.IGNORECASE)
_PART = re.compile(
    rb'Content-Disposition: form-data; name="file"(?:; filename="[^"\r\n\\]{1,200}")?(?:\r\nContent-Type: [\w.+/-]+)?', re.IGNORECASE
)
_MODEL = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TOP_K = re.compile(r"[1-9][0-9]{0,2}")
_FLAGS = {"true": True, "false": False}
_LENGTH = re.compile(rb"[0-9]{1,7}")
# Headers that say something about the body, or ask for something, that only the route and the gate know how to take.
_SPECIAL = frozenset({b"transfer-encoding", b"content-encoding", b"expect", b"upgrade", b"trailer"})
_SINGLE = frozenset({b"content-type", b"content-length", b"x-request-id", b"host", b"origin", b"authorization"})


@dataclass(frozen=True)
class Plan:
    """What a plain request asks for."""

    model: str | None
    options: Options
    delimiter: bytes | None
    """stands before and behind the file of a form; None where the body is the file"""


def plain_headers(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes] | None:
    """Return the headers of a plain request by name, None where it is not plain: no length or a large one, or a header that is special."""
    found = dict(headers)
    if len(found) != len(headers):  # some name stands twice: no matter, unless it is one that counts
        names = [name for name, _ in headers]
        if any(names.count(name) > 1 for name in _SINGLE):
            return None
    length = found.get(b"content-length", b"")
    if not _SPECIAL.isdisjoint(found) or not _LENGTH.fullmatch(length) or int(length) > MAX_BYTES:
        return None
    return found


def plan_of(url: bytes, content_type: bytes) -> Plan | None:
    """Return what a plain request asks for; None where address or content type are not plain."""
    path, _, query = url.partition(b"?")
    return _plan(query, content_type) if path == PATH.encode() else None


@functools.lru_cache(maxsize=1024)
def _plan(query: bytes, content_type: bytes) -> Plan | None:
    form = _FORM.fullmatch(content_type)
    if form is None and _RAW.fullmatch(content_type) is None:
        return None
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        return None
    values = dict(pairs)
    if len(values) != len(pairs) or not values.keys() <= {"model", "top_k", "segments"}:
        return None
    model, top_k, segments = values.get("model"), values.get("top_k", "5"), values.get("segments", "false")
    if (model is not None and not _MODEL.fullmatch(model)) or not _TOP_K.fullmatch(top_k) or segments not in _FLAGS:
        return None
    return Plan(model, Options(int(top_k), _FLAGS[segments]), b"--" + form[1] if form else None)


def only_file(body: bytes, delimiter: bytes) -> bytes | None:
    """Return the file of a form that has one part, named `file`, with the usual headers (RFC 7578); None for any other form."""
    start = body.find(b"\r\n\r\n", len(delimiter), 1024)
    if start < 0 or not body.startswith(delimiter + b"\r\n") or not _PART.fullmatch(body, len(delimiter) + 2, start):
        return None
    end = body.find(b"\r\n" + delimiter, start + 4)
    if end < 0 or body[end + 2 + len(delimiter) :] not in (b"--\r\n", b"--"):
        return None
    return body[start + 4 : end]
