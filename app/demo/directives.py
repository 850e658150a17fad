"""Parse the directives in brackets in the last user text, such as `[words:20] [slow]`."""

import re
from dataclasses import dataclass

_SLOW = re.compile(r"\[slow(?::(\d{1,6}))?\]")
_WORDS = re.compile(r"\[words:(\d{1,6})\]")

_DEFAULT_DELAY_MS = 50
_MAX_DELAY_MS = 5000
_MAX_WORDS = 5000


@dataclass(frozen=True, slots=True)
class Directives:
    """Hold the directives of a text: `delay_ms` before each delta, `words` None if no length was asked for."""

    delay_ms: int
    words: int | None
    incomplete: bool
    fail: bool


def read_directives(text: str) -> Directives:
    """Parse the directives in a text; numbers are clamped to their bounds."""
    slow = _SLOW.search(text)
    count = _WORDS.search(text)
    return Directives(
        delay_ms=min(int(slow[1] or _DEFAULT_DELAY_MS), _MAX_DELAY_MS) if slow else 0,
        words=min(max(int(count[1]), 1), _MAX_WORDS) if count else None,
        incomplete="[incomplete]" in text,
        fail="[fail]" in text,
    )
