"""Repair JSON that strict decoders refuse: replace half a surrogate pair, or invalid UTF-8, by U+FFFD.

A model that is cut off within an emoji leaves half a pair behind. The rest of its answer is good.
"""

import re

_LONE = 6
# Each escape is matched whole, so that an escaped backslash begins none; a pair is two halves in order.
_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL
)


def repaired(raw: bytes) -> bytes:
    """Replace each fault by U+FFFD; return the very same bytes where there is none."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        raw = raw.decode(errors="replace").encode()
    return _ESCAPES.sub(_repair, raw)


def _repair(escape: re.Match[bytes]) -> bytes:
    found = escape.group()
    return rb"\ufffd" if len(found) == _LONE else found
