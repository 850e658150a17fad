"""The shapes in which chat servers stream: seven of tool calls, five of usage. Each makes deltas or chunks."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

Chunk = dict[str, Any]
Calls = list[dict[str, str]]
Fragments = list[dict[str, Any]]


def chunk(delta: Mapping[str, Any], finish_reason: str | None = None, **more: Any) -> Chunk:
    """One chunk with one choice."""
    choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 5,
        "model": "m-1",
        "choices": choices,
    } | more


def _standard(calls: Calls) -> Iterator[Fragments]:
    for place, call in enumerate(calls):
        yield [
            {"index": place, "id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": ""}}
        ]
    halves = [(call["arguments"][:4], call["arguments"][4:]) for call in calls]
    for half in (0, 1):
        for place, parts in enumerate(halves):
            yield [{"index": place, "function": {"arguments": parts[half]}}]


def _same_index(calls: Calls) -> Iterator[Fragments]:
    for call in calls:
        yield [{"index": 0, "id": call["id"], "function": {"name": call["name"], "arguments": call["arguments"]}}]


def _no_index(calls: Calls) -> Iterator[Fragments]:
    for call in calls:
        yield [{"id": call["id"], "function": {"name": call["name"], "arguments": call["arguments"][:4]}}]
        yield [{"function": {"arguments": call["arguments"][4:]}}]


def _id_again(calls: Calls) -> Iterator[Fragments]:
    for place, call in enumerate(calls):
        yield [{"index": place, "id": call["id"], "function": {"name": call["name"], "arguments": ""}}]
        for part in (call["arguments"][:4], call["arguments"][4:]):
            yield [{"index": place + 7, "id": call["id"], "function": {"name": call["name"], "arguments": part}}]


def _no_id(calls: Calls) -> Iterator[Fragments]:
    for place, call in enumerate(calls):
        yield [{"index": place, "function": {"name": call["name"][:3], "arguments": None}}]
        yield [{"index": place, "id": "", "function": {"name": call["name"][3:]}}]
        yield [{"index": place, "function": {"arguments": call["arguments"]}}]


def _whole(calls: Calls) -> Iterator[Fragments]:
    for call in calls:
        yield [{"id": call["id"], "function": {"name": call["name"], "arguments": call["arguments"]}}]


def _signed(calls: Calls) -> Iterator[Fragments]:
    for place, call in enumerate(calls):
        function = {"name": call["name"], "arguments": call["arguments"]}
        yield [{"index": place, "id": call["id"], "function": function, **signature(place, call["id"])}]


def signature(place: int, call_id: str) -> dict[str, Any]:
    """What Gemini gives with the first of an answer's calls, and wants back with it."""
    return {"extra_content": {"google": {"thought_signature": f"signature of {call_id}"}}} if place == 0 else {}


CALL_SHAPES: Mapping[str, Callable[[Calls], Iterator[Fragments]]] = MappingProxyType(
    {
        "standard": _standard,
        "same_index": _same_index,
        "no_index": _no_index,
        "id_again": _id_again,
        "no_id": _no_id,
        "whole": _whole,
        "signed": _signed,
    }
)


def _chunk_usage(reason: str, usage: Mapping[str, int]) -> Iterator[Chunk]:
    yield chunk({}, reason)
    yield {**chunk({}), "choices": [], "usage": usage}


def _finish_usage(reason: str, usage: Mapping[str, int]) -> Iterator[Chunk]:
    yield chunk({"content": ""}, reason, usage=usage)


def _null_usage(reason: str, usage: Mapping[str, int]) -> Iterator[Chunk]:
    yield chunk({}, usage=None)
    yield chunk({}, reason, usage=None)
    yield {**chunk({}), "choices": [], "usage": usage}


def _cumulative_usage(reason: str, usage: Mapping[str, int]) -> Iterator[Chunk]:
    yield chunk({}, usage={**usage, "completion_tokens": 1})
    yield chunk({}, reason, usage=usage)


def _groq_usage(reason: str, usage: Mapping[str, int]) -> Iterator[Chunk]:
    yield chunk({}, reason, x_groq={"id": "req_1", "usage": usage})


def _no_usage(reason: str, usage: Mapping[str, int]) -> Iterator[Chunk]:
    yield chunk({}, reason)


USAGE_SHAPES: Mapping[str, Callable[[str, Mapping[str, int]], Iterator[Chunk]]] = MappingProxyType(
    {
        "chunk": _chunk_usage,
        "finish": _finish_usage,
        "null": _null_usage,
        "cumulative": _cumulative_usage,
        "groq": _groq_usage,
        "none": _no_usage,
    }
)
