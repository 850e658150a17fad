"""Generate a response's event sequence; an answer that is not streamed is the last event's response."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from app.demo import model_response
from app.demo.create_request import Request
from app.demo.model import reply
from app.demo.text import words
from app.ids import new_id

Event = dict[str, Any]

# Members of an item when it is announced. Reasoning is empty until it is done.
_UNFINISHED: dict[str, dict[str, Any]] = {
    "message": {"content": []},
    "reasoning": {"summary": [], "encrypted_content": ""},
    "function_call": {"arguments": ""},
    "custom_tool_call": {"input": ""},
    "code_interpreter_call": {"code": "", "outputs": None},
}
_FILLER = "abcdefghijklmnop"


def events(request: Request) -> Iterator[Event]:
    """Yield every event from `response.created` to the terminal one, numbered from 0."""
    options = request.at("stream_options") or {}
    obfuscated = options.get("include_obfuscation") is not False
    for number, event in enumerate(_unnumbered(request)):
        numbered = {"type": event["type"], "sequence_number": number, **event}
        if "delta" in event and obfuscated:
            # Pads the delta to whole blocks, which hides its length like random padding, and is deterministic.
            numbered["obfuscation"] = _FILLER[len(event["delta"]) % len(_FILLER) :]
        yield numbered


def _unnumbered(request: Request) -> Iterator[Event]:
    draft = model_response.opened(request, new_id("resp"), int(time.time()))
    yield {"type": "response.created", "response": draft}
    yield {"type": "response.in_progress", "response": draft}
    outcome = reply(request)
    for index, item in enumerate(outcome.output):
        announced = {**item, "status": "in_progress", **_UNFINISHED.get(item["type"], {})}
        yield {"type": "response.output_item.added", "output_index": index, "item": announced}
        for event in _inside(item):
            yield {**event, "item_id": item["id"], "output_index": index}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    final = model_response.finished(draft, request, outcome, int(time.time()))
    yield {"type": f"response.{outcome.status}", "response": final}


def _inside(item: Mapping[str, Any]) -> Iterator[Event]:
    match item["type"]:
        case "message":
            yield from _message(item)
        case "reasoning":
            yield from _reasoning(item)
        case "function_call":
            done = {"arguments": item["arguments"], "name": item["name"]}
            yield from _text("response.function_call_arguments", item["arguments"], done)
        case "custom_tool_call":
            yield from _text("response.custom_tool_call_input", item["input"], {"input": item["input"]})
        case "code_interpreter_call":
            yield {"type": "response.code_interpreter_call.in_progress"}
            yield from _text("response.code_interpreter_call_code", item["code"], {"code": item["code"]})
            yield {"type": "response.code_interpreter_call.interpreting"}
            yield {"type": "response.code_interpreter_call.completed"}
        case searching:
            for step in ("in_progress", "searching", "completed"):
                yield {"type": f"response.{searching}.{step}"}


def _message(item: Mapping[str, Any]) -> Iterator[Event]:
    for index, part in enumerate(item["content"]):
        at = {"content_index": index}
        yield {"type": "response.content_part.added", **at, "part": {**part, "logprobs": [], "text": ""}}
        done = {"text": part["text"], "logprobs": part["logprobs"]}
        for position, event in enumerate(_text("response.output_text", part["text"], done)):
            # The k-th delta has the k-th logprob; `done` comes last and has all.
            yield {"logprobs": part["logprobs"][position : position + 1], **event, **at}
        yield {"type": "response.content_part.done", **at, "part": part}


def _reasoning(item: Mapping[str, Any]) -> Iterator[Event]:
    for index, part in enumerate(item["summary"]):
        at = {"summary_index": index}
        yield {"type": "response.reasoning_summary_part.added", **at, "part": {**part, "text": ""}}
        for event in _text("response.reasoning_summary_text", part["text"], {"text": part["text"]}):
            yield {**event, **at}
        yield {"type": "response.reasoning_summary_part.done", **at, "part": part}


def _text(prefix: str, text: str, done: Event) -> Iterator[Event]:
    for word in words(text):
        yield {"type": f"{prefix}.delta", "delta": word}
    yield {"type": f"{prefix}.done", **done}
