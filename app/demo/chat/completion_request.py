"""Write a chat request as the body of a create call, as far as the demo model knows its members."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import orjson

from app.wire.requests.passthrough_request import parse_passthrough_request
from app.wire.requests.response_in_chat import flat_tool
from app.wire.requests.value_checks import Check, array_of, object_of

_MAX_DEPTH = 250
_LEAST_OUTPUT = 16
_SAME = ("model", "stream", "temperature", "top_p", "user", "parallel_tool_calls", "service_tier", "metadata")
_TEXT_OF = {"assistant": "output_text"}
# What is read below, where the gateway itself leaves it to upstream.
_CALLS = array_of(object_of(optional={"function": object_of()}))
_CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "messages": array_of(object_of(optional={"tool_calls": _CALLS})),
        "tools": array_of(object_of()),
        "response_format": object_of(optional={"json_schema": object_of()}),
    }
)


def as_create_body(raw: bytes) -> tuple[bytes, bool]:
    """Return the body of the create call, and whether the stream's usage is asked for. Raises InvalidRequestError."""
    request = parse_passthrough_request("chat", raw, _MAX_DEPTH)
    given = {**request.fields, "messages": [*request.given]}
    for name, check in _CHECKS.items():
        if given.get(name) is not None:
            check(given[name], name)
    body = {name: given[name] for name in _SAME if given.get(name) is not None}
    body |= {"input": [*_items(given["messages"])], "store": False}
    most = given.get("max_completion_tokens") or given.get("max_tokens")
    if most is not None:
        body["max_output_tokens"] = max(_LEAST_OUTPUT, most)
    if given.get("reasoning_effort"):
        body["reasoning"] = {"effort": given["reasoning_effort"]}
    if given.get("tools"):
        body["tools"] = [flat_tool(tool) for tool in given["tools"]]
    if given.get("tool_choice") is not None:
        body["tool_choice"] = flat_tool(given["tool_choice"])
    form = given.get("response_format")
    if isinstance(form, Mapping):
        body["text"] = {"format": {"type": form.get("type"), **(form.get("json_schema") or {})}}
    return orjson.dumps(body), request.includes_usage


def _items(messages: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for message in messages:
        role, content = message.get("role"), message.get("content")
        if role == "tool":
            output = {"call_id": message.get("tool_call_id"), "output": _text(content)}
            yield {"type": "function_call_output", **output}
            continue
        if content:
            parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
            yield {"role": role, "content": [_part(part, _TEXT_OF.get(str(role), "input_text")) for part in parts]}
        for call in message.get("tool_calls") or ():
            yield {"type": "function_call", "call_id": call.get("id"), **(call.get("function") or {})}


def _part(part: Any, text_type: str) -> Any:
    match part:
        case {"type": "text"}:
            return {**part, "type": text_type}
        case {"type": "image_url", "image_url": {"url": url}}:
            return {"type": "input_image", "image_url": url, "detail": "auto"}
        case {"type": "file", "file": dict(file)}:
            return {"type": "input_file", **file}
    return part


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""
