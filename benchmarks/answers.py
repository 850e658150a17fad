"""The fast upstream's canned answers as bytes on the wire, with placeholders for what differs from one to the next.

Must not know sockets. The Responses API for gateways that pass it on, chat completions for those that translate to it.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import orjson

# Of the same length as what replaces them, so that chunk sizes stay true.
ID = b"0" * 48
AT = b"9" * 20
RECEIVED = b"7" * 12

# Events of a stream that are not deltas.
FRAMING_EVENTS = 8

_WORDS = "Four words of text. "
_message = {
    "id": f"msg_{ID.decode()}",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": _WORDS * 6}],
}
_response = {
    "id": f"resp_{ID.decode()}",
    "object": "response",
    "created_at": 1_772_611_588,
    "status": "completed",
    "background": False,
    "completed_at": 1_772_611_589,
    "error": None,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "model": "bench",
    "output": [_message],
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "service_tier": "default",
    "store": False,
    "temperature": 1,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1,
    "truncation": "disabled",
    "usage": {
        "input_tokens": 19,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 28,
    },
    "user": None,
    # How many bytes of body the upstream was sent: what a turn's history weighs.
    "metadata": {"received": RECEIVED.decode()},
}
_begun_message = _message | {"content": [], "status": "in_progress"}
_begun = _response | {"status": "in_progress", "output": [], "usage": None, "completed_at": None}
_chat = {"id": f"chatcmpl-{ID.decode()}", "created": 1_772_611_588, "model": "bench"}
_chat_usage = {"prompt_tokens": 19, "completion_tokens": 9, "total_tokens": 28}


def response() -> bytes:
    """A whole response object."""
    return orjson.dumps(_response)


def chat_completion() -> bytes:
    """A whole chat completion."""
    said = {"role": "assistant", "content": _WORDS * 6}
    choice = {"index": 0, "message": said, "finish_reason": "stop"}
    return orjson.dumps(_chat | {"object": "chat.completion", "choices": [choice], "usage": _chat_usage})


def embeddings() -> bytes:
    """The embedding of one text, as 1,536 floats in base64."""
    data = [{"object": "embedding", "index": 0, "embedding": "q83v" * (1536 * 4 // 3)}]
    usage = {"prompt_tokens": 8, "total_tokens": 8}
    return orjson.dumps({"object": "list", "data": data, "model": "bench", "usage": usage})


def models() -> bytes:
    """The list of the one model."""
    model = {"id": "bench", "object": "model", "created": 1_772_611_588, "owned_by": "bench"}
    return orjson.dumps({"object": "list", "data": [model]})


@cache
def response_stream(count: int) -> Sequence[bytes]:
    """The events of a streamed response, `count` of them, as HTTP chunks. A delta's text is the time it was sent at."""
    place = {"output_index": 0, "content_index": 0, "item_id": _message["id"]}
    delta: dict[str, object] = {**place, "delta": AT.decode(), "logprobs": [], "obfuscation": "JpZ5nDeKsgB0dD8aeDh1"}
    empty = {"type": "output_text", "text": "", "annotations": []}
    steps: list[tuple[str, Mapping[str, object]]] = [
        ("response.created", {"response": _begun}),
        ("response.in_progress", {"response": _begun}),
        ("response.output_item.added", {"output_index": 0, "item": _begun_message}),
        ("response.content_part.added", {**place, "part": empty}),
        *[("response.output_text.delta", delta)] * (count - FRAMING_EVENTS),
        ("response.output_text.done", {**place, "text": _WORDS * 6}),
        ("response.content_part.done", {**place, "part": empty}),
        ("response.output_item.done", {"output_index": 0, "item": _message}),
        ("response.completed", {"response": _response}),
    ]
    frames = [
        b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"type": name, "sequence_number": number, **members}))
        for number, (name, members) in enumerate(steps)
    ]
    return list(map(_chunk, frames))


@cache
def chat_stream(count: int) -> Sequence[bytes]:
    """As many chunks of a chat completion as a response of `count` events has deltas, then its end."""
    choices: list[list[dict[str, Any]]] = [
        *[[{"index": 0, "delta": {"role": "assistant", "content": AT.decode()}, "finish_reason": None}]]
        * (count - FRAMING_EVENTS),
        [{"index": 0, "delta": {}, "finish_reason": "stop"}],
    ]
    head = _chat | {"object": "chat.completion.chunk"}
    frames = [b"data: %b\n\n" % orjson.dumps(head | {"choices": choice, "usage": None}) for choice in choices]
    usage = orjson.dumps(head | {"choices": [], "usage": _chat_usage})
    return list(map(_chunk, [*frames, b"data: %b\n\n" % usage, b"data: [DONE]\n\n"]))


def _chunk(frame: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(frame), frame)
