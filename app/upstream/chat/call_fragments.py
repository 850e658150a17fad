"""Tell which tool call each fragment of a stream belongs to: servers number, name and repeat them in six ways."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.ids import new_id

_LONGEST_ID = 64
# Longer arguments are not tried whether they are whole each time that a name comes behind them.
_LONGEST_TRIED = 64 * 1024


@dataclass(slots=True, eq=False)
class ToolCall:
    """Hold one call of the model's, as far as it has come. `extra` is what its provider wants back with it.

    `place` is its place in the output, once it is announced there; `size` the length of its arguments.
    """

    upstream_id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    extra: Any = None
    place: int | None = None
    size: int = 0
    _call_id: str = ""

    @property
    def call_id(self) -> str:
        """Return upstream's id, or one of ours where upstream has given none that can be used; the same ever after."""
        if not self._call_id:
            is_usable = 0 < len(self.upstream_id) <= _LONGEST_ID
            self._call_id = self.upstream_id if is_usable else new_id("call")
        return self._call_id

    @property
    def is_whole(self) -> bool:
        """Tell whether the arguments are JSON as they are."""
        try:
            orjson.loads("".join(self.arguments))
        except orjson.JSONDecodeError:
            return False
        return bool(self.name)

    def add(self, text: str) -> None:
        """Add to the arguments."""
        self.arguments.append(text)
        self.size += len(text)

    def add_name(self, fragment: str) -> None:
        """Add to the name: some servers cut it, some send all of it again, some all that there is so far."""
        if fragment.startswith(self.name):
            self.name = fragment
        elif fragment and not self.name.startswith(fragment):
            self.name += fragment


class CallFragments:
    """Assemble the tool calls of one completion, in the order in which they began."""

    def __init__(self) -> None:
        self.calls: list[ToolCall] = []
        self._by_index: dict[int, ToolCall] = {}
        self._by_id: dict[str, ToolCall] = {}

    def feed(self, fragments: Sequence[Any]) -> Iterator[tuple[ToolCall, str]]:
        """Yield the call of each fragment, with the argument text that it adds, before the next one is read."""
        is_alone = len(fragments) == 1
        for place, fragment in enumerate(fragments):
            if isinstance(fragment, dict):
                yield self._add(fragment, None if is_alone else place)

    def _add(self, fragment: dict[str, Any], place: int | None) -> tuple[ToolCall, str]:
        function = fragment.get("function")
        function = function if isinstance(function, dict) else fragment
        name, said = function.get("name"), function.get("arguments", function.get("input"))
        name = name if isinstance(name, str) else ""
        call_id = fragment.get("id")
        call_id = call_id if isinstance(call_id, str) else ""
        call = self._call_of(fragment.get("index"), call_id, name, place)
        if call_id and not call.upstream_id:
            call.upstream_id = call_id
            self._by_id[call_id] = call
        if name and call.place is None:
            call.add_name(name)
        if fragment.get("extra_content") is not None:
            call.extra = fragment["extra_content"]
        # Some servers send an object in place of its JSON.
        text = said if isinstance(said, str) else "" if said is None else orjson.dumps(said).decode()
        if text:
            call.add(text)
        return call, text

    def _call_of(self, index: Any, call_id: str, name: str, place: int | None) -> ToolCall:
        if call_id in self._by_id:
            return self._by_id[call_id]
        if type(index) is int:
            call = self._by_index.get(index)
            # Another id at the same index is another call: some servers send 0 for all.
            if call is None or (call_id and call.upstream_id):
                call = self._by_index[index] = self._begin()
            return call
        if call_id or (place or 0) >= len(self.calls):
            return self._begin()
        likely = self.calls[-1 if place is None else place]
        # A name behind whole arguments begins a call; behind others it is only repeated.
        return self._begin() if name and likely.size < _LONGEST_TRIED and likely.is_whole else likely

    def _begin(self) -> ToolCall:
        self.calls.append(call := ToolCall())
        return call
