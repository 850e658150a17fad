"""The bodies of the calls that make no response."""

from typing import Any

import orjson
import pytest

from app.errors import InvalidRequestError
from app.wire.requests.create import CreateRequest, parse_compact_request, parse_count_request

_NOTHING_GIVEN = (
    "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation' must be provided.",
    "missing_required_parameter",
    None,
)


def compact(**fields: Any) -> CreateRequest:
    return parse_compact_request(orjson.dumps({"model": "demo", **fields}), 64)


def count(**fields: Any) -> CreateRequest:
    return parse_count_request(orjson.dumps(fields), 64)


def refusal(parse: Any, **fields: Any) -> tuple[str, str | None, str | None]:
    with pytest.raises(InvalidRequestError) as error:
        parse(**fields)
    return error.value.message, error.value.code, error.value.param


@pytest.mark.parametrize(
    "fields",
    [
        {"input": "Hi."},
        {"input": [{"role": "user", "content": "Hi."}], "instructions": None},
        {"previous_response_id": "resp_1"},
        {"previous_response_id": "resp_1", "input": None},
        {"input": "Hi.", "image": {"context_compression": "auto"}, "service_tier": "fast", "prompt_cache_key": "k"},
    ],
)
def test_a_compact_body_is_kept_as_it_was_sent(fields: dict[str, Any]) -> None:
    assert compact(**fields).fields == {"model": "demo", **fields}


def test_a_compact_call_needs_a_model_and_something_to_compact() -> None:
    with pytest.raises(InvalidRequestError, match=r"Missing required parameter: 'model'\."):
        parse_compact_request(b'{"input": "Hi."}', 64)
    assert refusal(compact) == _NOTHING_GIVEN
    assert refusal(compact, input=[]) == _NOTHING_GIVEN
    assert refusal(compact, model=None, input="Hi.")[1:] == ("invalid_type", "model")


@pytest.mark.parametrize("name", ["background", "conversation", "prompt", "stream"])
def test_what_a_compact_call_cannot_have_is_refused(name: str) -> None:
    told = refusal(compact, input="Hi.", **{name: True})
    assert told == (
        f"Unsupported parameter: '{name}' is not supported by this endpoint.",
        "unsupported_parameter",
        name,
    )


def test_a_count_may_leave_everything_out() -> None:
    assert count().model == ""
    assert count(model=None, input=None, tools=None).input is None
    assert count(model="demo", input="Hi.", personality="friendly").model == "demo"


def test_a_count_is_checked_like_a_create_call() -> None:
    assert refusal(count, input=[{"role": "user"}])[1:] == ("missing_required_parameter", "input[0].content")
    assert refusal(count, personality="x" * 65)[1:] == ("string_above_max_length", "personality")
    both = refusal(count, conversation="conv_1", previous_response_id="resp_1")
    assert both[1:] == ("mutually_exclusive_parameters", None)


def test_a_compaction_has_content_of_a_length() -> None:
    told = refusal(compact, input=[{"type": "compaction"}])
    assert told[1:] == ("missing_required_parameter", "input[0].encrypted_content")
    told = refusal(compact, input=[{"type": "compaction", "encrypted_content": "x" * 20_971_521}])
    assert told[1:] == ("string_above_max_length", "input[0].encrypted_content")
