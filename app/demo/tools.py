"""The tools a call offers and the choice among them. It calls none; filling the arguments is the model's business."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.demo.parameters import invalid_type, invalid_value, missing
from app.errors import InvalidRequestError

CALLABLE = ("function", "custom")

_MODES = ("none", "auto", "required")
# Dated versions (`web_search_preview_2025_03_11`) are told by their beginning.
_HOSTED = {
    "web_search": "web_search_call",
    "file_search": "file_search_call",
    "code_interpreter": "code_interpreter_call",
}
_NAME_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_TEXT_WORD = re.compile(r"[^\W_]{3,}")
# Words that tools share tell nothing about which one is meant. Without a final s, as `_stem` leaves them.
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
    """One offered tool. `parameters` is its JSON schema, `hosted_call` the item type if the model runs it itself."""

    type: str
    name: str = ""
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    namespace: str | None = None

    @property
    def hosted_call(self) -> str | None:
        """None for a tool the client runs, and for one this model does not have."""
        return next((call for begin, call in _HOSTED.items() if self.type.startswith(begin)), None)

    def mentioned_in(self, words: Collection[str]) -> int:
        """How many of these words speak of the tool; its name counts double."""
        name = {_stem(word) for word in _NAME_WORD.findall(self.name)} - _COMMON
        return 2 * len(name.intersection(words)) + len(_words(self.description).intersection(words))


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools among which a call leaves the choice. `named` means that it asks for this very one."""

    tools: Sequence[Tool]
    mode: str
    named: bool

    def pick(self, text: str, called: Collection[str]) -> Tool | None:
        """The tool to use for what the user says, None for none. A tool already `called` is not called again."""
        if self.mode == "none":
            return None
        fresh = [tool for tool in self.tools if tool.type in CALLABLE and (self.named or tool.name not in called)]
        words = _words(text)
        best = max(fresh, key=lambda tool: tool.mentioned_in(words), default=None)
        if best and (self.mode == "required" or best.mentioned_in(words)):
            return best
        return next((tool for tool in self.tools if tool.hosted_call), None)


def read_toolbox(given: Sequence[Any], choice: Any) -> Toolbox:
    """The `tools` and `tool_choice` parameters. Raises InvalidRequestError for a tool or a choice that cannot be."""
    tools = [tool for index, entry in enumerate(given) for tool in _read(entry, f"tools[{index}]", None)]
    if isinstance(choice, str):
        if choice not in _MODES:
            raise invalid_value("tool_choice", choice, _MODES)
        if choice == "required" and not given:
            raise InvalidRequestError(
                "Tool choice 'required' must be specified with 'tools' parameter.", param="tool_choice"
            )
        return Toolbox(tools, choice, named=False)
    if not isinstance(choice, Mapping):
        raise invalid_type("tool_choice", "one of a string or an object", choice)
    if choice.get("type") == "allowed_tools":
        return _allowed(tools, choice)
    chosen = _among(tools, [choice])
    if choice.get("type") in CALLABLE and not chosen:
        raise InvalidRequestError(
            f"Tool choice '{choice.get('name')}' not found in 'tools' parameter.", param="tool_choice"
        )
    return Toolbox(chosen, "required", named=True)


def _allowed(tools: Sequence[Tool], choice: Mapping[str, Any]) -> Toolbox:
    wanted, mode = choice.get("tools"), choice.get("mode")
    if not isinstance(wanted, list):
        raise missing("tool_choice.tools")
    if mode not in _MODES[1:]:
        raise invalid_value("tool_choice.mode", mode, _MODES[1:])
    return Toolbox(_among(tools, [entry for entry in wanted if isinstance(entry, Mapping)]), mode, named=False)


def _among(tools: Sequence[Tool], wanted: Sequence[Mapping[str, Any]]) -> list[Tool]:
    keys = [(entry.get("type"), entry.get("name") or "") for entry in wanted]
    return [tool for tool in tools if (tool.type, tool.name if tool.type in CALLABLE else "") in keys]


def _read(entry: Any, path: str, namespace: str | None) -> Iterator[Tool]:
    if not isinstance(entry, Mapping):
        raise invalid_type(path, "an object", entry)
    kind = _text(entry, "type", path)
    if kind == "namespace":
        inner = entry.get("tools")
        if not isinstance(inner, list):
            raise missing(f"{path}.tools")
        name = _text(entry, "name", path)
        for index, tool in enumerate(inner):
            yield from _read(tool, f"{path}.tools[{index}]", name)
    elif kind in CALLABLE:
        name, description, parameters = _text(entry, "name", path), entry.get("description"), entry.get("parameters")
        if parameters is not None and not isinstance(parameters, Mapping):
            raise invalid_type(f"{path}.parameters", "an object", parameters)
        yield Tool(kind, name, str(description or ""), parameters or {}, namespace)
    else:
        yield Tool(kind)


def _text(entry: Mapping[str, Any], name: str, path: str) -> str:
    value = entry.get(name)
    if value is None:
        raise missing(f"{path}.{name}")
    if not isinstance(value, str):
        raise invalid_type(f"{path}.{name}", "a string", value)
    return value


def _words(text: str) -> set[str]:
    return {_stem(word) for word in _TEXT_WORD.findall(text)} - _COMMON


def _stem(word: str) -> str:
    return word.lower().removesuffix("s")
