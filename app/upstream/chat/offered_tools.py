"""Offer a client's tools to a chat model as functions, and restore what each of its calls is called by the client."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.settings.upstreams import ChatProfile
from app.upstream.transport import UnfitRequestError
from app.wire.requests.value_checks import Check, array, array_of, boolean, object_of, string, tagged

_LONGEST_NAME, _KEPT_OF_LONG, _DIGEST = 64, 55, 8
_BAD = re.compile(r"[^A-Za-z0-9_-]")
_CALLABLE = frozenset({"function", "custom"})
# What the client runs itself, in a form of their own.
_TYPED = frozenset({"local_shell", "shell", "apply_patch"})
_SEARCH = "tool_search"
_BETWEEN = "__"
_INPUT = "input"
_NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}
_ONE_TEXT: Mapping[str, Any] = {
    "type": "object",
    "properties": {_INPUT: {"type": "string"}},
    "required": [_INPUT],
    "additionalProperties": False,
}
_CHOICES = frozenset({"auto", "none", "required"})
_FOUND, _FOUND_NONE = "These tools can be called now: ", "No tool was found."

# The form of what is read here: items bring tools that nobody has checked.
_TEXT, _NAME = string(), string(non_empty=True)
_DESCRIBED: Mapping[str, Check] = {"description": _TEXT}
_TOOL = tagged(
    _TEXT,
    {
        "function": object_of(
            required={"name": _NAME}, optional={**_DESCRIBED, "parameters": object_of(), "strict": boolean}
        ),
        "custom": object_of(
            required={"name": _NAME},
            optional={**_DESCRIBED, "format": object_of(optional=dict.fromkeys(("syntax", "definition"), _TEXT))},
        ),
        "namespace": object_of(required={"name": _NAME}, optional={**_DESCRIBED, "tools": array}),
        "tool_search": object_of(optional={**_DESCRIBED, "parameters": object_of(), "execution": _TEXT}),
    },
)
_CHOICE = object_of(required={"type": _TEXT}, optional={"name": _TEXT, "namespace": _TEXT})
_ALLOWED = object_of(required={"tools": array_of(_CHOICE)}, optional={"mode": _TEXT})


@dataclass(frozen=True, slots=True)
class Declared:
    """Name a tool as the client declared it."""

    kind: str
    name: str
    namespace: str | None = None


@dataclass(slots=True)
class Offer:
    """Hold the functions that a model is offered, and which tool of the client's each of them is, by its name.

    `names` has the name of each tool of the client's, by its namespace and its own name; `dropped` the paths of those
    that were left out.
    """

    functions: dict[str, dict[str, Any]] = field(default_factory=dict)
    declared: dict[str, Declared] = field(default_factory=dict)
    names: dict[tuple[str | None, str], str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)

    def restored(self, name: str) -> Declared:
        """Return the tool of a call; one that was never offered is a function of that name."""
        return self.declared.get(name) or Declared("function", name)

    def name_of(self, name: str, namespace: str | None) -> str:
        """Return the name under which the model knows this tool, now or in an earlier turn: no other tool has it."""
        if (known := self.names.get((namespace, name))) is not None:
            return known
        flat, identity = _flat(name, namespace), f"{namespace}\n{name}"
        if _BAD.search(flat) or len(flat) > _LONGEST_NAME:
            flat = _hashed(flat, identity)
        while flat in self.declared:
            identity += "\n"
            flat = _hashed(flat, identity)
        return flat

    def found(self, tools: Any) -> str:
        """Say to the model which tools a search of the client's has found: they are in the offer by now."""
        named = ((each.get("name") if each["type"] == "namespace" else None, each) for each in tools or ())
        single = [(space, tool) for space, each in named for tool in (each.get("tools") or () if space else (each,))]
        names = [self.names[key] for space, tool in single if (key := (space, tool.get("name"))) in self.names]
        return f"{_FOUND}{', '.join(dict.fromkeys(names))}" if names else _FOUND_NONE

    def by_bare_name(self) -> dict[str, str]:
        """Return the functions by the clients' own names of them, whatever their namespace; the first of each."""
        return {each.name: name for name, each in reversed(self.declared.items())}


def offer_of(
    tools: Sequence[Any] | None, brought: Iterable[tuple[int, Mapping[str, Any]]], profile: ChatProfile
) -> Offer:
    """Make the offer of a request's `tools`, and of those that items of its input bring; the first of a name wins.

    Raises UnfitRequestError for a tool that no chat model can be given, InvalidRequestError for one that is malformed.
    """
    offer = Offer()
    hosted = _add_all(offer, tools, "tools")
    beside = [path for index, item in brought for path in _add_all(offer, item.get("tools"), f"input[{index}].tools")]
    refused = [*hosted, *beside]
    if refused and (profile.hosted_tools == "refuse" or (profile.hosted_tools == "auto" and not offer.functions)):
        raise UnfitRequestError(f"{refused[0]}.type")
    # A client is told the places in what it sent: an item may have come in an earlier turn.
    offer.dropped = [*hosted, *(["input"] if beside else [])]
    return offer


def choose(offer: Offer, choice: Any, profile: ChatProfile) -> Any:
    """Return the chat form of a `tool_choice`, None for none; a choice of some tools takes the others from the offer.

    Raises UnfitRequestError for a tool that is not offered, and for a demand that the server does not know;
    InvalidRequestError for a choice that is malformed.
    """
    if isinstance(choice, Mapping):
        _CHOICE(choice, "tool_choice")
        kind = choice["type"]
        if kind == "allowed_tools":
            _ALLOWED(choice, "tool_choice")
            bare = offer.by_bare_name()
            wanted = {_chosen(offer, bare, each) for each in choice["tools"]}
            offer.functions = {name: tool for name, tool in offer.functions.items() if name in wanted}
            choice = choice.get("mode") or "auto"
        elif kind in _CALLABLE:
            if profile.tool_choice != "full":
                raise UnfitRequestError("tool_choice")
            return {"type": "function", "function": {"name": _chosen(offer, offer.by_bare_name(), choice)}}
        else:
            choice = {"any": "required"}.get(kind, kind)
    if choice is None:
        return None
    if choice not in _CHOICES or (choice == "required" and not (profile.tool_choice == "full" and offer.functions)):
        raise UnfitRequestError("tool_choice")
    return choice


def is_hosted_search(item: Mapping[str, Any]) -> bool:
    """Tell whether an item is of a search for tools that OpenAI made, and not the client."""
    is_search = item.get("type") in {"tool_search_call", "tool_search_output"}
    return is_search and (item.get("execution") == "server" or item.get("call_id") is None)


def _chosen(offer: Offer, bare: Mapping[str, str], choice: Mapping[str, Any]) -> str:
    """Return the function of a tool that is chosen; a member of a namespace may be chosen by its bare name."""
    own = str(choice.get("name"))
    name = offer.names.get((choice.get("namespace"), own)) or bare.get(own, own)
    if name not in offer.functions:
        raise UnfitRequestError("tool_choice")
    return name


def _add_all(offer: Offer, tools: Any, path: str, space: Mapping[str, Any] | None = None) -> list[str]:
    """Offer these tools, members of a namespace where there is a `space`; return the paths of hosted ones."""
    hosted: list[str] = []
    if tools is not None:
        array(tools, path)
    for index, tool in enumerate(tools or ()):
        at = f"{path}[{index}]"
        _TOOL(tool, at)
        kind = tool["type"]
        if kind in _CALLABLE or (kind == _SEARCH and tool.get("execution") == "client"):
            _add_function(offer, tool, space)
        elif kind in _TYPED or (kind == "namespace" and space is not None):
            raise UnfitRequestError(f"{at}.type")
        elif kind == "namespace":
            hosted += _add_all(offer, tool.get("tools"), f"{at}.tools", tool)
        else:
            hosted.append(at)
    return hosted


def _add_function(offer: Offer, tool: Mapping[str, Any], space: Mapping[str, Any] | None) -> None:
    kind = tool["type"]
    own = _SEARCH if kind == _SEARCH else tool["name"]
    namespace = None if space is None else space["name"]
    if (namespace, own) in offer.names:
        return
    name = offer.name_of(own, namespace)
    function: dict[str, Any] = {"name": name}
    if description := _description(tool, space):
        function["description"] = description
    if kind == "custom":
        function["parameters"] = _ONE_TEXT
    else:
        function["parameters"] = {**_NO_PARAMETERS, **(tool.get("parameters") or {})}
        if tool.get("strict") is not None:
            function["strict"] = tool["strict"]
    offer.functions[name] = {"type": "function", "function": function}
    offer.declared[name] = Declared(kind, own, namespace)
    offer.names[namespace, own] = name


def _description(tool: Mapping[str, Any], space: Mapping[str, Any] | None) -> str:
    parts = [space.get("description") if space else None, tool.get("description")]
    form = tool.get("format") or {}
    if tool["type"] == "custom" and form.get("type") == "grammar":
        parts.append(f"The input must match this {form.get('syntax')} grammar:\n{form.get('definition')}")
    return "\n\n".join([part for part in parts if part])


def _flat(name: str, namespace: str | None) -> str:
    if namespace is None or name.startswith("mcp__"):
        return name
    before = namespace if namespace.endswith(_BETWEEN) else f"{namespace}{_BETWEEN}"
    return name if name.startswith(before) else f"{before}{name}"


def _hashed(name: str, identity: str) -> str:
    digest = hashlib.sha256(identity.encode()).hexdigest()[:_DIGEST]
    return f"{_BAD.sub('_', name)[:_KEPT_OF_LONG]}_{digest}"
