"""Which scope a request needs, told from method and address alone, before a byte of its body is read.

read    to look at things, and to predict: what devices and dashboards do
write   to make, change and delete what is the key's owner's
admin   the audit log; such a key also sees what is anybody's
"""

import functools
import re

from worker.keys import Scope

_RANK: dict[Scope, int] = {"read": 0, "write": 1, "admin": 2}
_LOOKING = frozenset({"GET", "HEAD", "OPTIONS", "WEBSOCKET"})
_ANY = frozenset[str]()
# The first line that fits decides; what fits none changes something.
_TABLE: tuple[tuple[frozenset[str], re.Pattern[str], Scope], ...] = (
    (_ANY, re.compile(r"/audit"), "admin"),
    (_LOOKING, re.compile(r".*", re.DOTALL), "read"),
    (frozenset({"POST"}), re.compile(r"/predict|/predict/batch|/embeddings|/spectrograms|/explanations|/v2/models/.+/infer"), "read"),
)


@functools.lru_cache(maxsize=1024)
def needed_scope(method: str, path: str) -> Scope:
    """Return the least scope that a request needs."""
    fits = (scope for methods, pattern, scope in _TABLE if method in (methods or (method,)) and pattern.fullmatch(path))
    return next(fits, "write")


def allows(held: Scope, needed: Scope) -> bool:
    """Whether a key of scope `held` may do what needs `needed`."""
    return _RANK[held] >= _RANK[needed]


def changes(method: str, path: str) -> bool:
    """Whether a request is one that changes something."""
    return method not in _LOOKING and needed_scope(method, path) != "read"
