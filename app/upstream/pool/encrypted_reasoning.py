"""Remember which models refuse to be asked for encrypted reasoning, so that no further call pays for the refusal."""

import re
from collections.abc import Callable

from app.errors import UpstreamRefusedError
from app.state.account_conditions import Condition, Recovery

# A model may learn it: it is asked again once a day, at the cost of one refusal.
_REMEMBERED_SECONDS = 86_400.0
_MOST_REMEMBERED = 1024
# Clients choose the names: long ones are not remembered.
_LONGEST_MODEL = 256
_STATUSES = frozenset({400, 422})
# The words that such a refusal may have; each server has its own.
_WORDS = re.compile(rb"\binclude\b|encrypted|no usable error", re.IGNORECASE)


class ReasoningRefusals:
    """Remember refusals of this process and of others. `on_change` is called with new ones. `clock` is monotonic.

    Invariant: each was confirmed, as the same call was answered once it asked for no encrypted reasoning.
    """

    def __init__(self, clock: Callable[[], float], on_change: Callable[[Condition | Recovery], None]) -> None:
        self._clock = clock
        self._on_change = on_change
        # The end of each refusal, by upstream and model.
        self._known: dict[tuple[str, str], float] = {}

    def has(self, upstream: str, model: str) -> bool:
        """Tell whether this upstream's model refuses."""
        until = self._known.get((upstream, model))
        return until is not None and until > self._clock()

    def add(self, upstream: str, model: str) -> None:
        """Remember that the model refuses, here and in the other processes."""
        if len(model) <= _LONGEST_MODEL:
            found = Condition(upstream, model, "no_reasoning", _REMEMBERED_SECONDS, 0, "include refused")
            self.apply(found)
            self._on_change(found)

    def apply(self, change: Condition | Recovery) -> None:
        """Remember a refusal that another process found; ignore other conditions."""
        if isinstance(change, Condition) and change.state == "no_reasoning":
            while len(self._known) >= _MOST_REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[change.account, change.model] = self._clock() + change.rest


def may_be_about_reasoning(refusal: UpstreamRefusedError) -> bool:
    """Tell whether upstream may have refused a call for asking for encrypted reasoning."""
    return refusal.status in _STATUSES and _WORDS.search(refusal.body()) is not None
