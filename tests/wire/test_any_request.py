"""Whatever the body: a request or one refusal, and no other outcome."""

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InvalidRequestError
from app.wire.json_body import join_object
from app.wire.requests.create import CreateRequest, parse_create_request
from app.wire.requests.input_items import item_type
from tests.wire.refusals import MAX_DEPTH, ORDER, valid

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
KEYS = st.sampled_from(
    ["type", "id", "role", "content", "name", "call_id", "output", "arguments", "input", "summary", "format", "schema"]
)
WORDS = st.sampled_from(
    [
        "message",
        "assistant",
        "input_text",
        "reasoning",
        "item_reference",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "function",
        "custom",
        "namespace",
        "json_schema",
    ]
)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | TEXT, inner, max_size=6),
    max_leaves=15,
)


def outcome(raw: bytes) -> CreateRequest | InvalidRequestError:
    try:
        return parse_create_request(raw, MAX_DEPTH)
    except InvalidRequestError as error:
        return error


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(ORDER), ANYTHING), st.booleans())
def test_any_value_in_any_field_is_accepted_or_refused_and_nothing_else(fields: dict[str, Any], complete: bool) -> None:
    raw = orjson.dumps(valid() | fields if complete else fields)
    result = outcome(raw)
    if isinstance(result, CreateRequest):
        assert result.fields == orjson.loads(raw)
        assert orjson.loads(join_object(result.members)) == result.fields
    else:
        answer = orjson.loads(result.body())["error"]
        assert result.status == 400
        assert set(answer) == {"message", "type", "param", "code"}
        assert len(answer["message"]) < 1_000


@settings(deadline=None)
@given(st.lists(st.dictionaries(KEYS, ANYTHING | WORDS), min_size=1))
def test_any_item_is_accepted_or_refused_and_nothing_else(items: list[Any]) -> None:
    result = outcome(orjson.dumps(valid(input=items)))
    if isinstance(result, CreateRequest):
        assert all(item_type(item) is not None for item in items)
    else:
        assert result.param is not None
        assert result.param.startswith("input[")
