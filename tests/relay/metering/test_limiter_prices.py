"""Budgets in dollars: what has no price is refused, and what has several is charged by the one that applied."""

from typing import Any

import pytest
from msgspec.structs import replace

from app.errors import InvalidRequestError
from app.relay.metering.limiter import Limiter
from app.relay.metering.prices import Prices
from app.runtime.compute_thread import ComputeThread
from app.settings.prices import PriceSettings
from app.state.policies import Budget, Limits
from app.state.records import ApiKey
from tests.builders import make_request
from tests.fakes.kept_budgets import KeptBudgets
from tests.relay.metering.test_limiter import NOW, USED, limited, make_entry


def spending(**policy: Any) -> ApiKey:
    return limited(budgets=(Budget("day", usd=0.5),), **policy)


async def test_a_budget_in_dollars_refuses_a_model_whose_price_nobody_knows() -> None:
    counts = KeptBudgets(NOW)
    limiter = Limiter(counts, Prices(()), ComputeThread())
    for caller in (spending(), limited(project=Limits(budgets=(Budget("day", usd=0.5),)))):
        with pytest.raises(InvalidRequestError) as raised:
            await limiter.admit(caller, make_request(), make_entry())
        assert (raised.value.status, raised.value.code, raised.value.param) == (400, "model_price_unknown", "model")
        assert "The price of the model 'demo' is not known, and " in raised.value.message
    assert not counts.used
    # What asks no model costs nothing, and a budget in tokens needs no price.
    await limiter.admit(spending(), make_request(), replace(make_entry(), endpoint="input_tokens"))
    await limiter.admit(limited(budgets=(Budget("day", tokens=500),)), make_request(), make_entry())


async def test_an_operator_may_let_it_pass_uncharged() -> None:
    counts = KeptBudgets(NOW)
    limiter = Limiter(counts, Prices(()), ComputeThread(), allows_unpriced=True)
    entry = make_entry()
    reservation = await limiter.admit(spending(), make_request(), entry)
    entry.usage, entry.attempts = USED, 1
    await limiter.reconcile(reservation, entry)
    assert counts.used == {"usd_per_day": 0}


async def test_the_tier_that_served_a_call_is_what_it_is_charged_by() -> None:
    counts = KeptBudgets(NOW)
    limiter = Limiter(
        counts,
        Prices(
            [
                PriceSettings(model="demo", service_tier="priority", input=3, output=3),
                PriceSettings(model="demo", input=1, output=1),
            ]
        ),
        ComputeThread(),
    )
    entry = make_entry()
    reservation = await limiter.admit(spending(), make_request(input="x" * 100, service_tier="priority"), entry)
    assert counts.used == {"usd_per_day": 29 * 3000}
    entry.usage, entry.attempts, entry.service_tier = USED, 1, "default"
    await limiter.reconcile(reservation, entry)
    assert counts.used == {"usd_per_day": 100 * 1000}
