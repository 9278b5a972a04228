"""Who may come in, decided from method, address and headers alone: key, scope, how often. Nothing here waits but `learn`."""

import asyncio
import contextlib
import functools
import hmac
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from starlette.types import Scope

from app.errors import ForbiddenError, ScopeError, UnauthorizedError
from app.keyring import KeyRing
from app.rates import Rates
from app.scopes import allows, needed_scope
from worker.audit import Origin, done_by
from worker.errors import DependencyError, QuotaError
from worker.keys import Caller, hash_of
from worker.owners import View, seen_by
from worker.settings import Settings

PROBES = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
OPEN_PATHS = PROBES | {"/", "/version", "/docs", "/openapi.json"}  # no key asked: liveness, and the public contract
OPEN_FOLDER = "/static/"  # nor for the people's page, which asks its reader for the key
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

OPEN = Caller.of("open", "admin")  # everybody, where no key is asked for
STRANGER = Caller("none", "read", View(sees_all=False))  # who asks for an open path of a closed service
OPERATOR = Caller.of("settings", "admin")  # holds the key of the settings

Headers = list[tuple[bytes, bytes]]


class Admission:
    """The rules of one process."""

    def __init__(self, settings: Settings, ring: KeyRing | None) -> None:
        """Of the settings' key only its hash is kept. Without a `ring` there are no others."""
        self._ring = ring
        self._auto = settings.auth == "auto"
        self._closed = settings.auth == "keys" or (self._auto and (settings.api_key is not None or not settings.loopback))
        self._open = settings.auth == "off"
        key = settings.api_key.get_secret_value() if settings.api_key else ""
        self._key_hash = hash_of(key.encode()) if key else b""
        self._failures = Rates(settings.auth_failures_a_minute / 60, settings.auth_failures_a_minute)
        a_second = settings.owner_predictions_a_second
        # The kernel deals connections out to the processes; each of them grants its share.
        self._predictions = Rates(a_second / settings.api_processes, 2 * a_second / settings.api_processes) if a_second else None

    @property
    def closed(self) -> bool:
        """Whether callers must show a key; under `auto` from the first key on that was ever made."""
        return self._closed or (self._auto and self._ring is not None and self._ring.any_ever)

    def admit(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Let a request in and say in `scope["caller"]` who calls.

        Raises UnauthorizedError, ForbiddenError, QuotaError, and DependencyError while the keys have not been read.
        """
        path: str = scope["path"]
        known = self._open or self._ring is None or self._ring.known
        if known and not self.closed:
            scope["caller"] = OPEN
            _refuse_foreign_pages(headers)
            return
        if path in OPEN_PATHS or path.startswith(OPEN_FOLDER):
            scope["caller"] = STRANGER
            return
        if not known:
            raise DependencyError("the keys have not been read yet", retry_after=1)
        scope["caller"] = caller = self._caller(scope["headers"])
        method: str = scope.get("method", "WEBSOCKET")
        needed = needed_scope(method, path)
        if not allows(caller.scope, needed):
            raise ScopeError(f"the key has the scope {caller.scope}; this needs {needed}")
        if self._predictions is not None and needed == "read" and method == "POST" and not caller.view.sees_all:
            _refuse_haste(self._predictions.take(caller.view.owner))

    async def learn(self, scope: Scope, error: Exception) -> bool:
        """Ask the database after a request was refused for what may not be known yet; say whether more is known now.

        Raises QuotaError (too_many_failures) where too many wrong keys came from the address. A right key is let in all the same: many
        callers may share an address behind a proxy, and a key of 256 bits is not found by trying.
        """
        if self._ring is not None and not self._ring.known:
            await asyncio.to_thread(self._ring.load)
            return True
        key = _key_of(scope["headers"])
        if not isinstance(error, UnauthorizedError) or not key:  # who shows none does not guess
            return False
        address = _address_of(scope)
        _refuse_guessing(self._failures.wait(address))
        if self._ring is not None and await asyncio.to_thread(self._ring.look_up, hash_of(key)):
            return True
        _refuse_guessing(self._failures.take(address))
        return False

    def _caller(self, headers: Headers) -> Caller:
        key = _key_of(headers)
        if key is not None:
            digest = hash_of(key)
            # Hashes are compared, so that the time taken tells neither length nor common start.
            if hmac.compare_digest(digest, self._key_hash):
                return OPERATOR
            known = self._ring.find(digest) if self._ring is not None else None
            if known is not None:
                return known
        given = any(name == b"authorization" for name, _ in headers)
        raise UnauthorizedError(
            "the key of the request is not known here" if given else "the request has no key",
            hint="send the header Authorization: Bearer <key>",
        )


def origin_of(scope: Scope) -> Origin:
    """Return who asks for what, for the audit log."""
    caller: Caller = scope["caller"]
    return Origin(caller.key_id, scope["request_id"], f"{scope.get('method', 'WEBSOCKET')} {scope['path']}")


@contextlib.contextmanager
def acting(scope: Scope) -> Iterator[None]:
    """Let what is done until the block ends be done for the caller of a request that was let in, and see what that one may see."""
    caller: Caller = scope["caller"]
    with seen_by(caller.view), done_by(origin_of(scope)):
        yield


def _key_of(headers: Headers) -> bytes | None:
    """Return the key that a request shows, None where it shows none, or several."""
    given = [value for name, value in headers if name == b"authorization"]
    scheme, _, key = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
    return key.strip() if scheme.lower() == b"bearer" else None


def _address_of(scope: Scope) -> str:
    client: Any = scope.get("client")
    return str(client[0]) if client else ""


def _refuse_guessing(wait: int) -> None:
    if wait:
        raise QuotaError("too many wrong keys came from this address", code="too_many_failures", retry_after=wait)


def _refuse_haste(wait: int) -> None:
    if wait:
        raise QuotaError("you ask for more predictions than one owner may", code="prediction_quota", retry_after=wait)


def _refuse_foreign_pages(headers: dict[bytes, bytes]) -> None:
    """Every page in a browser of this machine can call an open service: refuse those of other sites.

    Browsers name the page's site in Origin when they send something. A name that an attacker points at loopback to look
    like our own site (DNS rebinding) stands in Host; it has a dot, as nobody can own a name without one.
    """
    host = _host_name(b"//" + headers.get(b"host", b""))
    if "." in host and any(character.isalpha() for character in host):
        raise _foreign(host)
    origin = headers.get(b"origin")
    if origin is not None and _host_name(origin) not in LOOPBACK_NAMES | {host or "localhost"}:
        raise _foreign(origin.decode("latin-1"))


@functools.lru_cache(maxsize=256)
def _host_name(url: bytes) -> str:
    try:
        return urlsplit(url.decode("latin-1")).hostname or ""
    except ValueError:  # an unbalanced bracket
        return ""


def _foreign(site: str) -> ForbiddenError:
    return ForbiddenError(
        f"without a key the service answers pages of this machine only, not of {site[:100]!r}",
        code="origin_not_allowed", hint="make a key with `synesthesia keys create` to be reached under other names",
    )  # fmt: skip
