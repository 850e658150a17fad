"""Cache the summaries of calls that have not been answered yet, so that a repeat of such a call pays for no second one.

The cache is in one process's memory: a context is written nowhere that its turn is not.
"""

import time
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from app.wire.json_body import Json

SummaryKey: TypeAlias = tuple[str, bytes]
"""The project, and the digest of what the model was asked: a summary fits what it was made of, and nothing else."""

_MOST = 128
_MOST_OF_A_PROJECT = 8
# Longer summaries are not cached: so all of them together hold 8 MiB at most.
_LONGEST = 65_536
# Background runs wait longer, but try again before.
_KEPT_SECONDS = 3600.0


class Summary(NamedTuple):
    """Hold the text that a model has written, and the usage as upstream stated it."""

    text: str
    usage: Json


class Summaries:
    """Cache summaries that were paid for. Each project has room for its latest few, and evicts no other's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # The summary that was used last is at the end.
        self._kept: dict[SummaryKey, tuple[float, Summary]] = {}

    def find(self, key: SummaryKey) -> Summary | None:
        """Return the summary of this key, if it is here, and keep it for another hour."""
        self._expire()
        kept = self._kept.pop(key, None)
        if kept is None:
            return None
        self._kept[key] = (self._clock(), kept[1])
        return kept[1]

    def keep(self, key: SummaryKey, summary: Summary) -> None:
        """Keep it for an hour, or until the call that it was made for is answered."""
        self._expire()
        self._kept.pop(key, None)
        if len(summary.text.encode()) > _LONGEST:
            return
        own = [other for other in self._kept if other[0] == key[0]]
        if len(own) >= _MOST_OF_A_PROJECT:
            del self._kept[own[0]]
        elif len(self._kept) >= _MOST:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = (self._clock(), summary)

    def drop(self, key: SummaryKey) -> None:
        """Forget the summary: the call that it was made for is answered."""
        self._kept.pop(key, None)

    def _expire(self) -> None:
        oldest = self._clock() - _KEPT_SECONDS
        for key in [key for key, (used, _) in self._kept.items() if used < oldest]:
            del self._kept[key]
