"""The body of POST /v1/responses: read, checked in OpenAI's order, and kept as it was sent.

Must not know what upstream or the store make of it. A key this module does not name passes.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.errors import InvalidRequestError
from app.wire import body, wording
from app.wire.fields import Check, array_of, boolean, decimal, either, enum, integer, object_of, string, tagged
from app.wire.input_items import LONGEST_TEXT, check_item
from app.wire.metadata import check_metadata


@dataclass(slots=True)
class CreateRequest:
    """A valid request. `members` holds its top-level values as they were sent, `fields` the same decoded.

    `input` is text or items, None where a prompt template brings its own. `is_large`: work on the input is for
    `app.offload`.
    """

    model: str
    members: dict[str, body.Json]
    fields: dict[str, Any]
    is_large: bool = False
    input: str | Sequence[Any] | None = field(init=False)
    store: bool = field(init=False)
    stream: bool = field(init=False)
    background: bool = field(init=False)
    previous_response_id: str | None = field(init=False)
    conversation_id: str | None = field(init=False)

    @property
    def size(self) -> int:
        """What its input weighs, in bytes."""
        return len(memoryview(self.members.get("input", b"")))

    def __post_init__(self) -> None:
        """Read once what is asked for again and again."""
        given = self.fields.get
        self.input = given("input")
        self.store = given("store") is not False
        self.stream = given("stream") is True
        self.background = given("background") is True
        self.previous_response_id = given("previous_response_id")
        named = given("conversation")
        self.conversation_id = named["id"] if type(named) is dict else named


def parse_create_request(raw: bytes, max_depth: int) -> CreateRequest:
    """Read and check the body. InvalidRequestError (400) names the first fault, in the order OpenAI looks for them."""
    fields, members, is_large = read_members(raw, max_depth)
    return check_create_request(fields, members, is_large=is_large)


def read_members(raw: bytes, max_depth: int) -> tuple[dict[str, Any], dict[str, body.Json], bool]:
    """The members of a body, decoded and as sent, before they are checked; and if it is large. InvalidRequestError."""
    return body.read_object(raw, max_depth, _KNOWN, "input")


def check_create_request(
    fields: dict[str, Any], members: dict[str, body.Json], *, is_large: bool, generates: bool = True
) -> CreateRequest:
    """The request of these members, decoded and as sent. One that `generates` nothing needs nothing to answer."""
    _check_presence(fields, generates=generates)
    _check_fields(fields, _NEVER_NULL)
    _check_history(fields, generates=generates)
    return CreateRequest(model=fields["model"], members=members, fields=fields, is_large=is_large)


def parse_compact_request(raw: bytes, max_depth: int) -> CreateRequest:
    """Read and check the body of POST /v1/responses/compact, as that of a call that answers nothing."""
    fields, members, is_large = read_members(raw, max_depth)
    if "model" not in fields:
        raise wording.missing("model")
    for name in _NOT_COMPACTED:
        if fields.get(name):
            raise wording.unsupported(name, "by this endpoint")
    _check_fields(fields, ("model",))
    _check_history(fields, generates=True)
    return CreateRequest(model=fields["model"], members=members, fields=fields, is_large=is_large)


def parse_count_request(raw: bytes, max_depth: int) -> CreateRequest:
    """Read and check the body of POST /v1/responses/input_tokens, in which everything may be left out."""
    fields, members, is_large = read_members(raw, max_depth)
    _check_fields(fields, ())
    if fields.get("personality") is not None:
        _PERSONALITY(fields["personality"], "personality")
    _check_history(fields, generates=False)
    model = fields.get("model") or ""
    return CreateRequest(model=model, members=members, fields=fields, is_large=is_large)


def _check_fields(fields: Mapping[str, Any], never_null: Collection[str]) -> None:
    try:
        _check_each(fields, never_null)
    except InvalidRequestError:
        # Of several faults the one is told that stands first in OpenAI's order; the usual body has none to order.
        _check_each({name: fields[name] for name in _FIELDS if name in fields}, never_null)


def _check_each(fields: Mapping[str, Any], never_null: Collection[str]) -> None:
    for name, value in fields.items():
        if (value is not None or name in never_null) and (check := _FIELDS.get(name)) is not None:
            check(value, name)


def _check_presence(fields: Mapping[str, Any], *, generates: bool) -> None:
    if "model" not in fields:
        raise wording.missing("model")
    if "input" in fields or not generates:
        return
    if "messages" in fields:
        raise wording.moved("messages", "input")
    if fields.get("prompt") is None:
        raise wording.missing("input")


def _check_history(fields: Mapping[str, Any], *, generates: bool) -> None:
    """Where the context comes from: one history at most, and something to answer."""
    previous, conversation = fields.get("previous_response_id"), fields.get("conversation")
    if previous is not None and conversation is not None:
        raise InvalidRequestError(
            "Mutually exclusive parameters: ''. "
            "Ensure you are only providing one of: 'previous_response_id' or 'conversation'.",
            code="mutually_exclusive_parameters",
        )
    if not generates or fields.get("input"):
        return
    if previous is None and conversation is None and fields.get("prompt") is None:
        raise InvalidRequestError(
            "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation' must be provided.",
            code="missing_required_parameter",
        )


def _check_model(value: Any, path: str) -> None:
    _STRING(value, path)
    if not value:
        raise wording.unknown_model(value)


_STRING = string()
_ID = string(maximum=512)
_OBJECT = object_of()
_NAME = re.compile(r"^[a-zA-Z0-9_-]+$")

INCLUDE = enum(
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
)

TOOL = tagged(
    _STRING,
    {
        "function": object_of(required={"name": string(maximum=128, non_empty=True, pattern=_NAME)}),
        "custom": object_of(required={"name": string(non_empty=True)}),
        "namespace": object_of(optional={"name": string(maximum=64)}),
    },
)

_TEXT_FORMAT = tagged(
    enum("text", "json_object", "json_schema"),
    {
        "json_schema": object_of(
            required={"name": string(maximum=64, non_empty=True, pattern=_NAME), "schema": _OBJECT},
            optional={"strict": boolean, "description": _STRING},
        ),
    },
)

_REASONING = object_of(
    optional={
        "effort": enum("none", "minimal", "low", "medium", "high", "xhigh", "max"),
        "summary": enum("auto", "concise", "detailed"),
        "context": enum("auto", "current_turn", "all_turns"),
        "mode": enum("standard", "pro"),
    }
)

_CONTEXT_EDIT = object_of(required={"type": _STRING}, optional={"compact_threshold": integer(minimum=1000)})

# Each is a row of the database, and work for the loop that serves everybody else (100,000: 0.7 s).
_MOST_ITEMS = 10_000

_INPUT = either(
    "one of a string or array of input items",
    {
        str: string(maximum=LONGEST_TEXT),
        list: array_of(check_item, maximum=_MOST_ITEMS),
        # OpenAI takes a null for a string gone wrong.
        type(None): _STRING,
    },
)

_NEVER_NULL = ("model", "input")
_NOT_COMPACTED = ("background", "conversation", "prompt", "stream")
_PERSONALITY = string(maximum=64)

# In OpenAI's order: a body with two faults is told of the one that stands first here.
_FIELDS: Mapping[str, Check] = {
    "model": _check_model,
    "input": _INPUT,
    "previous_response_id": _ID,
    "conversation": either("one of a string or object", {str: _ID, dict: object_of(required={"id": _ID})}),
    "prompt": object_of(required={"id": _STRING}),
    "moderation": _OBJECT,
    "include": array_of(INCLUDE),
    "tools": array_of(TOOL),
    "tool_choice": either(
        "one of a string or object", {str: enum("none", "auto", "required"), dict: tagged(_STRING, {})}
    ),
    "metadata": check_metadata,
    "text": object_of(optional={"format": _TEXT_FORMAT, "verbosity": enum("low", "medium", "high")}),
    "temperature": decimal(minimum=0, maximum=2),
    "top_p": decimal(minimum=0, maximum=1),
    "presence_penalty": decimal(minimum=-2, maximum=2),
    "frequency_penalty": decimal(minimum=-2, maximum=2),
    "parallel_tool_calls": boolean,
    "stream": boolean,
    "stream_options": object_of(optional={"include_obfuscation": boolean}),
    "background": boolean,
    "background_options": _OBJECT,
    "max_output_tokens": integer(minimum=16),
    "max_tool_calls": integer(minimum=1),
    "reasoning": _REASONING,
    "user": _STRING,
    "safety_identifier": string(maximum=128),
    "prompt_cache_options": _OBJECT,
    "prompt_cache_key": _STRING,
    "prompt_cache_retention": enum("in_memory", "in-memory", "24h"),
    "truncation": enum("auto", "disabled"),
    "instructions": _STRING,
    "store": boolean,
    "service_tier": enum("auto", "default", "flex", "scale", "priority", "fast", "ultrafast"),
    "top_logprobs": integer(minimum=0, maximum=20),
    "context_management": array_of(_CONTEXT_EDIT, non_empty=True),
    "access_programs": _OBJECT,
    "image": _OBJECT,
}

MEMBERS = frozenset(_FIELDS)
"""The members that are known here, by their one spelling."""
_KNOWN = frozenset({*_FIELDS, "personality"})
