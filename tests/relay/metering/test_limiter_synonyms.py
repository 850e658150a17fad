"""A policy is about a member, however that is spelled."""

from typing import Any

import pytest
from msgspec.structs import replace

from app.errors import InvalidRequestError
from app.relay.metering.limiter import Limiter
from app.relay.metering.prices import Prices
from app.runtime.compute_thread import ComputeThread
from app.settings.prices import PriceSettings
from app.state.policies import Budget, KeyPolicy, Limits, ProjectPolicy
from app.state.records import ApiKey
from app.state.usage import UsageEntry
from app.storage.limits.memory_counts import MemoryCounts
from tests.builders import make_caller, make_request

ENTRY = UsageEntry(0, "req_1", "proj_a", "key_1", "responses", "demo", is_stream=False, is_background=False)


def limited(**limits: Any) -> ApiKey:
    return make_caller(policy=KeyPolicy(limits=Limits(**limits)))


BOUND = make_caller(policy=KeyPolicy(models=("demo*",)))
CAPPED = limited(max_output_tokens=50)
SPENDING = limited(budgets=(Budget("day", usd=1),))
COUNTED = limited(requests_per_minute=100)


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("Model", [BOUND, SPENDING]),
        ("models", [BOUND, SPENDING]),
        ("provider", [BOUND, SPENDING]),
        ("MAX_OUTPUT_TOKENS", [CAPPED, SPENDING]),
        ("max_tokens", [CAPPED, SPENDING]),
        ("extra_body", [BOUND, CAPPED, SPENDING]),
        ("\u017ftream", [BOUND, CAPPED, SPENDING, COUNTED]),
        ("Previous_Response_Id", [BOUND, CAPPED, SPENDING, COUNTED]),
        ("client_metadata", []),
    ],
)
async def test_a_policy_holds_for_each_spelling_of_what_it_is_about(name: str, refused: list[ApiKey]) -> None:
    limiter = Limiter(MemoryCounts(), Prices([PriceSettings(model="*", input=1, output=1)]), ComputeThread())
    for caller in (BOUND, CAPPED, SPENDING, COUNTED, make_caller()):
        for endpoint in ("responses", "compact", "input_tokens"):
            entry = replace(ENTRY, endpoint=endpoint)
            request = make_request(**{name: "x"})
            if caller not in refused:
                await limiter.admit(caller, request, entry)
                continue
            with pytest.raises(InvalidRequestError) as raised:
                await limiter.admit(caller, request, entry)
            error = raised.value
            assert (error.status, error.code, error.param) == (400, "unsupported_parameter", name)
            assert f"'{name}'" in error.message


@pytest.mark.parametrize(
    ("policy", "name"),
    [
        (ProjectPolicy(models=("demo",)), "models"),
        (ProjectPolicy(limits=Limits(max_output_tokens=50)), "maxOutputTokens"),
    ],
)
async def test_a_project_policy_holds_for_each_spelling_too(policy: ProjectPolicy, name: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        await Limiter(MemoryCounts(), Prices([PriceSettings(model="*", input=1, output=1)]), ComputeThread()).admit(
            make_caller(project_policy=policy), make_request(**{name: 1}), ENTRY
        )
    assert raised.value.param == name
