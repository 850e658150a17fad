"""Build the Response object: every field of the API, echoed or at its default, and the output."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from app.demo.create_request import Request

Status = Literal["completed", "incomplete", "failed"]

# Parameters that are echoed, with their defaults.
_ECHOED: dict[str, Any] = {
    "access_programs": None,
    "frequency_penalty": 0,
    "image": None,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0,
    "prompt_cache_key": None,
    "prompt_cache_options": None,
    "prompt_cache_retention": None,
    "safety_identifier": None,
    "temperature": 1,
    "tool_choice": "auto",
    "top_logprobs": 0,
    "top_p": 1,
    "truncation": "disabled",
    "user": None,
}
_NEVER_SET: dict[str, Any] = {
    "background": False,
    "content_filters": None,
    "conversation": None,
    "input_transformations": None,
    "moderation": None,
    "previous_response_id": None,
    "prompt": None,
    "prompt_cache_diagnostics": None,
    "store": False,
    "tool_usage": None,
}
_FAILURE = {"code": "server_error", "message": "The demo model failed, as the input asked it to."}
# The tier that serves; `fast` is another name of priority.
_TIERS = {None: "default", "auto": "default", "fast": "priority"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold the result of a finished call. `spoken_tokens` excludes reasoning."""

    status: Status
    output: Sequence[Mapping[str, Any]]
    spoken_tokens: int
    reasoning_tokens: int


def opened(request: Request, response_id: str, created_at: int) -> dict[str, Any]:
    """Build the object of a response in progress; times are unix seconds."""
    echoed = {name: default if request.at(name) is None else request.at(name) for name, default in _ECHOED.items()}
    tier = request.at("service_tier")
    return {
        "id": response_id,
        "object": "response",
        "created_at": created_at,
        "status": "in_progress",
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "model": request.body["model"],
        "output": [],
        "reasoning": {"effort": None, "summary": None, **(request.at("reasoning") or {})},
        "service_tier": _TIERS.get(tier, tier),
        "text": _text(request),
        "tools": [_tool(tool) for tool in request.body.get("tools") or ()],
        "usage": None,
        **echoed,
        **_NEVER_SET,
    }


def finished(draft: Mapping[str, Any], request: Request, outcome: Outcome, completed_at: int) -> dict[str, Any]:
    """Build the final object. `completed_at` is set for a completed response only."""
    incomplete = {"reason": "max_output_tokens"} if outcome.status == "incomplete" else None
    return {
        **draft,
        "status": outcome.status,
        "completed_at": completed_at if outcome.status == "completed" else None,
        "error": _FAILURE if outcome.status == "failed" else None,
        "incomplete_details": incomplete,
        "output": outcome.output,
        "output_text": "".join(
            part["text"] for item in outcome.output if item["type"] == "message" for part in item["content"]
        ),
        "usage": _usage(request, outcome),
    }


def _usage(request: Request, outcome: Outcome) -> dict[str, Any]:
    read = orjson.dumps([request.at("instructions"), request.body.get("tools"), *request.history.items])
    # Four bytes to a token, the usual rule of thumb.
    input_tokens = len(read) // 4
    output_tokens = outcome.spoken_tokens + outcome.reasoning_tokens
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": outcome.reasoning_tokens},
        "total_tokens": input_tokens + output_tokens,
    }


def _text(request: Request) -> dict[str, Any]:
    text = {name: value for name, value in (request.at("text") or {}).items() if value is not None}
    form = text.get("format", {"type": "text"})
    if form["type"] == "json_schema":
        form = {"description": None, "strict": False, **form}
    return {"verbosity": "medium", **text, "format": form}


def _tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"description": None, "parameters": None, "strict": True, **tool} if tool["type"] == "function" else tool
