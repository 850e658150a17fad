"""What crashes left out of the ledger: the entries that stored responses stand for, found again once."""

from app.state.records import TokenUsage
from app.storage.responses.store import ResponseStore
from app.storage.usage.store import UsageStore
from tests.storage.conftest import NOW, MakeResponse
from tests.storage.usage.test_store import USED, all_entries, entry


async def test_a_stored_response_without_an_entry_is_found_once_it_is_late(
    usage: UsageStore, responses: ResponseStore, make_response: MakeResponse
) -> None:
    await responses.save(make_response("lost", usage=USED))
    await responses.save(make_response("told", usage=USED))
    await responses.save(make_response("unused"))
    await usage.record([entry(response_id="resp_told", is_stored=True)])
    assert await usage.unrecorded(NOW + 29, 30) == ([], None)
    found, swept = await usage.unrecorded(NOW + 31, 30)
    assert [(one.response_id, one.api_key_id, one.account, one.usage) for one in found] == [
        ("resp_lost", "key_1", "account-1", TokenUsage(100, 10, 110, 40, 3))
    ]
    assert swept is not None
    await usage.record(found, swept)
    assert await usage.unrecorded(NOW + 31, 30) == ([], None)
    # What is swept again, as another replica may, adds nothing.
    await usage.record(found, swept)
    assert len(await all_entries(usage)) == 2
    await responses.save(make_response("later", usage=USED))
    assert [one.response_id for one in (await usage.unrecorded(NOW + 31, 30))[0]] == ["resp_later"]


async def test_what_the_row_of_a_response_does_not_tell_is_read_from_the_response(
    usage: UsageStore, responses: ResponseStore, make_response: MakeResponse
) -> None:
    body = (
        b'{"id":"resp_x","status":"completed","model":"m","service_tier":"flex","output":[{"type":"web_search_call"}],'
        b'"usage":{"input_tokens":9,"output_tokens":1,"total_tokens":10,"input_tokens_details":{"cache_write_tokens":4}}}'
    )
    await responses.save(make_response("lost", usage=TokenUsage(9, 1, 10), body=body))
    found, _ = await usage.unrecorded(NOW + 31, 30)
    assert [(one.usage, one.service_tier) for one in found] == [(TokenUsage(9, 1, 10, 0, 0, 4, 1), "flex")]


async def test_a_summary_in_the_usage_of_a_response_is_not_found_again(
    usage: UsageStore, responses: ResponseStore, make_response: MakeResponse
) -> None:
    body = (
        b'{"id":"resp_x","status":"completed","model":"m","output":[{"type":"web_search_call"}],'
        b'"usage":{"input_tokens":5009,"output_tokens":501,"total_tokens":5510}}'
    )
    await responses.save(make_response("lost", usage=TokenUsage(9, 1, 10), body=body))
    await responses.save(make_response("warm", usage=TokenUsage(0, 0, 0)))
    found, _ = await usage.unrecorded(NOW + 31, 30)
    assert [one.usage for one in found] == [TokenUsage(9, 1, 10, 0, 0, 0, 1)]


async def test_a_young_response_is_not_passed_over(
    usage: UsageStore, responses: ResponseStore, make_response: MakeResponse
) -> None:
    for name in ("a", "b"):
        await responses.save(make_response(name, usage=USED))
    found, _ = await usage.unrecorded(NOW + 10, 30)
    assert not found
    found, _ = await usage.unrecorded(NOW - 3600, 30)
    assert [one.response_id for one in found] == ["resp_a", "resp_b"], "a clock that is an hour ahead stops nobody"
