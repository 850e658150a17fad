"""What a tester orders in brackets inside the last user text, e.g. `[words:20] [slow]`."""

import re
from dataclasses import dataclass

_SLOW = re.compile(r"\[slow(?::(\d{1,6}))?\]")
_WORDS = re.compile(r"\[words:(\d{1,6})\]")

_DEFAULT_DELAY_MS = 50
_MAX_DELAY_MS = 5000
_MAX_WORDS = 5000


@dataclass(frozen=True, slots=True)
class Directives:
    """`delay_ms` is the pause before each delta; `words` None means that the answer's length is not ordered."""

    delay_ms: int
    words: int | None
    incomplete: bool
    fail: bool


def read_directives(text: str) -> Directives:
    """The directives in a text; numbers beyond a bound count as the bound."""
    slow = _SLOW.search(text)
    count = _WORDS.search(text)
    return Directives(
        delay_ms=min(int(slow[1] or _DEFAULT_DELAY_MS), _MAX_DELAY_MS) if slow else 0,
        words=min(max(int(count[1]), 1), _MAX_WORDS) if count else None,
        incomplete="[incomplete]" in text,
        fail="[fail]" in text,
    )
