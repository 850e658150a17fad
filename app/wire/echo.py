"""Begin the response object of a request: it repeats what was asked, with defaults for what OpenAI's types require."""

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson

from app.ids import new_id
from app.wire.body import Json
from app.wire.tools import shown, without_secrets

# Of what a request says, a response object repeats these as they are.
_ECHOED = (
    *("frequency_penalty", "instructions", "max_output_tokens", "max_tool_calls", "metadata", "parallel_tool_calls"),
    *("presence_penalty", "prompt", "prompt_cache_key", "prompt_cache_retention", "reasoning", "safety_identifier"),
    *("service_tier", "temperature", "top_logprobs", "top_p", "truncation", "user"),
)
# What a response object says of what nobody has said anything of. `user` and its like are then left out.
_UNSAID: Mapping[str, Any] = MappingProxyType(
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
        name: Json(orjson.dumps(_UNSAID[name]))
        for name in (
            *("object", "error", "incomplete_details", "instructions", "metadata", "model", "output"),
            *("parallel_tool_calls", "temperature", "tool_choice", "tools", "top_p", "usage"),
        )
    }
)
"""Members of every response, which clients read without asking whether they are there; those of nobody's saying."""
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
    """A response object that repeats this request, in progress, under an id of ours; without secrets of its tools."""
    said = {name: value for name, value in fields.items() if value is not None}
    made = {
        **_UNSAID,
        **{name: said[name] for name in _ECHOED if name in said},
        "id": new_id("resp"),
        "created_at": int(time.time()),
        "model": said.get("model", ""),
        "text": {**_UNSAID["text"], **{name: value for name, value in said.get("text", {}).items() if value}},
        "tool_choice": without_secrets(said.get("tool_choice", "auto")),
        "tools": shown(said.get("tools", ())),
    }
    if said.get("prompt_cache_retention") == "in-memory":
        # Both spellings are taken; this one is not told.
        made["prompt_cache_retention"] = "in_memory"
    if "prompt_cache_options" in said:
        made["prompt_cache_options"] = {**_CACHE_DEFAULTS, **said["prompt_cache_options"]}
    return made
