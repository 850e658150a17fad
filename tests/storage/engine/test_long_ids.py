"""Ids of any length, which upstreams choose: alike on every database."""

import secrets

from app.state.records import Item
from app.storage.conversations.store import ConversationStore
from app.storage.engine.storable_text import LONGEST_ID, storable_id
from app.storage.responses.store import ResponseStore
from app.storage.usage.store import UsageStore
from tests.storage.conftest import NOW, MakeResponse
from tests.storage.usage.test_store import all_entries, entry


def long(name: str) -> str:
    # Of letters that do not compress, or an index might have room for them.
    return f"{name}_" + "".join(chr(0x4E00 + byte) for byte in secrets.token_bytes(6000))


def test_two_ids_that_begin_alike_are_two() -> None:
    beginning = "x" * 5000
    kept = {storable_id(beginning + end) for end in ("", "a", "b")}
    assert len(kept) == 3
    assert {len(one) for one in kept} == {LONGEST_ID}
    assert {storable_id(one) for one in kept} == kept
    assert storable_id("x" * LONGEST_ID) == "x" * LONGEST_ID


async def test_a_response_is_kept_under_an_id_of_any_length(
    responses: ResponseStore, make_response: MakeResponse
) -> None:
    first, second, item_id = long("one"), long("two"), long("msg")
    item = Item(item_id, "message", is_output=False, content=b'"said"')
    await responses.save(make_response(first, items=(item,)))
    chain = await responses.read_chain("proj_a", f"resp_{first}", NOW)
    assert chain is not None
    assert [item.id for item in chain.turns[0].items] == [item_id]
    await responses.save(make_response(second, chain.key))
    assert len(getattr(await responses.read_chain("proj_a", f"resp_{second}", NOW), "turns", ())) == 2
    assert await responses.read_body("proj_a", f"resp_{first}", NOW) == b"{}"
    assert await responses.read_body("proj_a", f"resp_{long('one')}", NOW) is None
    found = await responses.read_items("proj_a", [item_id, long("msg")], NOW)
    assert {name: item.content for name, item in found.items()} == {item_id: b'"said"'}
    assert await responses.delete("proj_a", f"resp_{first}", NOW)
    assert await responses.read_body("proj_a", f"resp_{first}", NOW) is None


async def test_an_item_of_a_conversation_has_an_id_of_any_length(conversations: ConversationStore) -> None:
    first, second = long("msg"), long("msg")
    named = zip((first, second), (b"0", b"1"), strict=True)
    items = [Item(name, "message", is_output=False, content=content) for name, content in named]
    await conversations.add_items("proj_a", "conv_1", items)
    found = await conversations.read_items("proj_a", "conv_1", [first, second])
    assert {name: item.content for name, item in found.items()} == {first: b"0", second: b"1"}
    await conversations.delete_item("proj_a", "conv_1", first)
    assert set(await conversations.read_items("proj_a", "conv_1", [first, second])) == {second}


async def test_the_ledger_knows_a_response_with_a_long_id_again(
    responses: ResponseStore, usage: UsageStore, make_response: MakeResponse
) -> None:
    name = long("one")
    await responses.save(make_response(name))
    await usage.record([entry(NOW, response_id=f"resp_{name}", is_stored=True)])
    await usage.record([entry(NOW, response_id=f"resp_{name}", is_stored=True)])
    assert len(await all_entries(usage, until=NOW + 1)) == 1
    assert (await usage.unrecorded(NOW + 10_000, 1))[0] == []
