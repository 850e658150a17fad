"""What is malformed is refused by its path in the words of the API, and breaks nothing."""

from typing import Any

import pytest

from app.upstream.transport import UnfitRequestError
from tests.upstream.chat.translated import messages, request

FUNCTION: Any = {"type": "function", "name": "f", "parameters": None}
SCHEMA: Any = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}


def test_an_unknown_role_is_refused_and_no_user() -> None:
    with pytest.raises(UnfitRequestError) as refused:
        messages([{"role": "critic", "content": "Hi"}])
    assert (refused.value.param, refused.value.code) == ("input[0].role", "invalid_value")


@pytest.mark.parametrize(
    ("item", "param"),
    [
        (None, "input[0]"),
        ({"type": ["message"], "role": "user", "content": "x"}, "input[0].type"),
        ({"type": None}, "input[0].type"),
        ({"role": "user", "content": None}, "input[0].content"),
        ({"role": "user", "content": [None]}, "input[0].content[0]"),
        ({"role": "user", "content": [{"type": "input_text", "text": 5}]}, "input[0].content[0].text"),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": None}]}, "input[0].content[0].refusal"),
        ({"role": "user", "content": [{"type": {}, "text": "x"}]}, "input[0].content[0].type"),
        ({"role": "user", "content": [{"type": "video"}]}, "input[0].content[0]"),
        (
            {"role": "user", "content": [{"type": "input_image", "image_url": "https://x", "detail": []}]},
            "input[0].content[0].detail",
        ),
        ({"role": "user", "content": [{"type": "input_image"}]}, "input[0].content[0].image_url"),
        ({"type": "function_call", "call_id": "c", "arguments": "{}"}, "input[0].name"),
        ({"type": "function_call", "call_id": "c", "name": "", "arguments": "{}"}, "input[0].name"),
        ({"type": "function_call", "name": "f", "arguments": "{}"}, "input[0].call_id"),
        ({"type": "function_call", "call_id": "c", "name": "f", "namespace": {}}, "input[0].namespace"),
        ({"type": "custom_tool_call", "call_id": "c", "name": "f", "input": {"a": 1}}, "input[0].input"),
    ],
)
def test_a_malformed_item_is_refused_by_its_path(item: Any, param: str) -> None:
    with pytest.raises(UnfitRequestError) as refused:
        messages([item])
    assert (refused.value.param, refused.value.status) == (param, 400)
    assert f"'{param}'" in refused.value.message


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        (None, "tools[0]"),
        ({"name": "f"}, "tools[0].type"),
        ({"type": ["function"], "name": "f"}, "tools[0].type"),
        ({"type": "function"}, "tools[0].name"),
        ({"type": "function", "name": None}, "tools[0].name"),
        ({"type": "custom", "name": ""}, "tools[0].name"),
        ({"type": "function", "name": "f", "parameters": []}, "tools[0].parameters"),
        ({"type": "function", "name": "f", "strict": "yes"}, "tools[0].strict"),
        ({"type": "function", "name": "f", "description": {}}, "tools[0].description"),
        ({"type": "custom", "name": "f", "format": "text"}, "tools[0].format"),
        ({"type": "namespace", "tools": []}, "tools[0].name"),
        ({"type": "namespace", "name": "n", "tools": {}}, "tools[0].tools"),
        ({"type": "namespace", "name": "n", "tools": [5]}, "tools[0].tools[0]"),
        ({"type": "namespace", "name": "n", "tools": [{"type": "function"}]}, "tools[0].tools[0].name"),
    ],
)
def test_a_malformed_tool_is_refused_by_its_path_whoever_brings_it(tool: Any, param: str) -> None:
    with pytest.raises(UnfitRequestError) as refused:
        request(tools=[tool])
    assert (refused.value.param, refused.value.status) == (param, 400)
    with pytest.raises(UnfitRequestError) as refused:
        request(input=[{"role": "user", "content": "Hi"}, {"type": "additional_tools", "tools": [tool]}])
    assert refused.value.param == f"input[1].{param}"


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        ({"type": []}, "tool_choice.type"),
        ({"type": "function", "name": 5}, "tool_choice.name"),
        ({"type": "allowed_tools"}, "tool_choice.tools"),
        ({"type": "allowed_tools", "tools": [None]}, "tool_choice.tools[0]"),
        ({"type": "allowed_tools", "tools": [{"type": "function"}]}, "tool_choice"),
        ({"type": "allowed_tools", "mode": {}, "tools": []}, "tool_choice.mode"),
    ],
)
def test_a_malformed_choice_is_refused_by_its_path(choice: Any, param: str) -> None:
    with pytest.raises(UnfitRequestError) as refused:
        request(tools=[FUNCTION], tool_choice=choice)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"text": "json"}, "text"),
        ({"text": {"format": []}}, "text.format"),
        ({"text": {"format": {"type": {}}}}, "text.format.type"),
        ({"text": {"format": {"type": "grammar", "definition": "x"}}}, "text.format.type"),
        ({"reasoning": []}, "reasoning"),
        ({"include": {}}, "include"),
        ({"include": [[]]}, "include[0]"),
        ({"tools": {}}, "tools"),
        ({"input": {}}, "input"),
        ({"instructions": ["Hi"]}, "instructions"),
        ({"prompt_cache_options": []}, "prompt_cache_options"),
        ({"temperature": "hot"}, "temperature"),
    ],
)
def test_a_malformed_parameter_is_refused_in_the_words_of_the_api(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(UnfitRequestError) as refused:
        request(**fields)
    assert (refused.value.param, refused.value.status) == (param, 400)
    assert f"'{param}'" in refused.value.message


def test_what_is_nested_too_deep_to_be_written_is_refused_by_its_member() -> None:
    deep: Any = {}
    for _ in range(300):
        deep = {"x": deep}
    for fields, param in (
        ({"tools": [{**FUNCTION, "parameters": deep}]}, "tools"),
        ({"tools": [FUNCTION, {"type": "file_search", "filters": deep}]}, "tools"),
        ({"prompt_cache_options": deep}, "prompt_cache_options"),
        ({"text": {"format": {**SCHEMA, "schema": deep}}}, "text"),
    ):
        with pytest.raises(UnfitRequestError) as refused:
            request(**fields)
        assert refused.value.param == param
