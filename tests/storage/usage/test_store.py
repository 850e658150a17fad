"""The ledger in the database: an entry once, and sums that are those of the entries."""

import asyncio
import secrets
from typing import Any

import pytest

from app.errors import InvalidRequestError
from app.state.records import TokenUsage
from app.state.usage import UsageEntry, UsageSum
from app.storage.engine.database import Database
from app.storage.engine.storable_text import storable_id
from app.storage.usage import store as usage_store
from app.storage.usage.store import UsageStore
from app.storage.writer.writer import Writer
from tests.storage.conftest import NOW

HOUR, DAY = 3600, 86_400
# 00:00 UTC of a day.
MIDNIGHT = NOW - NOW % DAY
USED = TokenUsage(100, 10, 110, 40, 3)


def entry(at: int = MIDNIGHT, **facts: Any) -> UsageEntry:
    told: dict[str, Any] = {
        "request_id": "req_1",
        "project_id": "proj_a",
        "api_key_id": "key_1",
        "endpoint": "responses",
        "model": "gpt-5",
        "is_stream": False,
        "is_background": False,
        "account": "main/abc",
        "attempts": 1,
        "usage": USED,
    }
    return UsageEntry(at, **(told | facts))


async def whole(usage: UsageStore, **given: Any) -> list[UsageSum]:
    return [*await usage.summary(**({"since": 0, "until": MIDNIGHT + 900 * DAY} | given))]


async def all_entries(usage: UsageStore, **given: Any) -> list[UsageEntry]:
    found = await usage.entries(**({"since": 0, "until": MIDNIGHT + 900 * DAY, "limit": 1000} | given))
    return [entry for _, entry in found]


def added(entries: list[UsageEntry]) -> tuple[int, ...]:
    used = [one.usage or TokenUsage(0, 0, 0) for one in entries]
    return (
        len(entries),
        sum(each.input_tokens for each in used),
        sum(each.cached_tokens for each in used),
        sum(each.output_tokens for each in used),
        sum(each.reasoning_tokens for each in used),
        sum(one.cost_nano or 0 for one in entries),
    )


def summed(rows: list[UsageSum]) -> tuple[int, ...]:
    return tuple(
        sum(column)
        for column in zip(
            *[
                (
                    row.requests,
                    row.input_tokens,
                    row.cached_tokens,
                    row.output_tokens,
                    row.reasoning_tokens,
                    row.cost_nano,
                )
                for row in rows
            ],
            strict=True,
        )
    )


@pytest.mark.parametrize("count", [1, 7, 8, 63, 64, 79, 1000])
async def test_any_number_of_entries_is_written_whole_and_in_order(usage: UsageStore, count: int) -> None:
    recorded = [entry(request_id=f"req_{number}") for number in range(count)]
    await usage.record(recorded)
    assert [each.request_id for each in await all_entries(usage)] == [each.request_id for each in reversed(recorded)]


async def test_an_entry_is_read_back_as_it_was(usage: UsageStore) -> None:
    given = entry(
        model_served="gpt-5-2025",
        affinity="kept",
        response_id="resp_1",
        response_status="failed",
        status=502,
        error_code="server_error",
        first_byte_ms=7,
        latency_ms=9,
        is_stored=True,
        cost_nano=12,
        service_tier="flex",
        usage=TokenUsage(100, 10, 110, 40, 3, 20, 2, 1),
        is_estimated=True,
    )
    await usage.record([given])
    assert await all_entries(usage) == [given]
    (row,) = await whole(usage)
    assert (row.cache_write_tokens, row.estimated_requests) == (20, 1)


async def test_what_cannot_be_stored_as_text_is_replaced_and_bounded(usage: UsageStore) -> None:
    huge = TokenUsage(2**63 - 1, 2**63 - 1, 0, 0, 0)
    await usage.record(
        [entry(model="a\x00b\ud800", error_code="x" * 5000, response_id="\x00", usage=huge, cost_nano=2**80)] * 3
    )
    (first, *_) = await all_entries(usage)
    assert (first.model, first.error_code, first.response_id) == ("a\ufffdb\ufffd", "x" * 200, "\ufffd")
    (total,) = await whole(usage, group_by=["model"])
    assert (total.model, total.requests, total.input_tokens) == ("a\ufffdb\ufffd", 3, 3 * 2**40)


async def test_an_id_that_no_index_takes_whole_holds_up_nothing(usage: UsageStore) -> None:
    endless = secrets.token_hex(50_000)
    await usage.record([entry(response_id=endless, is_stored=True)] * 2)
    await usage.record([entry(response_id=endless, is_stored=True), entry(response_id="resp_1")])
    assert [one.response_id for one in await all_entries(usage)] == ["resp_1", storable_id(endless)]


async def test_sums_are_those_of_the_entries_by_whatever_they_are_grouped(usage: UsageStore) -> None:
    entries = [
        entry(
            MIDNIGHT + 1000 * number,
            project_id=f"proj_{'ab'[number % 2]}",
            api_key_id=f"key_{number % 3}",
            model=f"m{number % 4}",
            account=None if number % 7 == 0 else f"up{number % 2}/x",
            usage=None if number % 5 == 0 else TokenUsage(number, 2 * number, 0, number // 2, 1),
            cost_nano=None if number % 3 == 0 else number,
            first_byte_ms=1,
        )
        for number in range(200)
    ]
    for start in range(0, len(entries), 50):
        await usage.record(entries[start : start + 50])
    for groups in (
        [],
        ["project"],
        ["key", "model"],
        ["day"],
        ["hour", "upstream"],
        ["project", "key", "model", "day"],
    ):
        assert summed(await whole(usage, group_by=groups)) == added(entries)
    days = await whole(usage, group_by=["day"])
    assert [row.begins for row in days] == [MIDNIGHT, MIDNIGHT + DAY, MIDNIGHT + 2 * DAY]
    assert days[1].requests == len([one for one in entries if MIDNIGHT + DAY <= one.at < MIDNIGHT + 2 * DAY])
    own = [one for one in entries if one.project_id == "proj_a" and one.model == "m2"]
    assert summed(await whole(usage, project_id="proj_a", model="m2")) == added(own)
    assert (await whole(usage))[0].unpriced_requests == len(
        [one for one in entries if one.cost_nano is None and one.usage is not None]
    )


async def test_errors_and_affinity_are_counted(usage: UsageStore) -> None:
    await usage.record(
        [
            entry(status=200, affinity="kept"),
            entry(status=429, usage=None),
            entry(status=499, affinity="moved", usage=None),
            entry(status=200, response_status="failed", affinity="moved"),
        ]
    )
    (row,) = await whole(usage)
    assert (row.requests, row.errors) == (4, 2)
    assert (row.kept_requests, row.kept_input_tokens, row.kept_cached_tokens) == (1, 100, 40)
    assert (row.moved_requests, row.moved_input_tokens, row.moved_cached_tokens) == (2, 100, 40)


async def test_nothing_used_is_no_row(usage: UsageStore) -> None:
    assert await whole(usage) == []
    assert await whole(usage, group_by=["day"]) == []


async def test_a_stored_response_has_one_entry_whoever_writes_it(usage: UsageStore) -> None:
    stored = entry(response_id="resp_1", is_stored=True)
    await usage.record([stored, stored])
    await usage.record([stored, entry(response_id="resp_2", is_stored=True)])
    await asyncio.gather(usage.record([stored]), usage.record([entry(response_id="resp_2", is_stored=True)]))
    assert [one.response_id for one in await all_entries(usage)] == ["resp_2", "resp_1"]
    # Another project's is another response, and those that are not stored may have one id as often as upstream likes.
    await usage.record([entry(response_id="resp_1", is_stored=True, project_id="proj_b")])
    await usage.record([entry(response_id="resp_1")] * 2)
    assert len(await all_entries(usage)) == 5
    assert (await whole(usage))[0].requests == 5


async def test_two_writers_add_to_the_same_sums(usage: UsageStore, database: Database, database_url: str) -> None:
    other_database = Database(database_url, 2, 5.0)
    other_writer = Writer(other_database, 5.0)
    other = UsageStore(other_database, other_writer)
    try:
        for _ in range(20):
            await asyncio.gather(
                usage.record([entry(model=f"m{number}") for number in range(9)]),
                other.record([entry(model=f"m{number}") for number in reversed(range(9))]),
            )
        rows = await whole(usage, group_by=["model"])
        assert [row.requests for row in rows] == [40] * 9
    finally:
        await other_writer.aclose()
        await other_database.aclose()


async def test_pages_of_entries_pass_over_none(usage: UsageStore) -> None:
    await usage.record([entry(MIDNIGHT + number // 3, request_id=f"req_{number}") for number in range(20)])
    await usage.record([entry(MIDNIGHT + 100, api_key_id="key_2")])
    seen: list[str] = []
    after: int | None = None
    while page := await usage.entries(api_key_id="key_1", since=0, until=MIDNIGHT + DAY, after=after, limit=7):
        seen += [one.request_id for _, one in page]
        after = page[-1].key
    assert seen == [f"req_{number}" for number in reversed(range(20))]
    assert len(await all_entries(usage, since=MIDNIGHT + 1, until=MIDNIGHT + 3)) == 6
    assert await all_entries(usage, project_id="proj_b") == []


async def test_too_many_groups_are_refused(usage: UsageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_store, "MOST_ROWS", 3)
    await usage.record([entry(model=f"m{number}") for number in range(4)])
    with pytest.raises(InvalidRequestError):
        await whole(usage, group_by=["model"])
    assert len(await whole(usage, group_by=["model"], model="m1")) == 1


async def test_of_many_stored_responses_those_that_have_an_entry_get_no_other(usage: UsageStore) -> None:
    many = [
        entry(project_id=f"proj_{'ab'[number % 2]}", response_id=f"resp_{number}", is_stored=True)
        for number in range(300)
    ]
    await usage.record(many[::3])
    await usage.record(many)
    assert sorted(one.response_id or "" for one in await all_entries(usage)) == sorted(
        one.response_id or "" for one in many
    )
    assert summed(await whole(usage)) == added(many)


async def test_old_entries_go_and_their_sums_stay(usage: UsageStore) -> None:
    await usage.record([entry(MIDNIGHT + number * DAY) for number in range(12)])
    assert await usage.purge(MIDNIGHT + 10 * DAY, batch=3) == 10
    assert len(await all_entries(usage)) == 2
    assert (await whole(usage))[0].requests == 12
