"""What a key cannot be given: each refusal names the member."""

from collections.abc import Mapping
from typing import Any

import pytest

from app.errors import InvalidRequestError
from app.state.records import Project
from tests.administration.conftest import MASTER, Office

pytestmark = pytest.mark.slow_on_postgresql

LARGE, MISSING = "integer_above_max_value", "missing_required_parameter"


@pytest.mark.parametrize(
    ("members", "param", "code"),
    [
        ({"name": ""}, "name", "empty_string"),
        ({"name": "  "}, "name", "empty_string"),
        ({"name": "x" * 101}, "name", "string_above_max_length"),
        ({"name": "a\nb"}, "name", "invalid_value"),
        ({"name": "a\x00"}, "name", "invalid_value"),
        ({"name": 5}, "name", "invalid_type"),
        ({"name": "a\r\nb"}, "name", "invalid_value"),
        ({"name": "x" * 10_240}, "name", "string_above_max_length"),
        ({"owner": ""}, "owner", "empty_string"),
        ({"owner": "x" * 10_240}, "owner", "string_above_max_length"),
        ({"tags": ["a\x00"]}, "tags[0]", "invalid_value"),
        ({"tags": "a"}, "tags", "invalid_type"),
        ({"tags": ["x"] * 17}, "tags", "array_above_max_length"),
        ({"tags": ["x", ""]}, "tags[1]", "empty_string"),
        ({"expires_at": 1}, "expires_at", "integer_below_min_value"),
        ({"expires_at": 10**12}, "expires_at", "integer_above_max_value"),
        ({"expires_at": True}, "expires_at", "invalid_type"),
        ({"expires_at": "tomorrow"}, "expires_at", "invalid_type"),
        ({"policy": []}, "policy", "invalid_type"),
        ({"policy": {"role": "admin"}}, "policy.role", "unknown_parameter"),
        ({"policy": {"limits": {"budget": 1}}}, "policy.limits.budget", "unknown_parameter"),
        (
            {"policy": {"limits": {"budgets": [{"period": "day", "tokens": 1, "eur": 1}]}}},
            "policy.limits.budgets[0].eur",
            "unknown_parameter",
        ),
        ({"policy": {"scopes": ["root"]}}, "policy.scopes[0]", "invalid_value"),
        ({"policy": {"scopes": []}}, "policy.scopes", "empty_array"),
        ({"policy": {"models": []}}, "policy.models", "empty_array"),
        ({"policy": {"models": [""]}}, "policy.models[0]", "empty_string"),
        ({"policy": {"models": ["x" * 201]}}, "policy.models[0]", "string_above_max_length"),
        ({"policy": {"models": ["x"] * 65}}, "policy.models", "array_above_max_length"),
        ({"policy": {"addresses": ["10.0.0.0/33"]}}, "policy.addresses[0]", "invalid_value"),
        ({"policy": {"addresses": ["everywhere"]}}, "policy.addresses[0]", "invalid_value"),
        ({"policy": {"addresses": ["10.0.0.1"] * 65}}, "policy.addresses", "array_above_max_length"),
        (
            {"policy": {"limits": {"requests_per_minute": 0}}},
            "policy.limits.requests_per_minute",
            "integer_below_min_value",
        ),
        (
            {"policy": {"limits": {"tokens_per_minute": -1}}},
            "policy.limits.tokens_per_minute",
            "integer_below_min_value",
        ),
        (
            {"policy": {"limits": {"max_output_tokens": 2**60}}},
            "policy.limits.max_output_tokens",
            "integer_above_max_value",
        ),
        ({"policy": {"limits": {"concurrent_streams": "5"}}}, "policy.limits.concurrent_streams", "invalid_type"),
        ({"policy": {"limits": {"concurrent_streams": True}}}, "policy.limits.concurrent_streams", "invalid_type"),
        ({"policy": {"limits": {"budgets": [{"period": "day"}]}}}, "policy.limits.budgets[0]", "invalid_value"),
        ({"policy": {"limits": {"budgets": [{"usd": 1}]}}}, "policy.limits.budgets[0].period", MISSING),
        ({"policy": {"limits": {"requests_per_minute": 1.5}}}, "policy.limits.requests_per_minute", "invalid_type"),
        ({"policy": {"limits": {"requests_per_minute": 10**30}}}, "policy.limits.requests_per_minute", LARGE),
        ({"policy": {"addresses": ["10.0.0.0/8\r\n"]}}, "policy.addresses[0]", "invalid_value"),
        ({"policy": {"models": ["x\x00"]}}, "policy.models[0]", "invalid_value"),
        ({"policy": {"m" * 10_240: 1}}, f"policy.{'m' * 93}", "unknown_parameter"),
        (
            {"policy": {"limits": {"budgets": [{"period": "day", "usd": 0}]}}},
            "policy.limits.budgets[0].usd",
            "invalid_value",
        ),
        (
            {"policy": {"limits": {"budgets": [{"period": "day", "usd": float("nan")}]}}},
            "policy.limits.budgets[0].usd",
            "invalid_value",
        ),
        (
            {"policy": {"limits": {"budgets": [{"period": "day", "usd": 1e-12}]}}},
            "policy.limits.budgets[0].usd",
            "invalid_value",
        ),
        (
            {"policy": {"limits": {"budgets": [{"period": "day", "tokens": 0}]}}},
            "policy.limits.budgets[0].tokens",
            "integer_below_min_value",
        ),
        (
            {"policy": {"limits": {"budgets": [{"period": "day", "tokens": 1}, {"period": "day", "usd": 1.0}]}}},
            "policy.limits.budgets[1].period",
            "invalid_value",
        ),
        (
            {"policy": {"limits": {"budgets": [{"period": "hour", "tokens": 1}]}}},
            "policy.limits.budgets[0].period",
            "invalid_value",
        ),
    ],
)
async def test_what_a_key_cannot_have_is_refused_by_name(
    office: Office, project: Project, members: Mapping[str, Any], param: str, code: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await office.keys.create(MASTER, project_id=project.id, **{"name": "laptop", **members})
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, param, code)
    assert await office.keys.list() == []
