"""Check each member of a create body, by OpenAI's own rules or by those of structure, which hold for any upstream.

OpenAI's rules name the values, the minimums and the names that it has today. A newer OpenAI or another vendor may
define others: the rules of structure check only the types, the ranges that the API's description states, and what this
gateway relies on.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from app.wire import error_messages
from app.wire.requests.input_items import LONGEST_TEXT, check_item, check_structure
from app.wire.requests.metadata import check_metadata
from app.wire.requests.value_checks import (
    Check,
    array_of,
    boolean,
    decimal,
    either,
    enum,
    integer,
    object_of,
    open_enum,
    prefixed,
    string,
    tagged,
)

_LONGEST_ID = 512
# Each item is a row of the database, and work in the event loop (100,000: 0.7 s).
_MOST_ITEMS = 10_000
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

_STRING = string()
_OBJECT = object_of()
_NAME = re.compile(r"^[a-zA-Z0-9_-]+$")
CONVERSATION_ID = prefixed("conv", maximum=_LONGEST_ID)

INCLUDE_NAMES = (
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
)
INCLUDE = enum(*INCLUDE_NAMES)

TOOL = tagged(
    _STRING,
    {
        "function": object_of(required={"name": string(maximum=128, non_empty=True, pattern=_NAME)}),
        "custom": object_of(required={"name": string(non_empty=True)}),
        "namespace": object_of(optional={"name": string(maximum=64)}),
    },
)
# Only the names are needed, with which a call comes back.
_ANY_TOOL = tagged(
    _STRING,
    {
        "function": object_of(required={"name": string(non_empty=True)}),
        "custom": object_of(required={"name": string(non_empty=True)}),
        "namespace": object_of(optional={"name": _STRING}),
    },
)


def _check_model(value: Any, path: str) -> None:
    _STRING(value, path)
    if not value:
        raise error_messages.unknown_model(value)


def _input(text: Check, item: Check) -> Check:
    return either(
        "one of a string or array of input items",
        {
            str: text,
            list: array_of(item, maximum=_MOST_ITEMS),
            # OpenAI reports a null as a wrong string.
            type(None): _STRING,
        },
    )


def no_integer(value: Any, path: str) -> None:
    # OpenAI checks an effort twice, and integers fail the second check.
    raise error_messages.invalid_type(path, value, error_messages.one_of(_EFFORTS[1:5]))


def anything(_value: Any, _path: str) -> None:
    """Accept any value."""


def _openai_rules() -> Mapping[str, Check]:
    text_format = object_of(
        required={"name": string(maximum=64, non_empty=True, pattern=_NAME), "schema": _OBJECT},
        optional={"strict": boolean, "description": _STRING},
    )
    return _rules(
        enum,
        input_=_input(string(maximum=LONGEST_TEXT), check_item),
        include=INCLUDE,
        tool=TOOL,
        text_format=tagged(enum("text", "json_object", "json_schema"), {"json_schema": text_format}),
        effort=no_integer,
        penalty=decimal(minimum=-2, maximum=2),
        least_output=16,
        tool_calls=integer(minimum=1),
        compact_threshold=integer(minimum=1000),
    )


def _structural_rules() -> Mapping[str, Check]:
    text_format = object_of(
        required={"name": string(non_empty=True), "schema": _OBJECT},
        optional={"strict": boolean, "description": _STRING},
    )
    return _rules(
        open_enum,
        input_=_input(_STRING, check_structure),
        include=_STRING,
        tool=_ANY_TOOL,
        text_format=tagged(_STRING, {"json_schema": text_format}),
        effort=anything,
        penalty=decimal(),
        # Limits are reserved by it: less than one would give tokens back.
        least_output=1,
        tool_calls=integer(),
        compact_threshold=integer(minimum=0),
    )


def _rules(
    one_of: Callable[..., Check],
    *,
    input_: Check,
    include: Check,
    tool: Check,
    text_format: Check,
    effort: Check,
    penalty: Check,
    least_output: int,
    tool_calls: Check,
    compact_threshold: Check,
) -> Mapping[str, Check]:
    """List the checks in OpenAI's order: of two faults in a body the first in this order is reported."""
    named = object_of(required={"name": _STRING})
    effort_expected = f"one of {error_messages.one_of(_EFFORTS)} or integer"
    return {
        "model": _check_model,
        "input": input_,
        "previous_response_id": string(maximum=_LONGEST_ID),
        "conversation": either(
            "one of a string or object",
            {str: CONVERSATION_ID, dict: object_of(required={"id": CONVERSATION_ID})},
        ),
        "prompt": object_of(required={"id": _STRING}),
        "moderation": _OBJECT,
        "include": array_of(include, expected=f"an array of {error_messages.one_of(INCLUDE_NAMES)}"),
        "tools": array_of(tool, expected="an array of tools"),
        "tool_choice": either(
            "one of an object or 'none', 'auto', or 'required'",
            {
                str: one_of("none", "auto", "required"),
                dict: tagged(_STRING, {"function": named, "custom": named}),
            },
        ),
        "metadata": check_metadata,
        "text": object_of(optional={"format": text_format, "verbosity": one_of("low", "medium", "high")}),
        "temperature": decimal(minimum=0, maximum=2),
        "top_p": decimal(minimum=0, maximum=1),
        "presence_penalty": penalty,
        "frequency_penalty": penalty,
        "parallel_tool_calls": boolean,
        "stream": boolean,
        "stream_options": object_of(optional={"include_obfuscation": boolean}),
        "background": boolean,
        "background_options": _OBJECT,
        "max_output_tokens": integer(minimum=least_output),
        "max_tool_calls": tool_calls,
        "reasoning": object_of(
            optional={
                "effort": either(effort_expected, {str: one_of(*_EFFORTS), int: effort}),
                "summary": one_of("auto", "concise", "detailed"),
                "context": one_of("auto", "current_turn", "all_turns"),
                # OpenAI's own description allows any.
                "mode": _STRING,
            }
        ),
        "user": _STRING,
        "safety_identifier": string(maximum=128),
        "prompt_cache_options": _OBJECT,
        "prompt_cache_key": _STRING,
        "prompt_cache_retention": one_of("in_memory", "24h", also=("in-memory",)),
        "truncation": one_of("auto", "disabled"),
        "instructions": _STRING,
        "store": boolean,
        "service_tier": one_of("auto", "default", "fast", "flex", "priority", also=("scale", "ultrafast")),
        "top_logprobs": integer(minimum=0, maximum=20),
        "context_management": array_of(
            object_of(required={"type": _STRING}, optional={"compact_threshold": compact_threshold}),
            expected="an array of objects",
            non_empty=True,
        ),
        "access_programs": _OBJECT,
        "image": _OBJECT,
    }


OPENAI_RULES = _openai_rules()
STRUCTURAL_RULES = _structural_rules()
