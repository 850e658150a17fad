"""A text cut into the words that are streamed and counted: one word is one delta and one token."""

import re

# A long run without spaces (compact JSON, base64) is cut too, so that it streams in several deltas.
_WORD = re.compile(r"\S{1,24}\s*|\s+")


def words(text: str) -> list[str]:
    """The pieces of `text`, in order; joined they give it back exactly."""
    return _WORD.findall(text)
