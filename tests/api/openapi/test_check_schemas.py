"""The schemas of request bodies, held against the checks that they are read from."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.openapi import request_schemas
from app.errors import InvalidRequestError
from app.wire.requests import create, field_rules
from app.wire.requests.field_rules import OPENAI_RULES, STRUCTURAL_RULES
from app.wire.requests.value_checks import Check
from tests.fakes.described import Description

# No whole number as a fraction: JSON Schema takes 1.0 for an integer, and the API does not.
_LEAVES = st.sampled_from(
    [
        *(None, True, False, 0, 1, 3, 16, 21, -1, -3, 1000, 0.5, 2.5, -2.5, "", "text", "x" * 65, "x" * 513),
        *(
            "conv_1",
            "resp_1",
            "auto",
            "none",
            "low",
            "message",
            "user",
            "assistant",
            "input_text",
            "function",
            "custom",
        ),
        *("namespace", "function_call", "function_call_output", "custom_tool_call", "reasoning", "compaction", "json"),
        *("json_schema", "item_reference", "hologram", "24h", "in_memory", "flex", "a name", "output_text"),
    ]
)
_NAMES = st.sampled_from(
    [
        *("type", "id", "name", "role", "content", "call_id", "output", "arguments", "input", "summary", "status"),
        *("encrypted_content", "schema", "strict", "format", "verbosity", "effort", "compact_threshold", "text", "x"),
        *("include_obfuscation", "parameters", "x" * 65),
    ]
)
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=5), max_leaves=12
)


@pytest.fixture(scope="module")
def body() -> Description:
    """The schemas of the bodies."""
    return Description({"paths": {}, "components": {"schemas": request_schemas.components()}})


@pytest.mark.parametrize("name", OPENAI_RULES)
@given(value=_VALUES)
def test_a_value_passes_the_schema_of_a_member_where_a_rule_lets_it_pass(
    name: str, value: Any, body: Description
) -> None:
    schema = body.document["components"]["schemas"]["CountInputTokens"]["properties"][name]
    is_taken = value is None or _passes(OPENAI_RULES[name], value) or _passes(STRUCTURAL_RULES[name], value)
    assert (not body.faults(schema, value)) is is_taken


def _passes(check: Check, value: Any) -> bool:
    try:
        check(value, "value")
    except InvalidRequestError:
        return False
    return True


@pytest.mark.parametrize(
    ("given", "is_taken"),
    [
        ({"model": "m", "input": "hi"}, True),
        ({"model": "m", "input": [{"role": "user", "content": "hi"}], "not_known": [1]}, True),
        ({"prompt": {"id": "pmpt_1"}}, True),
        ({"input": "hi"}, False),
        ({"model": "m"}, False),
        ({"model": "m", "input": None}, False),
        ({"model": None, "input": "hi"}, False),
    ],
)
def test_a_create_body_needs_a_model_and_an_input_or_a_prompt(
    given: Mapping[str, Any], is_taken: bool, body: Description
) -> None:
    assert (not body.faults({"$ref": "#/components/schemas/CreateResponse"}, given)) is is_taken


def test_the_values_that_openai_has_are_told_though_others_pass(body: Description) -> None:
    tiers = body.document["components"]["schemas"]["CreateServiceTier"]
    assert tiers == {
        "anyOf": [
            {"type": "string", "enum": ["auto", "default", "fast", "flex", "priority", "scale", "ultrafast"]},
            {"type": "string"},
        ]
    }


def test_every_member_that_is_checked_has_a_description_and_no_other() -> None:
    assert {*request_schemas.MEMBERS} == create.MEMBERS == {*field_rules.STRUCTURAL_RULES}
