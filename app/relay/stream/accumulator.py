"""Accumulate a stream while it passes, so that its response can be ended when upstream does not end it."""

import re
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec
import orjson

from app.state.items.token_estimate import estimate_bytes, estimate_items
from app.wire.json.repair import repaired
from app.wire.json.sliced_decoder import decode
from app.wire.json.tokenizer import NotJsonError
from app.wire.json_body import is_json, members
from app.wire.responses import response_object, stream_events
from app.wire.sse import FrameSplitter
from app.wire.upstream_errors import ParsedError, parse_error

_BLANK_LINE = b"\n\n"
_NUMBERED = b'"sequence_number"'
# Deltas are read so many at a time, but a long one at once: one by one they take five times as long.
_MANY_DELTAS, _LONG_DELTA_BYTES = 64, 1024
# The text of a delta, as JSON without its quotes, in the usual spelling; and the type of deltas whose text is output.
_TEXTS = re.compile(rb'"delta":"([^"\\]*(?:\\.[^"\\]*)*)"').findall
_TEXT_FOLLOWS = b'"delta":"'
_OUTPUT = b'"type":"response.output_text.delta"'
# A delta's text is between the first two; the second cannot be in the text, where quotes are escaped. The last is the
# second as written by upstreams that put spaces between members.
_TEXT_BEGINS, _TEXT_ENDS, _SPACED_TEXT_ENDS = b'"delta":', b'","', b'", "'
_QUOTED_TEXT_BEGINS = len(_TEXT_BEGINS) + len(b'"')
_ADDED, _DELTA = b"output_item.added", b"output_text.delta"
# The name of an event stands within so many bytes, in its `event` field or as the first member of its data.
_NAME_ENDS = 64
_EARLY = frozenset({"incomplete", "failed", "cancelled"})
_QUOTE = ord('"')


class _Unfinished:
    """Hold a message that was begun, with its text so far: JSON text without its quotes."""

    __slots__ = ("index", "item", "text")

    def __init__(self, index: int, item: dict[str, Any]) -> None:
        self.index = index
        self.item = item
        self.text = bytearray()

    def as_item(self, status: str) -> bytes:
        said = b'"%b"' % bytes(self.text)
        # A pair of surrogates may come in two deltas, and of the last pair only one half.
        try:
            text = decode(said if is_json(said) else repaired(said))
        except NotJsonError:
            # Upstream's delta was no JSON: what it said is kept as it came.
            text = self.text.decode(errors="replace")
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        return orjson.dumps({**self.item, "status": status, "content": [part]})


def _text_end(frame: bytes, start: int) -> int:
    """Find the end of a delta's text that is written with spaces, or as the last member."""
    end = frame.find(_SPACED_TEXT_ENDS, start)
    return end if end >= 0 else frame.rfind(b'"')


def _texts(deltas: bytes) -> list[bytes]:
    """Return the texts of these deltas, as many as are written in the usual way."""
    if deltas.find(b"\\") >= 0:
        return _TEXTS(deltas)
    # Without escapes, a text ends at the next quote.
    _, *texts = deltas.split(_TEXT_FOLLOWS)
    return [text.partition(b'"')[0] for text in texts]


class StreamAccumulator:
    """Accumulate the response as announced, the items so far, and the last numbered event.

    Deltas are not decoded: their text is found by its position.

    Bounded by the items of one response; past `max_bytes` of them, later items are dropped. `error` is what an error
    event said; the client has seen it then.
    """

    def __init__(self, request_fields: Mapping[str, Any], max_bytes: int) -> None:
        self._request_fields = request_fields
        self._max_bytes = self._room = max_bytes
        self._created: bytes | None = None
        # Each with its output index: some upstreams finish a later item first.
        self._items: list[tuple[int, bytes]] = []
        self._unfinished: list[_Unfinished] = []
        self._last_event = self._last_delta = b""
        # Deltas that were not read yet.
        self._deltas: list[bytes] = []
        # Bytes of text that came in deltas: all, and up to the end of the last item.
        self._text = self._finished_text = 0
        self.saw_error = False
        self.error: ParsedError | None = None

    @property
    def size(self) -> int:
        """Return how many bytes of items are held."""
        return self._max_bytes - self._room

    @property
    def announced(self) -> bool:
        """Tell whether the client has seen the response's id."""
        return self._created is not None

    def feed(self, frame: bytes, kind: bytes | None) -> None:
        """Take in one frame, whose `stream_events.kind` this is."""
        if kind is None and frame.find(_TEXT_BEGINS) >= 0:
            deltas = self._deltas
            deltas.append(frame)
            if len(deltas) >= _MANY_DELTAS or len(frame) > _LONG_DELTA_BYTES:
                self._read_deltas()
            return
        self._read_deltas()
        if frame.find(_NUMBERED) >= 0:
            # Comments, blank lines and `[DONE]` have no number and use none up.
            self._last_event = frame
        if kind is None:
            if frame.find(_ADDED, 0, _NAME_ENDS) >= 0:
                self._begin_message(frame)
        elif kind == stream_events.ERROR:
            self.saw_error = True
            self.error = parse_error(stream_events.payload(frame))
        elif kind == stream_events.CREATED and self._created is None:
            self._announce(stream_events.member(frame, "response"))
        elif kind == stream_events.ITEM_DONE:
            self._finished_text = self._text
            self._finish_item(frame)

    def items(self, status: str) -> list[bytes]:
        """Return the items of a response that ends with this status: finished ones, and the text of others so far."""
        self._read_deltas()
        ends = "incomplete" if status in _EARLY else "completed"
        said = [(begun.index, begun.as_item(ends)) for begun in self._unfinished if begun.text]
        return [item for _, item in sorted([*self._items, *said], key=itemgetter(0))]

    def ended(self, status: str, error: Mapping[str, str] | None = None) -> bytes:
        """Make the response object for a stream that ends here."""
        created = self._created or response_object.placeholder_response(self._request_fields)
        return response_object.ended(created, status, self.items(status), error)

    def completed(self, said: bytes | None) -> bytes | None:
        """Complete the response of a terminal event by what was announced, where the event is silent."""
        if said is None or self._created is None or said.find(b'"id"', 0, _NAME_ENDS) >= 0:
            return said
        try:
            parts = members(said)
        except (msgspec.DecodeError, RecursionError):
            return said
        return said if "id" in parts else response_object.merged(self._created, parts)

    def next_number(self) -> int:
        """Return the sequence number after the last event's."""
        self._read_deltas()
        numbers = map(stream_events.sequence_number, (self._last_event, self._last_delta))
        return max([number + 1 for number in numbers if number is not None], default=0)

    def tokens(self) -> int:
        """Estimate the output tokens that have passed: of the text in deltas, and of items that came without."""
        self._read_deltas()
        unfinished = estimate_bytes(self._text - self._finished_text)
        return max(estimate_bytes(self._text), estimate_items([item for _, item in self._items]) + unfinished)

    def _announce(self, created: bytes | None) -> None:
        """Hold the response object that a stream begins with."""
        facts = None if created is None else response_object.read(created)
        if facts is not None:
            self._created = facts.raw
            # What upstream announced stands for the request, which a long stream then need not hold.
            self._request_fields = {}

    def _begin_message(self, frame: bytes) -> None:
        """Hold a message that begins."""
        event = stream_events.payload(frame)
        index, item = event.get("output_index"), event.get("item")
        if type(index) is int and isinstance(item, dict) and item.get("type") == "message":
            self._unfinished.append(_Unfinished(index, item))

    def _read_deltas(self) -> None:
        """Add the text of the deltas that have come since the last time."""
        deltas, self._deltas = self._deltas, []
        if not deltas:
            return
        self._last_delta = deltas[-1]
        joined = b"".join(deltas)
        texts = _texts(joined)
        said = b"".join(texts)
        # A text that does not end runs on into the next line.
        is_usual = (
            len(texts) == len(deltas)
            and said.find(b"\n") < 0
            and (not self._unfinished or (len(self._unfinished) == 1 and joined.count(_OUTPUT) == len(deltas)))
        )
        if is_usual:
            self._text += len(said)
            if self._unfinished:
                # Where there is no room for all deltas, there may be for the first.
                for part in (said,) if len(said) <= self._room else texts:
                    self._add(self._unfinished[0], part)
        else:
            self._read_each_delta(deltas)

    def _read_each_delta(self, deltas: Sequence[bytes]) -> None:
        for frame in deltas:
            start = frame.find(_TEXT_BEGINS)
            end = frame.find(_TEXT_ENDS, start)
            if end < 0:
                end = _text_end(frame, start)
            start += _QUOTED_TEXT_BEGINS
            self._text += max(0, end - start)
            if self._unfinished and frame.find(_DELTA, 0, _NAME_ENDS) >= 0:
                self._read_delta(frame, start, end)

    def _read_delta(self, frame: bytes, start: int, end: int) -> None:
        """Add the text of one delta, which stands here unless there is a space before it."""
        begun = self._unfinished[0] if len(self._unfinished) == 1 else self._message_of(frame)
        if frame[start - 1] == _QUOTE:
            said = frame[start:end]
        else:
            delta = stream_events.payload(frame).get("delta")
            said = orjson.dumps(delta)[1:-1] if isinstance(delta, str) else b""
        if begun is not None:
            self._add(begun, said)

    def _add(self, begun: _Unfinished, said: bytes) -> None:
        if len(said) <= self._room:
            self._room -= len(said)
            begun.text += said

    def _message_of(self, frame: bytes) -> _Unfinished | None:
        index = stream_events.payload(frame).get("output_index")
        return next((begun for begun in self._unfinished if begun.index == index), None)

    def _finish_item(self, frame: bytes) -> None:
        """Hold an item that is finished, in place of its text so far."""
        event = stream_events.parts(frame)
        item, stated = event.get("item"), bytes(event.get("output_index", b""))
        index = int(stated) if stated.isdigit() else None
        over = [begun for begun in self._unfinished if index is None or begun.index == index]
        self._unfinished = [begun for begun in self._unfinished if begun not in over]
        self._room += sum(len(begun.text) for begun in over)
        if item is not None:
            self._keep_item(bytes(item), index)

    def _keep_item(self, item: bytes, index: int | None) -> None:
        if not is_json(item):
            item = repaired(item)
            if not is_json(item):
                return
        if len(item) <= self._room:
            self._room -= len(item)
            if index is None:
                index = self._items[-1][0] if self._items else 0
            self._items.append((index, item))


def final_object(stream: bytes) -> bytes:
    """Return the response object in which a whole stream ends; the stream itself where it ends in none."""
    accumulator = StreamAccumulator({}, len(stream))
    for frame in FrameSplitter(len(stream)).feed(stream + _BLANK_LINE):
        kind = stream_events.kind(frame)
        if kind in stream_events.TERMINAL:
            said = accumulator.completed(stream_events.member(frame, "response"))
            facts = None if said is None else response_object.read(said)
            if facts is None:
                return stream
            return facts.raw if facts.has_output else facts.with_output(accumulator.items(facts.status)).raw
        accumulator.feed(frame, kind)
    return stream
