"""Count calls and tokens of one key against its caps, the limits that the operator sets in this process."""

import math
from collections import deque

from app.settings.upstreams import KeySettings

_MINUTE = 60.0


class Caps:
    """Count against the caps of one key. Times are monotonic seconds. Tokens count when they were spent, as a debt."""

    def __init__(self, key: KeySettings) -> None:
        self._concurrency = math.inf if key.concurrency is None else key.concurrency
        self._begun: deque[float] | None = None
        if key.requests_per_minute is not None:
            self._begun = deque(maxlen=key.requests_per_minute)
        self._rate = None if key.tokens_per_minute is None else key.tokens_per_minute / _MINUTE
        # When the debt of all spent tokens is paid, at the rate of the cap.
        self._paid_at = -math.inf

    def free_at(self, in_flight: int) -> float:
        """Return when one more call may begin: in the past if it may now; infinity if one in flight has to end."""
        if in_flight >= self._concurrency:
            return math.inf
        at = -math.inf
        if self._begun is not None and len(self._begun) == self._begun.maxlen:
            at = self._begun[0] + _MINUTE
        if self._rate is not None:
            at = max(at, self._paid_at - _MINUTE)
        return at

    def began(self, now: float) -> None:
        """Count a call."""
        if self._begun is not None:
            self._begun.append(now)

    def spent(self, tokens: int, now: float) -> None:
        """Count the tokens that a call used."""
        if self._rate is not None:
            self._paid_at = max(self._paid_at, now) + tokens / self._rate
