"""What is remembered of a stream while it passes, so that it can be ended when upstream does not end it."""

import re
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec
import orjson

from app.state.estimate import estimate_bytes, estimate_items
from app.wire import events, response
from app.wire.body import is_json, members
from app.wire.error_words import ErrorWords, words_of
from app.wire.mending import mended
from app.wire.slices import decode
from app.wire.sse import FrameSplitter

_BLANK_LINE = b"\n\n"
_NUMBERED = b'"sequence_number"'
# Deltas are looked at so many at a time, but a long one at once: each by itself takes five times as long.
_MANY_DELTAS, _LONG_DELTA_BYTES = 64, 1024
# The text of a delta, as JSON without its quotes, in the usual spelling, and the type of those whose text is output.
_TEXTS = re.compile(rb'"delta":"([^"\\]*(?:\\.[^"\\]*)*)"').findall
_OUTPUT = b'"type":"response.output_text.delta"'
# A delta's text is between these two, of which the latter cannot stand in it: there its quotes are escaped. The last
# is how those write it who put spaces between members.
_TEXT_BEGINS, _TEXT_ENDS, _SPACED_TEXT_ENDS = b'"delta":', b'","', b'", "'
_QUOTED_TEXT_BEGINS = len(_TEXT_BEGINS) + len(b'"')
_ADDED, _DELTA = b"output_item.added", b"output_text.delta"
# The name of an event stands within so many bytes, in its `event` field or as the first member of its data.
_NAME_ENDS = 64
_EARLY = frozenset({"incomplete", "failed", "cancelled"})
_QUOTE = ord('"')


class _Unfinished:
    """A message that was begun, and what it has said: JSON text without its quotes."""

    __slots__ = ("item", "place", "text")

    def __init__(self, place: int, item: dict[str, Any]) -> None:
        self.place = place
        self.item = item
        self.text = bytearray()

    def as_item(self, status: str) -> bytes:
        said = b'"%b"' % bytes(self.text)
        # A pair of surrogates may have come in two deltas, and of the last one half.
        text = decode(said if is_json(said) else mended(said))
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        return orjson.dumps({**self.item, "status": status, "content": [part]})


def _text_end(frame: bytes, start: int) -> int:
    """Find where a delta's text ends that is written with spaces, or as the last member."""
    end = frame.find(_SPACED_TEXT_ENDS, start)
    return end if end >= 0 else frame.rfind(b'"')


class Fold:
    """The response as announced, the items so far, and the last numbered event.

    Deltas are not decoded: what text they bring is seen by where it stands.

    Bounded by the items of one response; past `max_bytes` of them, what comes later is forgotten. `error` is what an
    error event said, of which the client has heard then.
    """

    def __init__(self, request_fields: Mapping[str, Any], max_bytes: int) -> None:
        self._request_fields = request_fields
        self._max_bytes = self._room = max_bytes
        self._created: bytes | None = None
        # Each with its place in the output: some upstreams finish a later one first.
        self._items: list[tuple[int, bytes]] = []
        self._unfinished: list[_Unfinished] = []
        self._last_event = self._last_delta = b""
        # Those not looked at yet.
        self._deltas: list[bytes] = []
        # Bytes of text that came in deltas, and how many of them when the last item was finished.
        self._text = self._finished_text = 0
        self.saw_error = False
        self.error: ErrorWords | None = None

    @property
    def size(self) -> int:
        """How many bytes of items are remembered."""
        return self._max_bytes - self._room

    @property
    def announced(self) -> bool:
        """Whether the client has been told the response's id."""
        return self._created is not None

    def see(self, frame: bytes, kind: bytes | None) -> None:
        """Take note of one frame, whose `events.kind` this is."""
        if kind is None and frame.find(_TEXT_BEGINS) >= 0:
            deltas = self._deltas
            deltas.append(frame)
            if len(deltas) >= _MANY_DELTAS or len(frame) > _LONG_DELTA_BYTES:
                self._look()
            return
        self._look()
        if frame.find(_NUMBERED) >= 0:
            # Comments, blank lines and a `[DONE]` have no number, and take none.
            self._last_event = frame
        if kind is None:
            if frame.find(_ADDED, 0, _NAME_ENDS) >= 0:
                self._begin(frame)
        elif kind == events.ERROR:
            self.saw_error = True
            self.error = words_of(events.payload(frame))
        elif kind == events.CREATED and self._created is None:
            self._announce(events.member(frame, "response"))
        elif kind == events.ITEM_DONE:
            self._finished_text = self._text
            self._finish(frame)

    def items(self, status: str) -> list[bytes]:
        """The items of a response that ends with this status: those finished, and what others have said so far."""
        self._look()
        ends = "incomplete" if status in _EARLY else "completed"
        said = [(begun.place, begun.as_item(ends)) for begun in self._unfinished if begun.text]
        return [item for _, item in sorted([*self._items, *said], key=itemgetter(0))]

    def ended(self, status: str, error: Mapping[str, str] | None = None) -> bytes:
        """The response object as it stands when the stream ends here."""
        created = self._created or response.unannounced(self._request_fields)
        return response.ended(created, status, self.items(status), error)

    def completed(self, said: bytes | None) -> bytes | None:
        """The response of a terminal event, with what was announced of it where the event is silent."""
        if said is None or self._created is None or said.find(b'"id"', 0, _NAME_ENDS) >= 0:
            return said
        try:
            parts = members(said)
        except (msgspec.DecodeError, RecursionError):
            return said
        return said if "id" in parts else response.merged(self._created, parts)

    def next_number(self) -> int:
        """The sequence number after the last event's."""
        self._look()
        numbers = map(events.sequence_number, (self._last_event, self._last_delta))
        return max([number + 1 for number in numbers if number is not None], default=0)

    def tokens(self) -> int:
        """How many output tokens have passed, by estimate: of the text in deltas, and of items that came without."""
        self._look()
        unfinished = estimate_bytes(self._text - self._finished_text)
        return max(estimate_bytes(self._text), estimate_items([item for _, item in self._items]) + unfinished)

    def _announce(self, created: bytes | None) -> None:
        """Take note of the response that begins."""
        facts = None if created is None else response.read(created)
        if facts is not None:
            self._created = facts.raw
            # What upstream announced stands for the request, which a long stream then need not hold.
            self._request_fields = {}

    def _begin(self, frame: bytes) -> None:
        """Take note of a message that begins."""
        event = events.payload(frame)
        place, item = event.get("output_index"), event.get("item")
        if type(place) is int and isinstance(item, dict) and item.get("type") == "message":
            self._unfinished.append(_Unfinished(place, item))

    def _look(self) -> None:
        """Take note of the text in the deltas that have come since the last look."""
        deltas, self._deltas = self._deltas, []
        if not deltas:
            return
        self._last_delta = deltas[-1]
        joined = b"".join(deltas)
        texts = _TEXTS(joined)
        is_usual = len(texts) == len(deltas) and (
            not self._unfinished or (len(self._unfinished) == 1 and joined.count(_OUTPUT) == len(deltas))
        )
        if is_usual:
            said = b"".join(texts)
            self._text += len(said)
            if self._unfinished:
                # Where there is not room for all, there is for the first.
                for part in (said,) if len(said) <= self._room else texts:
                    self._add(self._unfinished[0], part)
        else:
            self._look_at_each(deltas)

    def _look_at_each(self, deltas: Sequence[bytes]) -> None:
        for frame in deltas:
            start = frame.find(_TEXT_BEGINS)
            end = frame.find(_TEXT_ENDS, start)
            if end < 0:
                end = _text_end(frame, start)
            start += _QUOTED_TEXT_BEGINS
            self._text += max(0, end - start)
            if self._unfinished and frame.find(_DELTA, 0, _NAME_ENDS) >= 0:
                self._hear(frame, start, end)

    def _hear(self, frame: bytes, start: int, end: int) -> None:
        """Take note of a piece of text, which stands here unless there is a space before it."""
        begun = self._unfinished[0] if len(self._unfinished) == 1 else self._spoken_in(frame)
        if frame[start - 1] == _QUOTE:
            said = frame[start:end]
        else:
            delta = events.payload(frame).get("delta")
            said = orjson.dumps(delta)[1:-1] if isinstance(delta, str) else b""
        if begun is not None:
            self._add(begun, said)

    def _add(self, begun: _Unfinished, said: bytes) -> None:
        if len(said) <= self._room:
            self._room -= len(said)
            begun.text += said

    def _spoken_in(self, frame: bytes) -> _Unfinished | None:
        place = events.payload(frame).get("output_index")
        return next((begun for begun in self._unfinished if begun.place == place), None)

    def _finish(self, frame: bytes) -> None:
        """Take note of an item that is finished."""
        event = events.parts(frame)
        item, told = event.get("item"), bytes(event.get("output_index", b""))
        place = int(told) if told.isdigit() else None
        over = [begun for begun in self._unfinished if place is None or begun.place == place]
        self._unfinished = [begun for begun in self._unfinished if begun not in over]
        self._room += sum(len(begun.text) for begun in over)
        if item is not None:
            self._keep(bytes(item), place)

    def _keep(self, item: bytes, place: int | None) -> None:
        if not is_json(item):
            item = mended(item)
            if not is_json(item):
                return
        if len(item) <= self._room:
            self._room -= len(item)
            if place is None:
                place = self._items[-1][0] if self._items else 0
            self._items.append((place, item))


def gathered(stream: bytes) -> bytes:
    """The response object in which a whole stream ends; the stream itself where it ends in none."""
    fold = Fold({}, len(stream))
    for frame in FrameSplitter(len(stream)).feed(stream + _BLANK_LINE):
        kind = events.kind(frame)
        if kind in events.TERMINAL:
            said = fold.completed(events.member(frame, "response"))
            facts = None if said is None else response.read(said)
            if facts is None:
                return stream
            return facts.raw if facts.has_output else facts.with_output(fold.items(facts.status)).raw
        fold.see(frame, kind)
    return stream
