"""What a scripted upstream says when it answers well: a response object under a chosen id, whole or as a stream."""

from typing import Any

import orjson


def response_object(response_id: str, text: str = "Hello.", **members: Any) -> dict[str, Any]:
    """A completed response with one message, `msg_` + the response's own part of the id."""
    message = {
        "id": response_id.replace("resp_", "msg_"),
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }
    return {
        "id": response_id,
        "object": "response",
        "created_at": 1767225600,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": "demo",
        "output": [message],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": 3,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 2,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 5,
        },
        **members,
    }


def event(kind: str, number: int, **members: Any) -> bytes:
    """One frame, as OpenAI writes it."""
    data = orjson.dumps({"type": kind, "sequence_number": number, **members})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def response_events(response_id: str, text: str = "Hello.") -> list[bytes]:
    """The stream of that response: created, its message, completed."""
    done = response_object(response_id, text)
    created = {**done, "status": "in_progress", "output": [], "usage": None}
    item = done["output"][0]
    return [
        event("response.created", 0, response=created),
        event("response.output_item.added", 1, output_index=0, item={**item, "status": "in_progress", "content": []}),
        event("response.output_text.delta", 2, item_id=item["id"], output_index=0, content_index=0, delta=text),
        event("response.output_item.done", 3, output_index=0, item=item),
        event("response.completed", 4, response=done),
    ]
