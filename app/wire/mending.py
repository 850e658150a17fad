"""Mend JSON that strict decoders refuse: half a surrogate pair, or bytes that are no UTF-8, become U+FFFD.

A model that is cut off within an emoji leaves half a pair behind. The rest of its answer is good.
"""

import re

_LONE = 6
# Each escape is taken whole, so that a backslash that is itself escaped begins none; a pair is two halves in order.
_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL
)


def mended(raw: bytes) -> bytes:
    """The same text with U+FFFD in the place of each; the very same bytes where there is none."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        raw = raw.decode(errors="replace").encode()
    return _ESCAPES.sub(_mend, raw)


def _mend(escape: re.Match[bytes]) -> bytes:
    found = escape.group()
    return rb"\ufffd" if len(found) == _LONE else found
