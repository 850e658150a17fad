"""Convert a whole response to the events of a stream, for a client that asked for one where upstream did not stream."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import orjson

from app.wire import sse
from app.wire.json.sliced_decoder import decode
from app.wire.json_body import Json, join_object, members
from app.wire.responses import response_object

_TERMINAL_KINDS: Mapping[str, str] = MappingProxyType(
    {"incomplete": "response.incomplete", "failed": "response.failed", "cancelled": "response.failed"}
)
# The empty members of an item that is announced.
_UNFINISHED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "message": {"content": []},
        "reasoning": {"summary": []},
        "function_call": {"arguments": ""},
        "custom_tool_call": {"input": ""},
    }
)

_Event = dict[str, Any]


def frames_of(body: bytes) -> list[bytes]:
    """Make the frames of a stream with what this response object says, from `response.created` to the terminal event.

    Empty for what is no response object.
    """
    facts = response_object.read(body)
    if facts is None:
        return []
    begun = _begun(facts)
    frames = [_around(kind, number, begun) for number, kind in enumerate(("response.created", "response.in_progress"))]
    for place, item in enumerate(facts.output):
        for event in _of_item(decode(item)):
            data = {"type": event["type"], "sequence_number": len(frames), "output_index": place, **event}
            frames.append(sse.frame(event["type"], orjson.dumps(data)))
    frames.append(_around(_TERMINAL_KINDS.get(facts.status, "response.completed"), len(frames), facts.raw))
    return frames


def _begun(facts: response_object.ResponseFacts) -> bytes:
    """Make the response object of the first events: in progress, without output and usage."""
    value = {**members(facts.raw), "usage": Json(b"null"), "completed_at": Json(b"null")}
    return response_object.ended(join_object(value), "in_progress", [])


def _around(kind: str, number: int, body: bytes) -> bytes:
    # A line break in JSON is white space, and would end the line of data.
    data = b'{"type":"%b","sequence_number":%d,"response":%b}' % (kind.encode(), number, body.replace(b"\n", b" "))
    return sse.frame(kind, data)


def _of_item(item: Mapping[str, Any]) -> Iterator[_Event]:
    item_type = item.get("type")
    empty = _UNFINISHED.get(str(item_type), {})
    begun = {**{name: value for name, value in item.items() if name != "content"}, **empty}
    if "status" in item:
        begun["status"] = "in_progress"
    yield {"type": "response.output_item.added", "item": begun}
    for event in _inside(str(item_type), item):
        yield {"item_id": item.get("id") or "", **event}
    yield {"type": "response.output_item.done", "item": item}


def _inside(item_type: str, item: Mapping[str, Any]) -> Iterator[_Event]:
    match item_type:
        case "message":
            yield from _of_contents(item)
        case "reasoning":
            for place, part in enumerate(_parts(item.get("summary"))):
                yield from ({"summary_index": place, **event} for event in _of_summary(part))
            yield from _of_contents(item)
        case "function_call":
            value = item.get("arguments") or ""
            yield {"type": "response.function_call_arguments.delta", "delta": value}
            yield {"type": "response.function_call_arguments.done", "arguments": value, "name": item.get("name")}
        case "custom_tool_call":
            value = item.get("input") or ""
            yield {"type": "response.custom_tool_call_input.delta", "delta": value}
            yield {"type": "response.custom_tool_call_input.done", "input": value}


def _of_contents(item: Mapping[str, Any]) -> Iterator[_Event]:
    for place, part in enumerate(_parts(item.get("content"))):
        yield from ({"content_index": place, **event} for event in _of_content(part))


def _of_content(part: Mapping[str, Any]) -> Iterator[_Event]:
    match part.get("type"):
        case "output_text":
            text, logprobs = part.get("text") or "", part.get("logprobs") or []
            yield {"type": "response.content_part.added", "part": {**part, "text": "", "annotations": []}}
            yield {"type": "response.output_text.delta", "delta": text, "logprobs": logprobs}
            yield {"type": "response.output_text.done", "text": text, "logprobs": logprobs}
        case "refusal":
            refusal = part.get("refusal") or ""
            yield {"type": "response.content_part.added", "part": {**part, "refusal": ""}}
            yield {"type": "response.refusal.delta", "delta": refusal}
            yield {"type": "response.refusal.done", "refusal": refusal}
        case "reasoning_text":
            text = part.get("text") or ""
            yield {"type": "response.content_part.added", "part": {**part, "text": ""}}
            yield {"type": "response.reasoning_text.delta", "delta": text}
            yield {"type": "response.reasoning_text.done", "text": text}
        case _:
            yield {"type": "response.content_part.added", "part": part}
    yield {"type": "response.content_part.done", "part": part}


def _of_summary(part: Mapping[str, Any]) -> Iterator[_Event]:
    text = part.get("text") or ""
    yield {"type": "response.reasoning_summary_part.added", "part": {**part, "text": ""}}
    yield {"type": "response.reasoning_summary_text.delta", "delta": text}
    yield {"type": "response.reasoning_summary_text.done", "text": text}
    yield {"type": "response.reasoning_summary_part.done", "part": part}


def _parts(value: Any) -> list[Mapping[str, Any]]:
    return [part for part in value if isinstance(part, Mapping)] if isinstance(value, list) else []
