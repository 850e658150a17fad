"""What is remembered of a stream while it passes, so that it can be ended when upstream does not end it."""

from collections.abc import Mapping
from typing import Any

from app.wire import events, response
from app.wire.body import is_json

_NUMBERED = b'"sequence_number"'


class Fold:
    """The response as announced, the items finished so far, and the last numbered event. Deltas are never parsed.

    Bounded by the items of one response; past `max_bytes` of them, later ones are forgotten.
    """

    def __init__(self, request_fields: Mapping[str, Any], max_bytes: int) -> None:
        self._request_fields = request_fields
        self._room = max_bytes
        self._created: bytes | None = None
        self._items: list[bytes] = []
        self._last_event = b""
        self.saw_error = False

    @property
    def announced(self) -> bool:
        """Whether the client has been told the response's id."""
        return self._created is not None

    def see(self, frame: bytes, kind: bytes | None) -> None:
        """Take note of one frame, whose `events.kind` this is."""
        if _NUMBERED in frame:
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
            self._keep(events.member(frame, "item"))

    def ended(self, status: str, error: Mapping[str, str] | None = None) -> bytes:
        """The response object as it stands when the stream ends here."""
        created = self._created or response.unannounced(self._request_fields)
        return response.ended(created, status, self._items, error)

    def next_number(self) -> int:
        """The sequence number after the last event's."""
        number = events.sequence_number(self._last_event)
        return 0 if number is None else number + 1

    def _keep(self, item: bytes | None) -> None:
        if item is not None and len(item) <= self._room and is_json(item):
            self._room -= len(item)
            self._items.append(item)
