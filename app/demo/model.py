"""Generate the demo model's output by rules over the input items; the same input gets the same output."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from app.demo.create_request import Request
from app.demo.item_rules import ENCRYPTED_PREFIX
from app.demo.model_response import Outcome, Status
from app.demo.schema_instance import fill
from app.demo.text import phrase_in, recall, words
from app.demo.toolbox import Tool
from app.ids import new_id, new_item_id

# Shorter than the least `max_output_tokens`, so that reasoning never uses up the limit.
_THOUGHT = "The demo model weighs its few rules in order."
_LONGEST_QUOTE = 200


@dataclass(frozen=True, slots=True)
class Speech:
    """Hold the last output item before it is cut to length: its type, its fixed fields, and its text."""

    type: str
    fields: Mapping[str, Any]
    text: str


def reply(request: Request) -> Outcome:
    """Generate the output items, the status, and the token counts of a response."""
    tool = _tool(request)
    hosted_call = tool.hosted_call if tool else None
    speech = _message(request) if tool is None or hosted_call else _call(request, tool)
    thought = _thought(request)
    reasoning_tokens = len(words(_THOUGHT)) if thought else 0
    pieces = words(speech.text)
    said, status = _cut(request, pieces, reasoning_tokens)
    hosted = [_hosted(request, hosted_call)] if hosted_call else []
    output = [*thought, *hosted, _spoken(request, speech, said, "completed" if status == "completed" else "incomplete")]
    return Outcome(status, output, len(said), reasoning_tokens)


def _tool(request: Request) -> Tool | None:
    if request.history.tool_answers or _is_structured(request):
        return None
    return request.toolbox.pick(request.history.last_user_text, request.history.called)


def _is_structured(request: Request) -> bool:
    return request.at("text.format.type") in {"json_schema", "json_object"}


def _message(request: Request) -> Speech:
    heard = request.history.last_user_text
    answers = request.history.tool_answers
    text = answers or _plain_text(request)
    if request.at("text.format.type") == "json_object":
        text = _dumped({"answer": text})
    elif request.at("text.format.type") == "json_schema":
        text = _dumped(fill(request.at("text.format.schema"), answers or phrase_in(heard), heard))
    return Speech("message", {"role": "assistant"}, text)


def _plain_text(request: Request) -> str:
    heard = request.history.last_user_text
    if count := request.directives.words:
        return " ".join(f"w{number}" for number in range(1, count + 1))
    told = request.history.user_texts
    return recall(told, heard) or f'Demo answer to "{heard[:_LONGEST_QUOTE]}" (turn {len(told)}).'


def _call(request: Request, tool: Tool) -> Speech:
    heard = request.history.last_user_text
    fields = {"call_id": new_id("call"), "name": tool.name}
    if tool.namespace is not None:
        fields["namespace"] = tool.namespace
    if tool.type == "custom":
        return Speech("custom_tool_call", fields, phrase_in(heard) or heard[:_LONGEST_QUOTE])
    arguments = fill({"type": "object", **tool.parameters}, phrase_in(heard), heard)
    return Speech("function_call", fields, _dumped(arguments))


def _cut(request: Request, pieces: list[str], reasoning_tokens: int) -> tuple[list[str], Status]:
    limit = request.at("max_output_tokens")
    room = len(pieces) if limit is None else min(limit - reasoning_tokens, len(pieces))
    directed = request.directives.fail or request.directives.incomplete
    said = pieces[: min(room, (len(pieces) + 1) // 2)] if directed else pieces[:room]
    if request.directives.fail:
        return said, "failed"
    return said, "incomplete" if request.directives.incomplete or room < len(pieces) else "completed"


def _spoken(request: Request, speech: Speech, said: list[str], status: str) -> dict[str, Any]:
    item = {"id": new_item_id(speech.type), "type": speech.type, "status": status, **speech.fields}
    text = "".join(said)
    if speech.type == "function_call":
        return {**item, "arguments": text}
    if speech.type == "custom_tool_call":
        return {**item, "input": text}
    logprobs = []
    if request.includes("message.output_text.logprobs"):
        logprobs = [_logprob(piece, request.at("top_logprobs") or 0) for piece in said]
    return {**item, "content": [{"type": "output_text", "annotations": [], "logprobs": logprobs, "text": text}]}


def _logprob(piece: str, top: int) -> dict[str, Any]:
    """Make a token's logprob: the model is certain, so there is one candidate at most."""
    token = {"token": piece, "bytes": list(piece.encode()), "logprob": 0.0}
    return {**token, "top_logprobs": [token][:top]}


def _thought(request: Request) -> list[dict[str, Any]]:
    reasoning = request.at("reasoning")
    if reasoning is None or reasoning.get("effort") == "none":
        return []
    return [
        {
            "id": new_item_id("reasoning"),
            "type": "reasoning",
            "status": "completed",
            "summary": [{"type": "summary_text", "text": _THOUGHT}] if reasoning.get("summary") else [],
            # Always set: an unstored call cannot be continued without it.
            "encrypted_content": ENCRYPTED_PREFIX + base64.b64encode(_THOUGHT.encode()).decode(),
        }
    ]


def _hosted(request: Request, call: str) -> dict[str, Any]:
    """Make the item of a hosted tool; it has results if `include` asks for them."""
    query = request.history.last_user_text[:_LONGEST_QUOTE]
    item = {"id": new_item_id(call), "type": call, "status": "completed"}
    if call == "web_search_call":
        sources = [{"type": "url", "url": "https://example.com/"}]
        asked = request.includes("web_search_call.action.sources")
        return {**item, "action": {"type": "search", "query": query, **({"sources": sources} if asked else {})}}
    if call == "file_search_call":
        found = [{"file_id": "file-demo", "filename": "demo.txt", "score": 1.0, "text": query, "attributes": {}}]
        return {**item, "queries": [query], "results": found if request.includes("file_search_call.results") else None}
    logs = [{"type": "logs", "logs": f"{len(query)}\n"}]
    asked = request.includes("code_interpreter_call.outputs")
    code = f"print(len({_dumped(query)}))"
    return {**item, "container_id": new_id("cntr"), "code": code, "outputs": logs if asked else None}


def _dumped(value: Any) -> str:
    return orjson.dumps(value).decode()
