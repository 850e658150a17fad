"""Decode large JSON in slices: a document of any size, and the interpreter is never held for longer than one slice.

orjson decodes a document in one go, during which no other thread of the process runs: 60 MB take it 0.1 s, and 9 MB of
empty lists half a second. Here a stack of open containers walks the document, and orjson decodes what stands between
two cuts: about 32 KB of elements or members, found by a regular expression at the speed of C. Between two slices the
interpreter gives way to the event loop by itself. The result is the same, and so are the refusals.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec
import orjson

from app.errors import AntiphonError

Json = msgspec.Raw

SLICE_BYTES = 32 * 1024
"""Below this a value is decoded whole: that takes less than a millisecond."""

_WHITE = rb"[ \t\n\r]*+"
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_SCALAR = rb'[^"\[\]{},: \t\n\r]++'
# Whatever stands between brackets: with no container in it, and with none that has another in it. orjson looks closer.
_FLAT = rb'(?:[^"\[\]{}]++|%b)*+' % _STRING
_INNER = rb'(?:[^"\[\]{}]++|%b|\{%b\}|\[%b\])*+' % (_STRING, _FLAT, _FLAT)
_VALUE = rb"(?:%b|%b|\{%b\}|\[%b\])" % (_STRING, _SCALAR, _INNER, _INNER)
_LEVELS = 2


def _pattern(source: bytes) -> re.Pattern[bytes]:
    return re.compile(source, re.DOTALL)


# Each with the comma behind it, so that what is cut off is whole, and a value has to follow.
_ELEMENTS = _pattern(rb"(?:%b%b%b,)++" % (_WHITE, _VALUE, _WHITE))
_MEMBERS = _pattern(rb"(?:%b%b%b:%b%b%b,)++" % (_WHITE, _STRING, _WHITE, _WHITE, _VALUE, _WHITE))
_SPACE, _NAME, _SCALARS = _pattern(_WHITE), _pattern(_STRING), _pattern(_SCALAR)
# Of a long string a piece that can be decoded alone: an escape, and both halves of a surrogate pair, stay together.
_PIECE = _pattern(
    rb'(?:[^"\\]++|\\[^u]|\\u(?![dD][89abAB])[^"\\]{4}|\\u[dD][89abAB][^"\\]{2}\\u[dD][c-fC-F][^"\\]{2})*+'
)
_CONTINUES, _CONTINUED = 0b1100_0000, 0b1000_0000

_SEARCHED_BYTES = 1_000_000
_BLANKS = frozenset(b" \t\n\r")
_OBJECT, _ARRAY, _QUOTE, _COMMA, _COLON = b'{[",:'
_ENDS = {_OBJECT: ord("}"), _ARRAY: ord("]")}
_RAW_ELEMENTS = msgspec.json.Decoder(list[Json])
_RAW_MEMBERS = msgspec.json.Decoder(dict[str, Json])


DEEPEST = 1024
"""As deep as orjson goes."""


class NotJsonError(AntiphonError):
    """What was to be decoded is not strict JSON in UTF-8."""


class Elements(Sequence[Any]):
    """The elements of a large array: kept as they were sent, each decoded anew for whoever asks for it.

    Decoded they weigh many times as much, and to free them all at once would hold the interpreter, too.
    """

    __slots__ = ("sent",)

    def __init__(self, sent: list[Json]) -> None:
        self.sent = sent

    def __len__(self) -> int:
        return len(self.sent)

    def __iter__(self) -> Iterator[Any]:
        return map(decode, self.sent)

    def __getitem__(self, place: Any) -> Any:
        return decode(self.sent[place])


def decode(raw: bytes | Json) -> Any:
    """Decode strict JSON of any size, as `orjson.loads` does but for its limit of nesting. Raises NotJsonError."""
    view = memoryview(raw)
    if len(view) > SLICE_BYTES:
        return Reader(bytes(view), DEEPEST).document()
    try:
        return orjson.loads(view)
    except orjson.JSONDecodeError:
        raise NotJsonError from None


def is_deeper(document: Any, levels: int) -> bool:
    """Whether a container stands more than `levels` deep, itself counted. A deep document must not deepen our stack."""
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


def holds(text: bytes | memoryview, word: re.Pattern[bytes]) -> bool:
    """Whether a word stands somewhere in this text. A view of bytes cannot be asked, and a copy would weigh as much."""
    if len(text) <= _SEARCHED_BYTES:
        return word.search(text) is not None
    step, longest = _SEARCHED_BYTES, len(word.pattern)
    return any(word.search(text, place, place + step + longest) for place in range(0, len(text), step))


def is_json(raw: bytes) -> bool:
    """Whether this is strict JSON, nested no deeper than orjson goes."""
    try:
        if len(raw) <= SLICE_BYTES:
            orjson.loads(raw)
            return True
        reader = Reader(raw, DEEPEST)
        reader.check()
    except (NotJsonError, orjson.JSONDecodeError):
        return False
    return not reader.is_too_deep


class Reader:
    """Walks one document, once. `is_too_deep`: what was read so far has a container below level `max_depth`."""

    def __init__(self, raw: bytes, max_depth: int) -> None:
        self._raw = raw
        self._max_depth = max_depth
        self._place = 0
        self.is_too_deep = False

    def document(self) -> Any:
        """The document, decoded. Raises NotJsonError."""
        value = self._value(0, is_kept=True)
        self._check_end()
        return value

    def check(self) -> None:
        """Read the document without keeping anything of it. Raises NotJsonError."""
        self._value(0, is_kept=False)
        self._check_end()

    def members(self, known: Collection[str], split: str) -> tuple[dict[str, Any], dict[str, Json]] | None:
        """The members of an object, decoded and as they were sent; None where the document is none.

        Of those larger than a slice only the `known` are decoded, and the array named `split` is `Elements`. Raises
        NotJsonError, whatever else the document is.
        """
        if self._next() != _OBJECT:
            self.check()
            return None
        self._open(1)
        fields: dict[str, Any] = {}
        sent: dict[str, Json] = {}
        is_over = self._closes(_OBJECT)
        while not is_over:
            if flat := self._slice(_MEMBERS):
                flat = b"{%b}" % flat
                fields.update(self._decode_all(flat, 1))
                sent.update(_RAW_MEMBERS.decode(flat))
            name = self._name()
            kind, start = self._next(), self._place
            elements, value = None, None
            if kind == _ARRAY and name == split:
                elements = self._elements()
            else:
                value = self._value(1, is_kept=name in known)
            raw = sent[name] = Json(memoryview(self._raw)[start : self._place])
            if self._place - start <= SLICE_BYTES:
                value = orjson.loads(memoryview(raw))
            elif elements is not None:
                value = Elements(elements)
            elif name not in known:
                value = raw
            fields[name] = value
            is_over = not self._goes_on(_OBJECT)
        self._check_end()
        return fields, sent

    def _elements(self) -> list[Json]:
        """The elements of an array that is a member of the document: each checked, and kept as it was sent."""
        self._open(2)
        sent: list[Json] = []
        if self._closes(_ARRAY):
            return sent
        while True:
            while flat := self._slice(_ELEMENTS):
                flat = b"[%b]" % flat
                self._decode_all(flat, 2)
                sent += _RAW_ELEMENTS.decode(flat)
            self._next()
            start = self._place
            self._value(2, is_kept=False)
            sent.append(Json(memoryview(self._raw)[start : self._place]))
            if not self._goes_on(_ARRAY):
                return sent

    def _value(self, depth: int, *, is_kept: bool) -> Any:
        """The value that follows, which stands so deep. Unless it `is_kept`, it is only checked."""
        opened: list[tuple[int, Any, str]] = []
        kind = self._next()
        while True:
            # Here a value begins. What is opened stays open until all in it is read.
            if kind in _ENDS:
                self._open(depth + len(opened) + 1)
                opened.append((kind, {} if kind == _OBJECT else [], ""))
                is_closed = self._closes(kind)
            else:
                value = self._string() if kind == _QUOTE else self._scalar()
                if not opened:
                    return value
                is_closed = self._put(opened, value, is_kept=is_kept)
            while is_closed:
                value = opened.pop()[1]
                if not opened:
                    return value
                is_closed = self._put(opened, value, is_kept=is_kept)
            kind = self._enter(opened, depth, is_kept=is_kept)

    def _enter(self, opened: list[tuple[int, Any, str]], depth: int, *, is_kept: bool) -> int:
        """Read on in the innermost container to the next value that is no part of a slice; returns how that begins."""
        kind, container, _ = opened[-1]
        while flat := self._slice(_MEMBERS if kind == _OBJECT else _ELEMENTS):
            values = self._decode_all((b"{%b}" if kind == _OBJECT else b"[%b]") % flat, depth + len(opened))
            if is_kept and kind == _OBJECT:
                container.update(values)
            elif is_kept:
                container += values
        if kind == _OBJECT:
            opened[-1] = kind, container, self._name()
        return self._next()

    def _put(self, opened: list[tuple[int, Any, str]], value: Any, *, is_kept: bool) -> bool:
        """Put a value into the innermost container; whether that is closed by what follows."""
        kind, container, name = opened[-1]
        if is_kept and kind == _OBJECT:
            container[name] = value
        elif is_kept:
            container.append(value)
        return not self._goes_on(kind)

    def _slice(self, pattern: re.Pattern[bytes]) -> bytes:
        """Elements or members that hold no container with another in it, without their last comma; none if none."""
        found = pattern.match(self._raw, self._place, self._place + SLICE_BYTES)
        if found is None:
            return b""
        self._place = found.end()
        return found.group()[:-1]

    def _decode_all(self, flat: bytes, depth: int) -> Any:
        """What orjson makes of a slice, whose values stand so deep below their container."""
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
        """Whether the container that was just opened has nothing in it."""
        if self._next() != _ENDS[kind]:
            return False
        self._place += 1
        return True

    def _goes_on(self, kind: int) -> bool:
        """Whether a comma follows, and not the end of the container."""
        found = self._next()
        if found not in {_COMMA, _ENDS[kind]}:
            raise NotJsonError
        self._place += 1
        return found == _COMMA

    def _name(self) -> str:
        """The name of a member, and the colon behind it."""
        if self._next() != _QUOTE:
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
        while self._byte() != _QUOTE:
            pieces.append(self._piece())
        self._place += 1
        return "".join(pieces)

    def _piece(self) -> str:
        """A part of a string that is longer than a slice."""
        raw, start = self._raw, self._place
        found = _PIECE.match(raw, start, start + SLICE_BYTES)
        end = start if found is None else found.end()
        # A character of several bytes stays whole. Other bytes of that kind are none, and are refused with the piece.
        while end > start and end < len(raw) and raw[end] & _CONTINUES == _CONTINUED:
            end -= 1
        if end == start:
            raise NotJsonError
        self._place = end
        return str(self._decode_all(b'["%b"]' % raw[start:end], 0)[0])

    def _next(self) -> int:
        """The byte behind the white space that follows, which is passed over; -1 at the document's end."""
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
