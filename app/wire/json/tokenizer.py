"""Read a JSON document token by token, and in slices of many values at once, which orjson decodes.

A slice is about 32 KB of elements or members, found by a regular expression at the speed of C.
"""

import re
from typing import Any

import orjson

from app.errors import AntiphonError

SLICE_BYTES = 32 * 1024
"""The largest value that is decoded whole, in less than a millisecond."""

_WHITE = rb"[ \t\n\r]*+"
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_SCALAR = rb'[^"\[\]{},: \t\n\r]++'
# The text between brackets: without containers, and with containers that hold none. orjson checks it closely.
_FLAT = rb'(?:[^"\[\]{}]++|%b)*+' % _STRING
_INNER = rb'(?:[^"\[\]{}]++|%b|\{%b\}|\[%b\])*+' % (_STRING, _FLAT, _FLAT)
_VALUE = rb"(?:%b|%b|\{%b\}|\[%b\])" % (_STRING, _SCALAR, _INNER, _INNER)
_LEVELS = 2


def _pattern(source: bytes) -> re.Pattern[bytes]:
    return re.compile(source, re.DOTALL)


# Each value with the comma behind it, so that a slice is whole, and another value has to follow.
ELEMENTS = _pattern(rb"(?:%b%b%b,)++" % (_WHITE, _VALUE, _WHITE))
MEMBERS = _pattern(rb"(?:%b%b%b:%b%b%b,)++" % (_WHITE, _STRING, _WHITE, _WHITE, _VALUE, _WHITE))
_SPACE, _NAME, _SCALARS = _pattern(_WHITE), _pattern(_STRING), _pattern(_SCALAR)
# A piece of a long string that can be decoded alone: escapes and surrogate pairs stay whole.
_PIECE = _pattern(
    rb'(?:[^"\\]++|\\[^u]|\\u(?![dD][89abAB])[^"\\]{4}|\\u[dD][89abAB][^"\\]{2}\\u[dD][c-fC-F][^"\\]{2})*+'
)
_CONTINUES, _CONTINUED = 0b1100_0000, 0b1000_0000

_BLANKS = frozenset(b" \t\n\r")
OBJECT, ARRAY, QUOTE, _COMMA, _COLON = b'{[",:'
ENDS = {OBJECT: ord("}"), ARRAY: ord("]")}

DEEPEST = 1024
"""The deepest nesting that orjson decodes."""


class NotJsonError(AntiphonError):
    """Report that a text is not strict JSON in UTF-8."""


def is_deeper(document: Any, levels: int) -> bool:
    """Tell whether a container is nested deeper than `levels`, the document included. Uses no recursion."""
    level: list[Any] = [document]
    for _ in range(levels):
        level = [
            child
            for node in level
            for child in (node.values() if type(node) is dict else node)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return False
    return True


class Tokenizer:
    """Read one document, token by token and slice by slice. Whatever is no strict JSON raises NotJsonError.

    `is_too_deep`: a container below level `max_depth` has been read.
    """

    def __init__(self, raw: bytes, max_depth: int) -> None:
        self._raw = raw
        self._max_depth = max_depth
        self._place = 0
        self.is_too_deep = False

    def _slice(self, pattern: re.Pattern[bytes]) -> bytes:
        """Cut elements or members whose containers hold no others, without the last comma; empty if there are none."""
        found = pattern.match(self._raw, self._place, self._place + SLICE_BYTES)
        if found is None:
            return b""
        self._place = found.end()
        return found.group()[:-1]

    def _decode_all(self, flat: bytes, depth: int) -> Any:
        """Decode a slice, whose values are at this depth below their container."""
        try:
            values = orjson.loads(flat)
        except orjson.JSONDecodeError:
            raise NotJsonError from None
        if depth + _LEVELS > self._max_depth:
            self.is_too_deep = self.is_too_deep or is_deeper(values, self._max_depth - depth + 1)
        return values

    def _open(self, depth: int) -> None:
        self._place += 1
        if depth > self._max_depth:
            self.is_too_deep = True

    def _closes(self, kind: int) -> bool:
        """Tell whether the container that was just opened is empty."""
        if self._next() != ENDS[kind]:
            return False
        self._place += 1
        return True

    def _goes_on(self, kind: int) -> bool:
        """Tell whether a comma follows, and not the end of the container."""
        found = self._next()
        if found not in {_COMMA, ENDS[kind]}:
            raise NotJsonError
        self._place += 1
        return found == _COMMA

    def _name(self) -> str:
        """Read the name of a member, and the colon behind it."""
        if self._next() != QUOTE:
            raise NotJsonError
        name = self._string()
        if self._next() != _COLON:
            raise NotJsonError
        self._place += 1
        return name

    def _scalar(self) -> Any:
        found = _SCALARS.match(self._raw, self._place)
        if found is None:
            raise NotJsonError
        self._place = found.end()
        return self._decode_all(b"[%b]" % found.group(), 0)[0]

    def _string(self) -> str:
        found = _NAME.match(self._raw, self._place, self._place + SLICE_BYTES)
        if found is not None:
            self._place = found.end()
            return str(self._decode_all(b"[%b]" % found.group(), 0)[0])
        self._place += 1
        pieces: list[str] = []
        while self._byte() != QUOTE:
            pieces.append(self._piece())
        self._place += 1
        return "".join(pieces)

    def _piece(self) -> str:
        """Decode a part of a string that is longer than a slice."""
        raw, start = self._raw, self._place
        found = _PIECE.match(raw, start, start + SLICE_BYTES)
        end = start if found is None else found.end()
        # A character of several bytes stays whole. Stray continuation bytes are refused with the piece.
        while end > start and end < len(raw) and raw[end] & _CONTINUES == _CONTINUED:
            end -= 1
        if end == start:
            raise NotJsonError
        self._place = end
        return str(self._decode_all(b'["%b"]' % raw[start:end], 0)[0])

    def _next(self) -> int:
        """Skip white space and return the byte that follows; -1 at the document's end."""
        byte = self._byte()
        while byte in _BLANKS:
            found = _SPACE.match(self._raw, self._place, self._place + SLICE_BYTES)
            self._place = self._place if found is None else found.end()
            byte = self._byte()
        return byte

    def _byte(self) -> int:
        return self._raw[self._place] if self._place < len(self._raw) else -1

    def _check_end(self) -> None:
        if self._next() != -1:
            raise NotJsonError
