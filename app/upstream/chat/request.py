"""Translate the parameters of a request: what chat has a name for, what may be dropped, and what is refused."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from app.errors import InvalidRequestError
from app.settings.upstreams import ChatProfile
from app.state.items.token_estimate import estimate_bytes, estimate_request
from app.upstream.chat.errors import RESPONSES_NAMES
from app.upstream.chat.messages import Message, Messages
from app.upstream.chat.offered_tools import Offer, choose, offer_of
from app.upstream.chat.reasoning import Thoughts
from app.upstream.transport import UnfitRequestError
from app.wire.json.tokenizer import is_deeper
from app.wire.requests.field_rules import STRUCTURAL_RULES
from app.wire.requests.value_checks import Check, array, either, string
from app.wire.responses.echo import echo

_SAME = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
# What the gateway has seen to, or this module reads by name.
_READ = frozenset(
    {
        *("model", "input", "instructions", "stream", "max_output_tokens", *_SAME, "top_logprobs", "include", "tools"),
        *("tool_choice", "parallel_tool_calls", "text", "reasoning", "previous_response_id", "conversation", "store"),
        *("background", "context_management", "metadata"),
    }
)
# Without these the caller would get something else than was asked for.
_BINDING = ("prompt", "moderation", "n")
# Values that say what happens anyway.
_IDLE: Mapping[str, tuple[Any, ...]] = {"truncation": ("disabled",), "service_tier": ("auto", "default"), "n": (1,)}
# The form of what is read here. The tools are checked where they are offered, and the items where they are messages.
_CHECKS: Mapping[str, Check] = {
    **STRUCTURAL_RULES,
    "input": either("one of a string or array of input items", {str: string(), list: array}),
    "tools": array,
}
# orjson writes 254 levels; a schema stands some below the member that has it.
_DEEPEST = 240
# Clients make up names of any length and letters; a header and the log have them.
_UNTOLD, _LONGEST_TOLD, _LONGEST_LIST = re.compile(r"[^\w.\[\]-]", re.ASCII), 64, 512
_SEALED, _LOGPROBS = "reasoning.encrypted_content", "message.output_text.logprobs"
_BRINGING = ("additional_tools", "tool_search_output")
_SCHEMA_FOLLOWS = "Answer with JSON that satisfies this schema:\n"
_INLINE = b";base64,"


@dataclass(slots=True)
class ChatRequest:
    """Hold what a chat server is sent, and what its answer is read by.

    `echoed` begins the response object; `dropped` names what was left out. `input_tokens` is an estimate.
    """

    body: bytes
    echoed: dict[str, Any]
    offer: Offer
    dropped: list[str]
    has_logprobs: bool
    input_tokens: int

    @property
    def told(self) -> str:
        """Return the names of what was left out, as a header and the log have them: as many as fit."""
        told = ",".join(self.dropped)
        return told if len(told) <= _LONGEST_LIST else told[:_LONGEST_LIST].rpartition(",")[0]

    def release(self) -> bytes:
        """Return the body, and hold it and the schemas of its tools no longer: the answer is read without them."""
        body, self.body = self.body, b""
        self.offer.functions, self.offer.names = {}, {}
        return body


def chat_request(
    fields: Mapping[str, Any], profile: ChatProfile, open_thoughts: Callable[[Mapping[str, Any]], Thoughts]
) -> ChatRequest:
    """Translate a stateless request. Raises UnfitRequestError for what would change the answer if it were left out.

    What is malformed is refused as unfit, too, in the API's words: another upstream may know what is meant.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        for name, value in given.items():
            if (check := _CHECKS.get(name)) is not None:
                check(value, name)
        return _translated(given, profile, open_thoughts)
    except InvalidRequestError as error:
        raise UnfitRequestError(error.param or "input", cause=error) from None
    except (orjson.JSONEncodeError, RecursionError):
        deep = next((name for name, value in given.items() if is_deeper([value], _DEEPEST)), "input")
        raise UnfitRequestError(deep) from None


def _translated(
    given: Mapping[str, Any], profile: ChatProfile, open_thoughts: Callable[[Mapping[str, Any]], Thoughts]
) -> ChatRequest:
    for name in _BINDING:
        if name in given and given[name] not in _IDLE.get(name, ()):
            raise UnfitRequestError(name)
    items = given.get("input", "")
    bringing = () if isinstance(items, str) else enumerate(items)
    brought = [(index, item) for index, item in bringing if isinstance(item, dict) and item.get("type") in _BRINGING]
    offer = offer_of(given.get("tools"), brought, profile)
    choice = choose(offer, given.get("tool_choice"), profile)
    dropped = [*offer.dropped]
    body: dict[str, Any] = {"model": given.get("model"), "messages": []}
    schema = _formatted(body, given, profile)
    has_logprobs = _logprobs(body, given, profile, dropped)
    _sampled(body, given, profile, dropped)
    if offer.functions:
        said = {"tool_choice": choice, "parallel_tool_calls": given.get("parallel_tool_calls")}
        body["tools"] = list(offer.functions.values())
        body |= {name: value for name, value in said.items() if value is not None}
    others = [name for name in given if name not in _READ and given[name] not in _IDLE.get(name, ())]
    # What is passed on takes the place of nothing that was translated.
    body = {**{name: given[name] for name in others if name in profile.passes}, **body}
    dropped += [name for name in others if name not in profile.passes]
    body["messages"] = Messages(profile, offer, open_thoughts).assemble(given.get("instructions"), items)
    if schema is not None:
        _describe(schema, body["messages"], profile)
    dropped += _omitted(body, given, profile)
    body |= profile.extra_body
    written = orjson.dumps(body)
    tokens = estimate_request(given) if written.find(_INLINE) >= 0 else estimate_bytes(len(written))
    echoed = {**echo(given), "store": False, "background": False, "previous_response_id": None}
    # What is too deep to be repeated in the answer is refused before it is asked for.
    orjson.dumps(echoed)
    named = [_UNTOLD.sub("_", name[:_LONGEST_TOLD]) for name in dropped]
    return ChatRequest(written, echoed, offer, named, has_logprobs, tokens)


def _omitted(body: dict[str, Any], given: Mapping[str, Any], profile: ChatProfile) -> list[str]:
    """Take away what the server is never sent; return what the client calls those that it asked for."""
    taken = [name for name in profile.omit if body.pop(name, None) is not None]
    return [name if name in given else RESPONSES_NAMES[name] for name in taken if name in {*given, *RESPONSES_NAMES}]


def _formatted(body: dict[str, Any], given: Mapping[str, Any], profile: ChatProfile) -> Any:
    """Set the form of the text; return the schema that the server is to be told, as it enforces none."""
    form = given.get("text", {}).get("format") or {"type": "text"}
    kind = form["type"]
    if kind == "text":
        return None
    if kind not in {"json_object", "json_schema"}:
        raise UnfitRequestError("text.format.type")
    if profile.json_schema == "none":
        raise UnfitRequestError("text.format")
    if kind == "json_object" or profile.json_schema == "json_object":
        if form.get("strict"):
            raise UnfitRequestError("text.format.strict")
        body["response_format"] = {"type": "json_object"}
        return form.get("schema")
    schema = {name: form[name] for name in ("name", "description", "schema", "strict") if form.get(name) is not None}
    body["response_format"] = {"type": kind, "json_schema": schema}
    return None


def _describe(schema: Any, messages: list[Message], profile: ChatProfile) -> None:
    """Say a schema in the leading system message."""
    said = f"{_SCHEMA_FOLLOWS}{orjson.dumps(schema).decode()}"
    if messages and messages[0]["role"] == profile.system_role:
        messages[0] = {**messages[0], "content": f"{messages[0]['content']}\n\n{said}"}
    else:
        messages.insert(0, {"role": profile.system_role, "content": said})


def _logprobs(body: dict[str, Any], given: Mapping[str, Any], profile: ChatProfile, dropped: list[str]) -> bool:
    """Ask for log probabilities, where the caller does; name the other members of `include` that nothing answers."""
    wanted = bool(given.get("top_logprobs"))
    if wanted and not profile.logprobs:
        raise UnfitRequestError("top_logprobs")
    for index, name in enumerate(given.get("include") or ()):
        if name == _LOGPROBS:
            if not profile.logprobs:
                raise UnfitRequestError(f"include[{index}]")
            wanted = True
        elif name != _SEALED:
            dropped.append(f"include[{index}]")
    if wanted:
        body["logprobs"] = True
        body["top_logprobs"] = given.get("top_logprobs") or 0
    return wanted


def _sampled(body: dict[str, Any], given: Mapping[str, Any], profile: ChatProfile, dropped: list[str]) -> None:
    body |= {name: given[name] for name in _SAME if name in given}
    if "max_output_tokens" in given:
        body[profile.max_tokens_as] = given["max_output_tokens"]
    if given.get("stream"):
        body["stream"] = True
        if profile.include_usage:
            body["stream_options"] = {"include_usage": True}
    verbosity = given.get("text", {}).get("verbosity")
    if verbosity is not None:
        if "verbosity" in profile.passes:
            body["verbosity"] = verbosity
        else:
            dropped.append("text.verbosity")
    reasoning = given.get("reasoning", {})
    dropped += [f"reasoning.{name}" for name in ("context", "mode") if reasoning.get(name) is not None]
    effort = reasoning.get("effort")
    if effort is not None and not _set_effort(body, str(effort), profile):
        dropped.append("reasoning.effort")


def _set_effort(body: dict[str, Any], effort: str, profile: ChatProfile) -> bool:
    """Say the effort in the one member that the server reads; return whether it has any."""
    is_off, mapped = effort == "none", profile.effort_map.get(effort, effort)
    match profile.effort_as:
        case "thinking" if is_off:
            body["thinking"] = {"type": "disabled"}
        case "reasoning.effort":
            body["reasoning"] = {"effort": mapped}
        case "chat_template_kwargs":
            body["chat_template_kwargs"] = {"enable_thinking": not is_off}
        case "reasoning_effort" | "thinking" if not is_off or "none" in profile.effort_map or not profile.effort_map:
            body["reasoning_effort"] = mapped
        case _:
            return False
    return True
