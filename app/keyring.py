"""The database's keys as one API process knows them: read each second, so that no request waits for a query.

A key that was made a moment ago is looked up by its first request; one that was revoked opens nothing after REFRESH_SECONDS, and the
query, at most. While the database does not answer, what is known goes on to count: nobody can revoke a key then.
"""

import threading

import structlog
from sqlalchemy.exc import SQLAlchemyError

from worker.keys import Caller, find_key, load_keys, mark_used

REFRESH_SECONDS = 1.0
_TELL_EVERY = 60  # refreshes between two writes of what was used: the time of the last use is shown to the minute

log = structlog.get_logger(__name__)


class KeyRing:
    """Safe in threads: what requests read is replaced as a whole."""

    def __init__(self) -> None:
        """Nothing is known yet; `load` or `start` changes that."""
        self._callers: dict[bytes, Caller] = {}
        self._used: set[str] = set()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.known = False
        """the keys have been read"""
        self.any_ever = False
        """a key has been made some time"""

    def find(self, digest: bytes) -> Caller | None:
        """Return who holds the key of this hash, as far as is known. Never waits."""
        caller = self._callers.get(digest)
        if caller is not None:
            self._used.add(caller.key_id)
        return caller

    def load(self) -> None:
        """Read the keys. Blocks."""
        found = load_keys()
        self._callers, self.any_ever, self.known = found.callers, found.any_ever, True

    def look_up(self, digest: bytes) -> bool:
        """Ask the database for a key that is not known yet, and tell whether there is one. Blocks."""
        caller = find_key(digest)
        if caller is not None:
            self._callers = {**self._callers, digest: caller}
        return caller is not None

    def start(self) -> None:
        """Read the keys again each second, in a thread."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._keep, name="keys", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
            self._tell()

    def _keep(self) -> None:
        rounds = 0
        while not self._stop.wait(REFRESH_SECONDS):
            rounds += 1
            try:
                self.load()
            except SQLAlchemyError as error:
                log.warning("keys_not_read", error=str(error)[:200])
            if rounds % _TELL_EVERY == 0:
                self._tell()

    def _tell(self) -> None:
        used, self._used = self._used, set()
        try:
            if used:
                mark_used(used)
        except SQLAlchemyError as error:
            log.warning("key_use_not_written", error=str(error)[:200])
