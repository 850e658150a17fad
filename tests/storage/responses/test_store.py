"""What a response store promises, on every database."""

import asyncio

import pytest
from sqlalchemy import select

from app.errors import StorageError
from app.state.records import Item, TokenUsage
from app.storage.engine.database import Database
from app.storage.responses.store import ResponseStore
from app.storage.tables import responses as responses_table
from tests.storage.conftest import NOW, MakeResponse, chain_of, count_responses, grow


async def test_a_saved_response_reads_back_as_one_turn(responses: ResponseStore, make_response: MakeResponse) -> None:
    items = (
        Item("msg_1", "message", is_output=False, content=b"[1]"),
        Item("rs_1", "reasoning", is_output=True, content=b"[2]", account="account-1"),
        Item("fc_1", "function_call", is_output=True, content=b"[3]", call_id="call_1"),
    )
    await responses.save(make_response("one", items=items, body=b'{"id":"resp_one"}'))

    chain = await chain_of(responses, "one")
    assert [turn.items for turn in chain.turns] == [items]
    assert (chain.turns[0].status, chain.account) == ("completed", "account-1")
    assert await responses.read_body("proj_a", "resp_one", NOW) == b'{"id":"resp_one"}'


async def test_a_turn_without_items_is_still_a_turn(responses: ResponseStore, make_response: MakeResponse) -> None:
    await responses.save(make_response("bare", items=()))
    assert [turn.items for turn in (await chain_of(responses, "bare")).turns] == [()]


async def test_usage_is_kept_in_columns(
    database: Database, responses: ResponseStore, make_response: MakeResponse
) -> None:
    await responses.save(make_response("used", usage=TokenUsage(1, 2, 3, 4, 5)))
    await responses.save(make_response("unused"))
    columns = responses_table.c
    query = select(
        columns.input_tokens,
        columns.output_tokens,
        columns.total_tokens,
        columns.cached_tokens,
        columns.reasoning_tokens,
    ).order_by(columns.key)
    rows = await database.read(lambda connection: [tuple(row) for row in connection.execute(query)])
    assert rows == [(1, 2, 3, 4, 5), (None,) * 5]


async def test_payload_bytes_survive_exactly(responses: ResponseStore, make_response: MakeResponse) -> None:
    payload = bytes(range(256)) * 4096 + b'{"\\ud800":"\\u0000",1e999:NaN}'
    await responses.save(make_response("big", body=payload, items=(Item("i", "message", False, payload),)))
    assert await responses.read_body("proj_a", "resp_big", NOW) == payload
    assert (await chain_of(responses, "big")).turns[0].items[0].content == payload


async def test_a_chain_of_fifty_with_forks_reads_back_oldest_first(
    responses: ResponseStore, make_response: MakeResponse
) -> None:
    names = [f"t{number}" for number in range(50)]
    await grow(responses, make_response, *names)
    middle = await chain_of(responses, "t20")
    await responses.save(make_response("fork", middle.key))

    whole = await chain_of(responses, "t49")
    assert [turn.items[0].id for turn in whole.turns] == [f"msg_{name}_in" for name in names]
    assert all([item.is_output for item in turn.items] == [False, True] for turn in whole.turns)
    fork = await chain_of(responses, "fork")
    assert [turn.items[1].id for turn in fork.turns] == [f"msg_{name}_out" for name in [*names[:21], "fork"]]


async def test_the_same_id_cannot_be_saved_twice(responses: ResponseStore, make_response: MakeResponse) -> None:
    await responses.save(make_response("one", body=b"first"))
    with pytest.raises(StorageError) as raised:
        await responses.save(make_response("one", body=b"second", items=()))
    assert raised.value.code == "duplicate_response"
    assert await responses.read_body("proj_a", "resp_one", NOW) == b"first"
    assert len((await chain_of(responses, "one")).turns[0].items) == 2


async def test_of_equal_ids_in_one_group_the_first_is_kept(
    database: Database, responses: ResponseStore, make_response: MakeResponse
) -> None:
    outcomes = await asyncio.gather(
        *(responses.save(make_response("same", body=b"%d" % number)) for number in range(3)),
        responses.save(make_response("other")),
        return_exceptions=True,
    )
    assert [getattr(outcome, "code", None) for outcome in outcomes] == [
        None,
        "duplicate_response",
        "duplicate_response",
        None,
    ]
    assert await responses.read_body("proj_a", "resp_same", NOW) == b"0"
    assert await count_responses(database) == (2, 4)


async def test_of_a_group_only_what_is_stored_already_is_refused(
    database: Database, responses: ResponseStore, make_response: MakeResponse
) -> None:
    await responses.save(make_response("old", body=b"first"))
    outcomes = await asyncio.gather(
        *(responses.save(make_response(name, body=b"second")) for name in ("a", "old", "b")), return_exceptions=True
    )
    assert [getattr(outcome, "code", None) for outcome in outcomes] == [None, "duplicate_response", None]
    assert await responses.read_body("proj_a", "resp_old", NOW) == b"first"
    assert await responses.read_body("proj_a", "resp_b", NOW) == b"second"
    assert await count_responses(database) == (3, 6)


async def test_a_turn_of_very_many_items_is_kept_whole(responses: ResponseStore, make_response: MakeResponse) -> None:
    many = tuple(Item(f"msg_{number}", "message", False, b"%d" % number) for number in range(20_001))
    await responses.save(make_response("long", items=many))
    assert (await chain_of(responses, "long")).turns[0].items == many
    found = await responses.read_items("proj_a", ["msg_0", "msg_20000"], NOW)
    assert [found[item_id].content for item_id in ("msg_0", "msg_20000")] == [b"0", b"20000"]


async def test_two_projects_may_use_one_id(responses: ResponseStore, make_response: MakeResponse) -> None:
    await responses.save(make_response("shared", body=b"a"))
    await responses.save(make_response("shared", body=b"b", project_id="proj_b"))
    assert await responses.read_body("proj_a", "resp_shared", NOW) == b"a"
    assert await responses.read_body("proj_b", "resp_shared", NOW) == b"b"


async def test_another_projects_response_is_not_there(responses: ResponseStore, make_response: MakeResponse) -> None:
    await responses.save(make_response("one"))
    assert await responses.read_chain("proj_b", "resp_one", NOW) is None
    assert await responses.read_body("proj_b", "resp_one", NOW) is None
    assert await responses.read_items("proj_b", ["msg_one_in"], NOW) == {}
    assert not await responses.delete("proj_b", "resp_one", NOW)
    assert await responses.read_body("proj_a", "resp_one", NOW) is not None


async def test_a_chain_never_reaches_into_another_project(
    responses: ResponseStore, make_response: MakeResponse
) -> None:
    foreign = await grow(responses, make_response, "root")
    await responses.save(make_response("tip", foreign.key, project_id="proj_b"))
    assert await responses.read_chain("proj_b", "resp_tip", NOW) is None


@pytest.mark.parametrize("deleted", ["a", "b"])
async def test_a_chain_with_a_deleted_ancestor_is_not_there(
    responses: ResponseStore, make_response: MakeResponse, deleted: str
) -> None:
    await grow(responses, make_response, "a", "b", "c")
    assert await responses.delete("proj_a", f"resp_{deleted}", NOW)
    assert await responses.read_chain("proj_a", "resp_c", NOW) is None
    assert await responses.read_body("proj_a", "resp_c", NOW) is not None


async def test_a_deleted_key_is_never_used_again(responses: ResponseStore, make_response: MakeResponse) -> None:
    parent = await grow(responses, make_response, "gone")
    await responses.save(make_response("child", parent.key))
    await responses.delete("proj_a", "resp_child", NOW)
    await responses.delete("proj_a", "resp_gone", NOW)
    await responses.save(make_response("new"))
    key = (await chain_of(responses, "new")).key
    assert key is not None
    assert parent.key is not None
    assert key > parent.key + 1


async def test_deleting_removes_the_response_and_its_items_once(
    database: Database, responses: ResponseStore, make_response: MakeResponse
) -> None:
    await responses.save(make_response("one"))
    assert await responses.delete("proj_a", "resp_one", NOW)
    assert await count_responses(database) == (0, 0)
    assert not await responses.delete("proj_a", "resp_one", NOW)
    assert await responses.read_items("proj_a", ["msg_one_in"], NOW) == {}


async def test_an_expired_tip_is_not_there_and_an_expired_ancestor_is(
    responses: ResponseStore, make_response: MakeResponse
) -> None:
    await responses.save(make_response("old", expires_at=NOW))
    old = await chain_of(responses, "old", NOW - 1)
    await responses.save(make_response("young", old.key))

    assert await responses.read_chain("proj_a", "resp_old", NOW) is None
    assert await responses.read_body("proj_a", "resp_old", NOW) is None
    assert await responses.read_items("proj_a", ["msg_old_in"], NOW) == {}
    assert await responses.read_items("proj_a", ["msg_old_in"], NOW - 1)
    assert len((await chain_of(responses, "young")).turns) == 2
    # What is kept for the one that continues it is still its owner's to delete.
    assert await responses.delete("proj_a", "resp_old", NOW)
    assert await responses.read_chain("proj_a", "resp_young", NOW) is None


@pytest.mark.parametrize("unstorable", ["\x00", "\ud800"])
async def test_an_unstorable_id_finds_nothing(
    responses: ResponseStore, make_response: MakeResponse, unstorable: str
) -> None:
    await responses.save(make_response("one"))
    name = f"resp_one{unstorable}"
    assert await responses.read_chain("proj_a", name, NOW) is None
    assert await responses.read_body("proj_a", name, NOW) is None
    assert await responses.read_items("proj_a", [f"msg_one_in{unstorable}"], NOW) == {}
    assert not await responses.delete("proj_a", name, NOW)


async def test_unstorable_characters_of_a_saved_turn_are_replaced(
    responses: ResponseStore, make_response: MakeResponse
) -> None:
    item = Item("m\x00", "t\ud800", is_output=False, content=b"\x00", call_id="c\x00")
    await responses.save(make_response("n\x00", items=(item,)))
    chain = await chain_of(responses, "n\ufffd")
    assert chain.turns[0].items == (Item("m\ufffd", "t\ufffd", False, b"\x00", None, "c\ufffd"),)
