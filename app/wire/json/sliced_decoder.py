"""Decode large JSON in slices, so that the interpreter is never held for longer than one slice.

orjson decodes a document in one go, during which no other thread of the process runs: 60 MB take it 0.1 s, and 9 MB of
empty lists half a second. Here a stack of open containers walks the document, and orjson decodes what stands between
two cuts: about 32 KB of elements or members, found by a regular expression at the speed of C. Between two slices the
interpreter gives way to the event loop by itself. The result is the same, and so are the errors.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec
import orjson

from app.wire.json.tokenizer import (
    ARRAY,
    DEEPEST,
    ELEMENTS,
    ENDS,
    MEMBERS,
    OBJECT,
    QUOTE,
    SLICE_BYTES,
    NotJsonError,
    Tokenizer,
)

Json = msgspec.Raw

_RAW_ELEMENTS = msgspec.json.Decoder(list[Json])
_RAW_MEMBERS = msgspec.json.Decoder(dict[str, Json])
_SEARCHED_BYTES = 1_000_000


class Elements(Sequence[Any]):
    """Keep the elements of a large array as they were sent, and decode each when it is read.

    All decoded they weigh many times as much, and freeing them at once would hold the interpreter, too.
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


ARRAYS = frozenset({list, Elements})
"""The types to which an array is decoded. `isinstance` of an abstract class takes ten times as long."""


def decode(raw: bytes | Json) -> Any:
    """Decode strict JSON of any size, as `orjson.loads` does except for its limit of nesting. Raises NotJsonError."""
    view = memoryview(raw)
    if len(view) > SLICE_BYTES:
        return SlicedDecoder(bytes(view), DEEPEST).document()
    try:
        return orjson.loads(view)
    except orjson.JSONDecodeError:
        raise NotJsonError from None


def holds(text: bytes | memoryview, needles: Collection[bytes]) -> bool:
    """Tell whether one of these needles stands in this text, copying no large part of it at a time."""
    if type(text) is bytes and len(text) <= _SEARCHED_BYTES:
        return any(map(text.__contains__, needles))
    longest = max(map(len, needles))
    for place in range(0, len(text), _SEARCHED_BYTES):
        # A memoryview cannot be searched. A needle that goes on in the next part is found here.
        part = bytes(text[place : place + _SEARCHED_BYTES + longest])
        if any(map(part.__contains__, needles)):
            return True
    return False


def is_json(raw: bytes) -> bool:
    """Tell whether this is strict JSON, nested no deeper than orjson goes."""
    try:
        if len(raw) <= SLICE_BYTES:
            orjson.loads(raw)
            return True
        decoder = SlicedDecoder(raw, DEEPEST)
        decoder.check()
    except (NotJsonError, orjson.JSONDecodeError):
        return False
    return not decoder.is_too_deep


class SlicedDecoder(Tokenizer):
    """Walk one document, once, and decode it slice by slice."""

    def document(self) -> Any:
        """Decode the document. Raises NotJsonError."""
        value = self._value(0, is_kept=True)
        self._check_end()
        return value

    def check(self) -> None:
        """Check the document without keeping anything of it. Raises NotJsonError."""
        self._value(0, is_kept=False)
        self._check_end()

    def members(self, known: Collection[str], split: str) -> tuple[dict[str, Any], dict[str, Json]] | None:
        """Return the members of an object, decoded and as they were sent; None where the document is no object.

        Of those larger than a slice only the `known` are decoded, and the array named `split` is `Elements`. Raises
        NotJsonError, also for a document that is no object.
        """
        if self._next() != OBJECT:
            self.check()
            return None
        self._open(1)
        fields: dict[str, Any] = {}
        sent: dict[str, Json] = {}
        is_over = self._closes(OBJECT)
        while not is_over:
            if flat := self._slice(MEMBERS):
                flat = b"{%b}" % flat
                fields.update(self._decode_all(flat, 1))
                sent.update(_RAW_MEMBERS.decode(flat))
            name = self._name()
            kind, start = self._next(), self._place
            elements, value = None, None
            if kind == ARRAY and name == split:
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
            is_over = not self._goes_on(OBJECT)
        self._check_end()
        return fields, sent

    def _elements(self) -> list[Json]:
        """Check each element of an array that is a member of the document, and keep it as it was sent."""
        self._open(2)
        sent: list[Json] = []
        if self._closes(ARRAY):
            return sent
        while True:
            while flat := self._slice(ELEMENTS):
                flat = b"[%b]" % flat
                self._decode_all(flat, 2)
                sent += _RAW_ELEMENTS.decode(flat)
            self._next()
            start = self._place
            self._value(2, is_kept=False)
            sent.append(Json(memoryview(self._raw)[start : self._place]))
            if not self._goes_on(ARRAY):
                return sent

    def _value(self, depth: int, *, is_kept: bool) -> Any:
        """Read the value that follows, at this depth. Unless it `is_kept`, it is only checked."""
        opened: list[tuple[int, Any, str]] = []
        kind = self._next()
        while True:
            # A value begins here. A container stays open until all in it is read.
            if kind in ENDS:
                self._open(depth + len(opened) + 1)
                opened.append((kind, {} if kind == OBJECT else [], ""))
                is_closed = self._closes(kind)
            else:
                value = self._string() if kind == QUOTE else self._scalar()
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
        """Read on in the innermost container to the next value outside a slice; return its first byte."""
        kind, container, _ = opened[-1]
        while flat := self._slice(MEMBERS if kind == OBJECT else ELEMENTS):
            values = self._decode_all((b"{%b}" if kind == OBJECT else b"[%b]") % flat, depth + len(opened))
            if is_kept and kind == OBJECT:
                container.update(values)
            elif is_kept:
                container += values
        if kind == OBJECT:
            opened[-1] = kind, container, self._name()
        return self._next()

    def _put(self, opened: list[tuple[int, Any, str]], value: Any, *, is_kept: bool) -> bool:
        """Put a value into the innermost container; return whether the container is closed by what follows."""
        kind, container, name = opened[-1]
        if is_kept and kind == OBJECT:
            container[name] = value
        elif is_kept:
            container.append(value)
        return not self._goes_on(kind)
