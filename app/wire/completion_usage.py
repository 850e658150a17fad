"""Read the usage of a completion, in whichever of its shapes a chat server tells it, as that of a response."""

from collections.abc import Mapping
from typing import Any

_GROQ = "x_groq"
# No number of tokens, and none that every JSON parser or database holds.
_LARGEST_COUNT = 2**53


def usage_in(chunk: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the usage that stands in a chunk or a whole completion; the last one of a stream counts.

    Zeros are what servers send that count nothing, or not yet: they are no usage.
    """
    beside = chunk.get(_GROQ)
    choices = chunk.get("choices")
    places = [chunk, beside, *(choices if isinstance(choices, list) else ())]
    found = [_members(place, "usage") for place in places if isinstance(place, dict)]
    return next((said for said in found if _count(said, "prompt_tokens") or _count(said, "completion_tokens")), None)


def as_usage(said: Mapping[str, Any] | None, input_estimate: int, output_estimate: int) -> dict[str, Any]:
    """Write the usage of a response, complete with integers; `estimated` where the server told none."""
    if said is None:
        return {**_usage(input_estimate, output_estimate, 0, 0, 0), "estimated": True}
    sent, made = _count(said, "prompt_tokens"), _count(said, "completion_tokens")
    sent_details, made_details = _members(said, "prompt_tokens_details"), _members(said, "completion_tokens_details")
    cached = (
        _count(sent_details, "cached_tokens")
        or _count(said, "prompt_cache_hit_tokens")
        or _count(said, "cached_tokens")
        or _count(said, "cache_read_input_tokens")
    )
    written = _count(sent_details, "cache_write_tokens") or _count(said, "cache_creation_input_tokens")
    # A server that counts its cache beside the prompt: the prompt that was sent has both.
    if cached > sent:
        sent += cached
    usage = _usage(sent, made, cached, written, _count(made_details, "reasoning_tokens"))
    if type(said.get("cost")) in {int, float}:
        usage["cost"] = said["cost"]
    return usage


def _usage(sent: int, made: int, cached: int, written: int, reasoned: int) -> dict[str, Any]:
    return {
        "input_tokens": sent,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": reasoned},
        "total_tokens": sent + made,
    }


def _members(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    members = value.get(name)
    return members if isinstance(members, dict) else {}


def _count(value: Mapping[str, Any], name: str) -> int:
    count = value.get(name)
    return count if type(count) is int and 0 < count < _LARGEST_COUNT else 0
