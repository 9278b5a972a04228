"""How often somebody may do something: a bucket of tokens each, that fills at a steady rate. In one process, in memory."""

import collections
import math
import time
from collections.abc import Hashable

_MOST_BUCKETS = 10_000  # a stranger with many addresses is not to fill the memory; the longest unused is forgotten


class Rates:
    """Buckets by whose they are."""

    def __init__(self, a_second: float, burst: float) -> None:
        """Each bucket holds `burst` tokens, at least one, at its fullest, and begins so."""
        self._rate = a_second
        self._burst = max(1.0, burst)
        self._buckets: collections.OrderedDict[Hashable, tuple[float, float]] = collections.OrderedDict()  # tokens, and at which moment

    def wait(self, whose: Hashable) -> int:
        """Return how many seconds it takes until there is a token, 0 where there is one. Takes none."""
        return self._wait_for(self._tokens(whose, time.monotonic()))

    def take(self, whose: Hashable) -> int:
        """Take a token and return 0; where there is none, return how many seconds it takes until there is one."""
        moment = time.monotonic()
        tokens = self._tokens(whose, moment)
        wait = self._wait_for(tokens)
        self._buckets[whose] = (tokens if wait else tokens - 1.0, moment)
        self._buckets.move_to_end(whose)
        if len(self._buckets) > _MOST_BUCKETS:
            self._buckets.popitem(last=False)
        return wait

    def _tokens(self, whose: Hashable, moment: float) -> float:
        tokens, since = self._buckets.get(whose, (self._burst, moment))
        return min(self._burst, tokens + (moment - since) * self._rate)

    def _wait_for(self, tokens: float) -> int:
        return 0 if tokens >= 1.0 else max(1, math.ceil((1.0 - tokens) / self._rate))
