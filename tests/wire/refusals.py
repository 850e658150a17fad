"""What tests of requests say again and again: a body valid but for one fault, and the words of its refusal."""

from typing import Any, NamedTuple

import orjson
import pytest

from app.errors import InvalidRequestError
from app.wire.requests.create import CreateRequest, parse_create_request

MAX_DEPTH = 64
# As OpenAI checks them.
ORDER = [
    "model",
    "input",
    "previous_response_id",
    "conversation",
    "prompt",
    "moderation",
    "include",
    "tools",
    "tool_choice",
    "metadata",
    "text",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "parallel_tool_calls",
    "stream",
    "stream_options",
    "background",
    "background_options",
    "max_output_tokens",
    "max_tool_calls",
    "reasoning",
    "user",
    "safety_identifier",
    "prompt_cache_options",
    "prompt_cache_key",
    "prompt_cache_retention",
    "truncation",
    "instructions",
    "store",
    "service_tier",
    "top_logprobs",
    "context_management",
    "access_programs",
    "image",
]


class Refused(NamedTuple):
    code: str
    param: str | None
    message: str


def parse(fields: dict[str, Any]) -> CreateRequest:
    return parse_create_request(orjson.dumps(fields), MAX_DEPTH)


def valid(**changes: Any) -> dict[str, Any]:
    return {"model": "m", "input": "hi"} | changes


def refusal(fields: dict[str, Any]) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        parse(fields)
    assert caught.value.status == 400
    assert orjson.loads(caught.value.body())["error"]["type"] == "invalid_request_error"
    return caught.value


def message(**members: Any) -> dict[str, Any]:
    return {"role": "user", "content": "hi"} | members


def wrong_type(param: str, expected: str, got: str) -> Refused:
    return Refused("invalid_type", param, f"Invalid type for '{param}': expected {expected}, but got {got} instead.")


def missing(param: str) -> Refused:
    return Refused("missing_required_parameter", param, f"Missing required parameter: '{param}'.")


def wrong_value(param: str, value: str, supported: str) -> Refused:
    return Refused("invalid_value", param, f"Invalid value: '{value}'. Supported values are: {supported}.")


def too_long(param: str, maximum: int, length: int | None = None) -> Refused:
    return Refused(
        "string_above_max_length",
        param,
        f"Invalid '{param}': string too long. Expected a string with maximum length {maximum}, "
        f"but got a string with length {length or maximum + 1} instead.",
    )


def empty(param: str, article: str = "a", kind: str = "string") -> Refused:
    return Refused(
        f"empty_{kind}",
        param,
        f"Invalid '{param}': empty {kind}. "
        f"Expected {article} {kind} with minimum length 1, but got an empty {kind} instead.",
    )


def below(param: str, kind: str, minimum: int, value: object) -> Refused:
    return Refused(
        f"{kind}_below_min_value",
        param,
        f"Invalid '{param}': {kind} below minimum value. Expected a value >= {minimum}, but got {value} instead.",
    )


def above(param: str, kind: str, maximum: int, value: object) -> Refused:
    return Refused(
        f"{kind}_above_max_value",
        param,
        f"Invalid '{param}': {kind} above maximum value. Expected a value <= {maximum}, but got {value} instead.",
    )


def wrong_pattern(param: str) -> Refused:
    return Refused(
        "invalid_value",
        param,
        f"Invalid '{param}': string does not match pattern. "
        "Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'.",
    )
