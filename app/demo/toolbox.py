"""Parse the tools of a call and choose one to call; the model fills its arguments."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.errors import InvalidRequestError
from app.wire.requests.field_rules import TOOL
from app.wire.requests.value_checks import array_of, enum, object_of, string

CALLABLE = ("function", "custom")

# Dated versions (`web_search_preview_2025_03_11`) are recognised by prefix.
_HOSTED = {
    "web_search": "web_search_call",
    "file_search": "file_search_call",
    "code_interpreter": "code_interpreter_call",
}
_CALLABLE_TOOL = object_of(optional={"parameters": object_of()})
_NAMESPACE = object_of(required={"name": string(), "tools": array_of(TOOL)})
_ALLOWED = object_of(required={"tools": array_of(object_of()), "mode": enum("auto", "required")})
_NAME_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_TEXT_WORD = re.compile(r"[^\W_]{3,}")
# Stop words for matching tools to texts, without a final s, as `_stem` leaves them.
_COMMON = frozenset(
    {
        *("about", "all", "and", "any", "are", "can", "could", "current", "doe", "find", "for", "from", "get", "given"),
        *("ha", "have", "how", "into", "list", "make", "not", "one", "please", "return", "run", "set", "show", "some"),
        *("tell", "that", "the", "their", "then", "there", "thi", "tool", "use", "used", "user", "using", "want", "wa"),
        *("what", "when", "where", "which", "will", "with", "would", "you", "your", "function", "value", "call"),
    }
)


@dataclass(frozen=True, slots=True)
class Tool:
    """Describe one tool. `parameters` is its JSON schema, `hosted_call` the item type if the model runs it itself."""

    type: str
    name: str = ""
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    namespace: str | None = None

    @property
    def hosted_call(self) -> str | None:
        """Return the item type of a hosted tool; None for the client's tools and unknown ones."""
        return next((call for begin, call in _HOSTED.items() if self.type.startswith(begin)), None)

    def mentioned_in(self, words: Collection[str]) -> int:
        """Count the words that match the tool; words of its name count double."""
        name = {_stem(word) for word in _NAME_WORD.findall(self.name)} - _COMMON
        return 2 * len(name.intersection(words)) + len(_words(self.description).intersection(words))


@dataclass(frozen=True, slots=True)
class Toolbox:
    """Hold the tools of a call and its choice. `named`: the call demands this very tool."""

    tools: Sequence[Tool]
    mode: str
    named: bool

    def pick(self, text: str, called: Collection[str]) -> Tool | None:
        """Choose the tool for the user's text, None for none; a tool in `called` is not called again."""
        if self.mode == "none":
            return None
        fresh = [tool for tool in self.tools if tool.type in CALLABLE and (self.named or tool.name not in called)]
        words = _words(text)
        best = max(fresh, key=lambda tool: tool.mentioned_in(words), default=None)
        if best and (self.mode == "required" or best.mentioned_in(words)):
            return best
        return next((tool for tool in self.tools if tool.hosted_call), None)


def read_toolbox(given: Sequence[Mapping[str, Any]], choice: str | Mapping[str, Any]) -> Toolbox:
    """Parse valid `tools` and `tool_choice`. Raises InvalidRequestError for a tool or choice it cannot have."""
    tools = [tool for index, entry in enumerate(given) for tool in _read(entry, f"tools[{index}]", None)]
    if isinstance(choice, str):
        if choice == "required" and not given:
            raise InvalidRequestError(
                "Tool choice 'required' must be specified with 'tools' parameter.", param="tool_choice"
            )
        return Toolbox(tools, choice, named=False)
    if choice["type"] == "allowed_tools":
        _ALLOWED(choice, "tool_choice")
        return Toolbox(_among(tools, choice["tools"]), choice["mode"], named=False)
    chosen = _among(tools, [choice])
    if choice["type"] in CALLABLE and not chosen:
        raise InvalidRequestError(
            f"Tool choice '{choice.get('name')}' not found in 'tools' parameter.", param="tool_choice"
        )
    return Toolbox(chosen, "required", named=True)


def _among(tools: Sequence[Tool], wanted: Sequence[Mapping[str, Any]]) -> list[Tool]:
    keys = [(entry.get("type"), entry.get("name") or "") for entry in wanted]
    return [tool for tool in tools if (tool.type, tool.name if tool.type in CALLABLE else "") in keys]


def _read(entry: Mapping[str, Any], path: str, namespace: str | None) -> Iterator[Tool]:
    kind = entry["type"]
    if kind == "namespace":
        _NAMESPACE(entry, path)
        for index, tool in enumerate(entry["tools"]):
            yield from _read(tool, f"{path}.tools[{index}]", entry["name"])
    elif kind in CALLABLE:
        _CALLABLE_TOOL(entry, path)
        yield Tool(kind, entry["name"], str(entry.get("description") or ""), entry.get("parameters") or {}, namespace)
    else:
        yield Tool(kind)


def _words(text: str) -> set[str]:
    return {_stem(word) for word in _TEXT_WORD.findall(text)} - _COMMON


def _stem(word: str) -> str:
    return word.lower().removesuffix("s")
