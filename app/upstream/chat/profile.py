"""Know the chat servers by their hosts: one table of what each takes and sends, under what the operator said."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from app.settings.upstreams import ChatProfile, UpstreamSettings

_OPENAI: Mapping[str, Any] = {
    "max_tokens_as": "max_completion_tokens",
    "system_role": "developer",
    "system_position": "inline",
    "reasoning_replay": "never",
    "effort_map": {},
    "files": True,
    "audio": True,
    "logprobs": True,
    "passes": (
        *("user", "service_tier", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "verbosity"),
        *("seed", "stop", "logit_bias"),
    ),
}
_THINKS_WITH_TOOLS: Mapping[str, Any] = {"reasoning_replay": "with_tool_calls", "fills_reasoning": True}
_PROFILES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "openai.com": _OPENAI,
        "openai.azure.com": _OPENAI,
        "services.ai.azure.com": _OPENAI,
        "deepseek.com": {
            **_THINKS_WITH_TOOLS,
            "effort_as": "thinking",
            "effort_map": {"minimal": "low", "medium": "high", "xhigh": "high"},
            "json_schema": "json_object",
            "images": False,
            "logprobs": True,
        },
        "mistral.ai": {
            "reasoning_replay": "never",
            "include_usage": False,
            "call_id_form": "mistral9",
            "effort_as": "none",
        },
        "groq.com": {"reasoning_replay": "never", "passes": ("service_tier", "seed", "stop")},
        "openrouter.ai": {
            "system_position": "inline",
            "reasoning_in": "reasoning_details",
            "reasoning_replay": "always",
            "effort_as": "reasoning.effort",
            "effort_map": {},
            "files": True,
            "passes": ("prompt_cache_key", "seed", "stop", "top_k", "min_p", "provider", "transforms"),
        },
        "moonshot.ai": _THINKS_WITH_TOOLS,
        "moonshot.cn": _THINKS_WITH_TOOLS,
        "z.ai": _THINKS_WITH_TOOLS,
        "bigmodel.cn": _THINKS_WITH_TOOLS,
        "minimax.io": _THINKS_WITH_TOOLS,
        "generativelanguage.googleapis.com": {"tool_result_images": "native"},
        "anthropic.com": {
            "reasoning_replay": "never",
            "effort_as": "none",
            "json_schema": "none",
            "tool_result_images": "native",
        },
    }
)


def profile_of(upstream: UpstreamSettings) -> ChatProfile:
    """Return the profile of an upstream: of its host or the domain that it is in, where the operator said nothing."""
    host = urlsplit(upstream.base_url).hostname or ""
    labels = host.split(".")
    domains = (".".join(labels[start:]) for start in range(len(labels)))
    known = next((_PROFILES[domain] for domain in domains if domain in _PROFILES), {})
    said = {} if upstream.chat is None else upstream.chat.given()
    return ChatProfile(**{**known, **said})
