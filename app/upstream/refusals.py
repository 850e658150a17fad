"""Remember which models refuse to be asked for encrypted reasoning, so that no call pays for finding it out again."""

import re
from collections.abc import Callable

from app.errors import UpstreamRefusedError
from app.state.health import Condition, Recovery

# A model may be taught it meanwhile: it is asked again once a day, at the cost of one refusal.
_REMEMBERED_SECONDS = 86_400.0
_MOST_REMEMBERED = 1024
# A name of a client's choosing is remembered while it is short.
_LONGEST_MODEL = 256
_STATUSES = frozenset({400, 422})
# What such a refusal speaks of, if of anything: servers of many makes say it, each in its own words.
_WORDS = re.compile(rb"\binclude\b|encrypted|no usable error", re.IGNORECASE)


class Refusals:
    """What this process found out, and what others did. `on_change` is told of the former. `clock` is monotonic.

    Invariant: what is remembered was confirmed: the same call was answered once it asked for nothing more.
    """

    def __init__(self, clock: Callable[[], float], on_change: Callable[[Condition | Recovery], None]) -> None:
        self._clock = clock
        self._on_change = on_change
        # By upstream and model, until when.
        self._known: dict[tuple[str, str], float] = {}

    def has(self, upstream: str, model: str) -> bool:
        """Whether this upstream's model refuses."""
        until = self._known.get((upstream, model))
        return until is not None and until > self._clock()

    def add(self, upstream: str, model: str) -> None:
        """Remember that it does, here and in the other processes."""
        if len(model) <= _LONGEST_MODEL:
            found = Condition(upstream, model, "no_reasoning", _REMEMBERED_SECONDS, 0, "include refused")
            self.hear(found)
            self._on_change(found)

    def hear(self, change: Condition | Recovery) -> None:
        """Take what another process found, if it is of this kind."""
        if isinstance(change, Condition) and change.state == "no_reasoning":
            while len(self._known) >= _MOST_REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[change.account, change.model] = self._clock() + change.rest


def may_be_about_reasoning(refusal: UpstreamRefusedError) -> bool:
    """Whether upstream may have refused a call for asking for encrypted reasoning."""
    return refusal.status in _STATUSES and _WORDS.search(refusal.body()) is not None
