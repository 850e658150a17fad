"""Tell which call each fragment of a stream belongs to, which servers say in six ways, and what its arguments are."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.ids import new_id
from app.wire.json.repair import repaired

_LONGEST_ID = 64
# Longer arguments are not tried whether they are whole each time that a name comes behind them.
_LONGEST_TRIED = 64 * 1024
# The members that say what a custom tool is given, and what a search for tools looks for.
INPUT, _QUERY = "input", "query"
# How the arguments of a custom tool's call begin, and characters of a JSON string that are whole.
_INPUT_BEGINS = re.compile(r'\s*+\{\s*+"input"\s*+:\s*+"')
_WHOLE = re.compile(
    r'(?:[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}'
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*+"
)
_LONGEST_BEGINNING, _LONGEST_CHARACTER = 64, len(r"\ud83d\ude00")


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


class InputText:
    """Decode the raw text of a custom tool's call while its arguments come, where they begin with it."""

    def __init__(self) -> None:
        self._arguments: list[str] = []
        self._rest = ""
        self._has_begun = False
        self._is_over = False
        self._told: list[str] = []

    def feed(self, fragment: str) -> str:
        """Return the text that this part of the arguments completes."""
        self._arguments.append(fragment)
        if self._is_over:
            return ""
        self._rest += fragment
        if not self._has_begun:
            begins = _INPUT_BEGINS.match(self._rest)
            if begins is None:
                self._is_over = len(self._rest) > _LONGEST_BEGINNING
                return ""
            self._has_begun, self._rest = True, self._rest[begins.end() :]
        whole = _WHOLE.match(self._rest)
        found = whole.group() if whole is not None else ""
        self._rest = self._rest[len(found) :]
        # What is no whole character by now never will be: the text has ended, or it is no JSON.
        self._is_over = len(self._rest) >= _LONGEST_CHARACTER
        text: str = orjson.loads(f'"{found}"') if found else ""
        self._told.append(text)
        return text

    def finish(self) -> tuple[str, str]:
        """Return the whole text, and what of it `feed` has not returned."""
        told, arguments = "".join(self._told), "".join(self._arguments)
        said = input_of(arguments)
        if self._has_begun and (said == arguments or not said.startswith(told)):
            # The arguments were cut off, or say it twice.
            said = told
        return said, said[len(told) :]


def input_of(arguments: str) -> str:
    """Return the raw text of a custom tool's call: its `input`, else its only text, else the arguments as they are."""
    try:
        said = orjson.loads(repaired(arguments.encode(errors="replace")))
    except orjson.JSONDecodeError:
        return arguments
    if isinstance(said, str):
        return said
    if isinstance(said, dict):
        if isinstance(said.get(INPUT), str):
            return str(said[INPUT])
        texts = [value for value in said.values() if isinstance(value, str)]
        if len(texts) == len(said) == 1:
            return texts[0]
    return arguments


def search_of(arguments: str) -> dict[str, Any]:
    """Return the arguments of a search for tools, which are an object; what is none is what is looked for."""
    try:
        said = orjson.loads(repaired(arguments.encode(errors="replace")))
    except orjson.JSONDecodeError:
        said = arguments
    return said if isinstance(said, dict) else {_QUERY: said}


def arguments_of(call: Mapping[str, Any]) -> str:
    """Return the arguments of a call: those that stand for the raw text of a custom tool's, else its own as a text."""
    if call["type"] == "custom_tool_call":
        return orjson.dumps({INPUT: call["input"]}).decode()
    said = call.get("arguments")
    if isinstance(said, dict):
        # Some servers send an object.
        return orjson.dumps(said).decode()
    return said if isinstance(said, str) and said else "{}"
