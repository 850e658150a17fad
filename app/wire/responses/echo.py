"""Begin the response object of a request: echo the request, with defaults for what OpenAI's types require."""

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson

from app.ids import new_id
from app.wire.json_body import Json
from app.wire.responses.tool_secrets import tools_for_response, without_secrets

# Members of a request that a response object repeats as they are.
_ECHOED = (
    *("frequency_penalty", "instructions", "max_output_tokens", "max_tool_calls", "metadata", "parallel_tool_calls"),
    *("presence_penalty", "prompt", "prompt_cache_key", "prompt_cache_retention", "reasoning", "safety_identifier"),
    *("service_tier", "temperature", "top_logprobs", "top_p", "truncation", "user"),
)
# The defaults of a response object. `user` and its like are left out where the request has none.
_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "id": "",
        "object": "response",
        "created_at": 0,
        "completed_at": None,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {},
        "model": "",
        "output": [],
        "parallel_tool_calls": True,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "auto",
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": None,
        "truncation": "disabled",
        "usage": None,
        "presence_penalty": 0,
        "frequency_penalty": 0,
    }
)
REQUIRED: Mapping[str, Json] = MappingProxyType(
    {
        name: Json(orjson.dumps(_DEFAULTS[name]))
        for name in (
            *("object", "error", "incomplete_details", "instructions", "metadata", "model", "output"),
            *("parallel_tool_calls", "temperature", "tool_choice", "tools", "top_p", "usage"),
        )
    }
)
"""Members of every response, which clients read without checking that they exist, with their defaults."""
NOTHING_USED: Mapping[str, Any] = MappingProxyType(
    {
        "input_tokens": 0,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 0,
    }
)
"""The usage of a response for which no model was asked."""
_CACHE_DEFAULTS: Mapping[str, Any] = MappingProxyType({"mode": "implicit", "ttl": "30m"})


def echo(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Make a response object in progress that repeats this request, with an id of ours and its tools redacted."""
    given = {name: value for name, value in fields.items() if value is not None}
    response = {
        **_DEFAULTS,
        **{name: given[name] for name in _ECHOED if name in given},
        "id": new_id("resp"),
        "created_at": int(time.time()),
        "model": given.get("model", ""),
        "text": {**_DEFAULTS["text"], **{name: value for name, value in given.get("text", {}).items() if value}},
        "tool_choice": without_secrets(given.get("tool_choice", "auto")),
        "tools": tools_for_response(given.get("tools", ())),
    }
    if given.get("prompt_cache_retention") == "in-memory":
        # Both spellings are accepted; the client gets the other.
        response["prompt_cache_retention"] = "in_memory"
    if "prompt_cache_options" in given:
        response["prompt_cache_options"] = {**_CACHE_DEFAULTS, **given["prompt_cache_options"]}
    return response
