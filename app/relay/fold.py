"""What is remembered of a stream while it passes, so that it can be ended when upstream does not end it."""

from collections.abc import Mapping
from typing import Any

import orjson

from app.state.estimate import estimate_bytes, estimate_items
from app.wire import events, response, sse
from app.wire.body import is_json
from app.wire.slices import decode
from app.wire.tokens import NotJsonError

_NUMBERED = b'"sequence_number"'
# A delta's text is between these two, of which the latter cannot stand in it: there its quotes are escaped. The last
# is how those write it who put spaces between members.
_TEXT_BEGINS, _TEXT_ENDS, _SPACED_TEXT_ENDS = b'"delta":', b'","', b'", "'
_QUOTED_TEXT_BEGINS = len(_TEXT_BEGINS) + len(b'"')
_ADDED, _DELTA = b"response.output_item.added", b"response.output_text.delta"


class Fold:
    """The response as announced, the items finished so far, and the last numbered event.

    Deltas are never parsed: how much text they bring is seen by where it stands.

    Bounded by the items of one response; past `max_bytes` of them, later ones are forgotten.
    """

    def __init__(self, request_fields: Mapping[str, Any], max_bytes: int) -> None:
        self._request_fields = request_fields
        self._max_bytes = self._room = max_bytes
        self._created: bytes | None = None
        self._items: list[bytes] = []
        self._last_event = self._last_delta = b""
        # Bytes of text that came in deltas, and how many of them when the last item was finished.
        self._text = self._finished_text = 0
        self.saw_error = False

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
        if kind is None and (start := frame.find(_TEXT_BEGINS)) >= 0:
            self._last_delta = frame
            end = frame.find(_TEXT_ENDS, start)
            if end < 0:
                end = frame.find(_SPACED_TEXT_ENDS, start)
            if end < 0:
                # Nothing is behind it.
                end = frame.rfind(b'"')
            self._text += max(0, end - start - _QUOTED_TEXT_BEGINS)
            return
        if frame.find(_NUMBERED) >= 0:
            # Comments, blank lines and a `[DONE]` have no number, and take none.
            self._last_event = frame
        if kind is None:
            return
        if kind == events.ERROR:
            self.saw_error = True
        elif kind == events.CREATED and self._created is None:
            created = events.member(frame, "response")
            if created is not None and response.read(created) is not None:
                self._created = created
                # What upstream announced stands for the request, which a long stream then need not hold.
                self._request_fields = {}
        elif kind == events.ITEM_DONE:
            self._finished_text = self._text
            self._keep(events.member(frame, "item"))

    def ended(self, status: str, error: Mapping[str, str] | None = None) -> bytes:
        """The response object as it stands when the stream ends here."""
        created = self._created or response.unannounced(self._request_fields)
        return response.ended(created, status, [*self._items, *self._unfinished()], error)

    def next_number(self) -> int:
        """The sequence number after the last event's."""
        numbers = map(events.sequence_number, (self._last_event, self._last_delta))
        return max([number + 1 for number in numbers if number is not None], default=0)

    def tokens(self) -> int:
        """How many output tokens have passed, by estimate: of the text in deltas, and of items that came without."""
        unfinished = estimate_bytes(self._text - self._finished_text)
        return max(estimate_bytes(self._text), estimate_items(self._items) + unfinished)

    def _unfinished(self) -> list[bytes]:
        """What is known of items that were not finished."""
        return []

    def _keep(self, item: bytes | None) -> None:
        if item is not None and len(item) <= self._room and is_json(item):
            self._room -= len(item)
            self._items.append(item)


class PartialFold(Fold):
    """A fold that also remembers the text of messages that are not finished, for which it looks into each delta."""

    def __init__(self, request_fields: Mapping[str, Any], max_bytes: int) -> None:
        super().__init__(request_fields, max_bytes)
        self._open: dict[int, dict[str, Any]] = {}
        self._texts: dict[int, list[str]] = {}

    def see(self, frame: bytes, kind: bytes | None) -> None:
        """Take note of one frame, whose `events.kind` this is."""
        super().see(frame, kind)
        if kind == events.ITEM_DONE or (kind is None and (_DELTA in frame or _ADDED in frame)):
            try:
                self._note(decode(sse.event_data(frame)))
            except (NotJsonError, KeyError, TypeError, AttributeError):
                # Not as the API has it: what cannot be read is not remembered.
                return

    def _note(self, event: Mapping[str, Any]) -> None:
        place = event["output_index"]
        match event["type"]:
            case "response.output_item.added" if event["item"]["type"] == "message":
                self._open[place], self._texts[place] = event["item"], []
            case "response.output_text.delta" if place in self._open and self._room > 0:
                self._texts[place].append(str(event["delta"]))
                self._room -= len(self._texts[place][-1])
            case "response.output_item.done":
                self._open.pop(place, None)

    def _unfinished(self) -> list[bytes]:
        texts = {place: "".join(self._texts[place]) for place in self._open}
        return [
            orjson.dumps(
                self._open[place]
                | {
                    "status": "incomplete",
                    "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}],
                }
            )
            for place, text in texts.items()
            if text
        ]
