"""The models of the sums: those that have answered, however many names clients make up."""

from typing import Any

from app.state.records import TokenUsage
from app.storage.usage.store import UsageStore
from tests.storage.usage.test_store import all_entries, entry, whole


async def test_a_model_that_never_answered_has_no_row_of_its_own_in_the_sums(usage: UsageStore) -> None:
    refused: dict[str, Any] = {"usage": None, "status": 404, "attempts": 1}
    left: dict[str, Any] = {"usage": TokenUsage(5, 0, 5), "is_estimated": True, "status": 499}
    failed: dict[str, Any] = {"usage": None, "first_byte_ms": 5, "response_status": "failed"}
    ways = [
        refused,
        left,
        failed,
        {**refused, "first_byte_ms": 5},
        {**left, "status": 200, "response_status": "failed"},
    ]
    await usage.record([entry(model=f"made-up-{number}", **ways[number % len(ways)]) for number in range(100)])
    await usage.record([entry(model="real", usage=None, first_byte_ms=5), entry(model="told"), entry(model="told")])
    sums = {row.model: row.requests for row in await whole(usage, group_by=["model"])}
    assert sums == {"": 100, "real": 1, "told": 2}
    assert {one.model for one in await all_entries(usage)} >= {"made-up-0", "made-up-99"}, "the calls keep the name"
