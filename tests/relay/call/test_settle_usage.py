"""What the end of a turn tells its entry: the tier and the searches that are paid for, and what was left unsaid."""

from typing import Any

import pytest

from app.relay.call.settle import Settler
from app.runtime.compute_thread import ComputeThread
from app.state.records import TokenUsage
from app.state.usage import UsageEntry
from tests.builders import ACCOUNT, says
from tests.relay.call.test_settle import body, exchange

COUNTS = {"input_tokens": 90, "output_tokens": 9, "total_tokens": 99}


async def settled(**members: Any) -> UsageEntry:
    turn = exchange(None, store=False)
    turn.entry = UsageEntry(0, "req_1", "proj_a", "key_1", "responses", "demo", False, False)
    await Settler(30, ComputeThread()).settle(turn, ACCOUNT, body(**members))
    return turn.entry


async def test_the_tier_that_served_and_what_it_searched_are_told() -> None:
    output = [
        {"type": "web_search_call", "action": {"type": "search"}},
        {"type": "web_search_call", "action": {"type": "open_page"}},
        {"type": "web_search_call"},
        {"type": "file_search_call"},
        says("Found."),
    ]
    details = {"cached_tokens": 20, "cache_write_tokens": 30}
    entry = await settled(output=output, service_tier="flex", usage={**COUNTS, "input_tokens_details": details})
    assert (entry.service_tier, entry.is_metered) == ("flex", True)
    assert entry.usage == TokenUsage(90, 9, 99, 20, 0, 30, 2, 1)


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": 0, "output_tokens": 0}, {"input_tokens": None}, "none"])
async def test_output_of_which_nobody_says_what_it_took_is_estimated(usage: Any) -> None:
    entry = await settled(output=[says("x" * 400)], usage=usage)
    assert not entry.is_metered
    assert 100 <= entry.relayed_tokens < 120
