"""Keep the summaries of calls that have not been answered yet, so that a repeat of such a call pays for no second one.

They are in the memory of one process alone: a context is written nowhere that its turn is not.
"""

import time
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from app.wire.body import Json

SummaryKey: TypeAlias = tuple[str, bytes]
"""The project, and the digest of what the model was asked: a summary fits what it was made of, and nothing else."""

_MOST = 128
_MOST_OF_A_PROJECT = 8
# Others are made anew: so all of them together hold 8 MiB at most.
_LONGEST = 65_536
# Runs in the background wait longer, but are looked at again before.
_KEPT_SECONDS = 3600.0


class Summary(NamedTuple):
    """What a model has written, and the usage as upstream told it."""

    text: str
    usage: Json


class Summaries:
    """Summaries that were paid for. Of one project only the latest few are kept: no other's are forgotten for them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # What was used last is at the end.
        self._kept: dict[SummaryKey, tuple[float, Summary]] = {}

    def find(self, key: SummaryKey) -> Summary | None:
        """The summary of this, if it is here; it is kept for another hour then."""
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
        """Forget it: what it was made for is answered, and stands for the context from there on."""
        self._kept.pop(key, None)

    def _expire(self) -> None:
        oldest = self._clock() - _KEPT_SECONDS
        for key in [key for key, (used, _) in self._kept.items() if used < oldest]:
            del self._kept[key]
