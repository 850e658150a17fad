"""What upstream is sent: the client's bytes, with the gateway's own members taken out and the history put in."""

from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from app.errors import InvalidRequestError, NotFoundError
from app.relay.call.exchange import Exchange
from app.runtime.byte_budget import Reserve
from app.runtime.compute_thread import ComputeThread
from app.security.encryption import Sealer
from app.security.key_ring import KeyRing
from app.state.items.compacted import SEAL
from app.state.items.stored_form import input_items
from app.state.records import Chain
from app.storage.engine.database import Database
from app.storage.responses.store import ResponseStore
from app.storage.writer.writer import Writer
from app.wire.requests.create import CreateRequest, parse_create_request
from tests.builders import (
    ACCOUNT,
    OTHER,
    calls,
    make_account,
    make_chain,
    make_exchange,
    make_item,
    make_prepared,
    make_request,
    make_turn,
    says,
    thinks,
    user,
)

_SEALER = Sealer(KeyRing(b"secret of sixteen"))
_CHAIN = make_chain(make_turn([user("1")], [thinks(), says("2")]))


def exchange(request: CreateRequest, chain: Chain | None = None) -> Exchange:
    items = input_items(request.input, request.members["input"], {}) if request.input is not None else ()
    return make_exchange(request, chain=chain, items=items)


def rendered(request: CreateRequest, chain: Chain | None = None, **upstream: Any) -> dict[str, Any]:
    read: dict[str, Any] = orjson.loads(exchange(request, chain).render(make_account(**upstream)))
    return read


def test_what_the_gateway_has_no_say_in_goes_byte_for_byte() -> None:
    values = (
        b'"input":[{"role":"user", "content":"\\u00e9\\/"}],"temperature":1.0,"big":12345678901234567890123,"x":{ }'
    )
    raw = b'{"model":"demo",%b,"metadata":{"a":"b","a":"c"}}' % values
    sent = exchange(parse_create_request(raw, 64)).render(make_account())
    for value in values.split(b',"'):
        assert value.lstrip(b'"') in sent
    assert b'{"a":"b","a":"c"}' in sent


def test_state_is_the_gateways_so_upstream_is_told_of_none() -> None:
    request = make_request(previous_response_id="resp_1", background=False, store=True)
    sent = rendered(request, _CHAIN)
    assert sent["store"] is False
    assert sent.keys().isdisjoint({"previous_response_id", "conversation", "background"})


@pytest.mark.parametrize("store", [None, True, False])
def test_upstream_never_stores(store: bool | None) -> None:
    assert rendered(make_request(store=store))["store"] is False


def test_a_chain_is_put_before_the_input() -> None:
    sent = rendered(make_request(input="3", previous_response_id="resp_1"), _CHAIN)
    assert [item["type"] for item in sent["input"]] == ["message", "reasoning", "message", "message"]
    assert sent["input"][-1]["content"] == "3"
    assert all("id" not in item for item in sent["input"])


def test_a_chain_can_be_continued_without_input() -> None:
    sent = rendered(make_request(input=[], previous_response_id="resp_1"), _CHAIN)
    assert [item["type"] for item in sent["input"]] == ["message", "reasoning", "message"]


def test_another_account_gets_what_it_can_read() -> None:
    request = make_request(previous_response_id="resp_1")
    read = orjson.loads(exchange(request, _CHAIN).render(make_account(OTHER)))
    assert [item["type"] for item in read["input"]] == ["message", "message", "message"]


def test_input_without_a_history_is_not_touched() -> None:
    given = [{**user("1", "msg_1"), "status": "completed"}, thinks(), says("2")]
    assert rendered(make_request(input=given))["input"] == given


@pytest.mark.parametrize(
    ("fields", "included"),
    [
        ({"reasoning": {"effort": "low"}}, ["reasoning.encrypted_content"]),
        ({"reasoning": {"effort": "low"}, "store": False}, None),
        ({"reasoning": {}}, ["reasoning.encrypted_content"]),
        ({}, ["reasoning.encrypted_content"]),
        ({"include": None}, ["reasoning.encrypted_content"]),
        ({"store": False}, None),
        (
            {"reasoning": {"effort": "low"}, "include": ["message.output_text.logprobs"]},
            ["message.output_text.logprobs", "reasoning.encrypted_content"],
        ),
        (
            {"reasoning": {"effort": "low"}, "include": ["reasoning.encrypted_content"]},
            ["reasoning.encrypted_content"],
        ),
        ({"include": ["message.output_text.logprobs"], "store": False}, ["message.output_text.logprobs"]),
        ({"reasoning": {"effort": "low"}, "include": []}, ["reasoning.encrypted_content"]),
    ],
)
def test_reasoning_is_asked_for_where_it_may_be_replayed(fields: dict[str, Any], included: list[str] | None) -> None:
    assert rendered(make_request(**fields)).get("include") == included


def test_it_is_not_asked_for_where_that_is_refused() -> None:
    call = exchange(make_request(include=["message.output_text.logprobs"]))
    call.without_reasoning = {"main"}
    assert orjson.loads(call.render(make_account()))["include"] == ["message.output_text.logprobs"]
    call.without_reasoning = {"another"}
    assert len(orjson.loads(call.render(make_account()))["include"]) == 2


def test_what_an_upstream_does_not_know_is_stripped() -> None:
    sent = rendered(make_request(metadata={"a": "b"}, user="u"), strip=("metadata", "store", "include", "absent"))
    assert sent == {"model": "demo", "input": "Hello!", "user": "u"}


def test_an_upstream_that_keeps_state_gets_the_clients_own_body() -> None:
    request = make_request(previous_response_id="resp_1", store=True, reasoning={"effort": "low"})
    assert rendered(request, _CHAIN, state="upstream") == request.fields
    first = make_request(background=False)
    assert rendered(first, state="upstream") == first.fields


def test_an_upstream_that_keeps_state_gets_the_whole_of_a_chain_it_has_not_seen() -> None:
    request = make_request(previous_response_id="resp_1", store=True)
    elsewhere = make_chain(make_turn([user("1")], [thinks(), says("2")], account=OTHER))
    sent = rendered(request, elsewhere, state="upstream")
    assert [item["type"] for item in sent["input"]] == ["message", "message", "message"]
    assert "previous_response_id" not in sent
    assert sent["store"] is True


def test_a_chain_prefers_the_account_that_served_its_latest_turn() -> None:
    chain = make_chain(make_turn([user("1")], [], account=OTHER), make_turn([user("2")], []))
    assert exchange(make_request(), chain).prefer == ACCOUNT
    assert exchange(make_request()).prefer is None


def test_named_items_prefer_the_account_that_can_read_them() -> None:
    thought = make_item(thinks(), is_output=True, account=OTHER)
    items = (thought, make_item(user("1")))
    assert make_exchange(make_request(), items=items, refers=True).prefer == OTHER
    # What was sealed is read by every key of its upstream: it asks for none but the one that served it.
    sealed = make_item(thinks(encrypted_content=f"{SEAL}abc"), is_output=True, account="chat/one")
    for served_by in (None, "chat/two"):
        named = (replace(sealed, served_by=served_by),)
        assert make_exchange(make_request(), items=named, refers=True).prefer == served_by


@pytest.fixture
async def responses(sqlite_url: str) -> Any:
    database = Database(sqlite_url, pool_size=2, commit_timeout=5.0)
    yield ResponseStore(database, Writer(database, 5.0), ComputeThread())
    await database.aclose()


async def prepared(request: CreateRequest, memory: Any, max_bytes: int = 1 << 20) -> Exchange:
    return await make_prepared(request, memory, max_bytes=max_bytes)


async def test_a_request_that_names_nothing_reads_nothing() -> None:
    closed: Any = object()
    exchange = await prepared(make_request(input="1"), closed)
    assert (exchange.chain, exchange.refers) == (None, False)
    assert [orjson.loads(item.content)["content"] for item in exchange.items] == ["1"]
    prompt = make_request(input=None, prompt={"id": "pmpt_1"})
    assert (await prepared(prompt, closed)).items == ()


async def test_an_unknown_previous_response_is_refused_by_its_name(responses: ResponseStore) -> None:
    request = make_request(previous_response_id='resp_"quoted"')
    with pytest.raises(InvalidRequestError) as caught:
        await prepared(request, responses)
    assert (caught.value.status, caught.value.code) == (400, "previous_response_not_found")
    assert caught.value.param == "previous_response_id"
    assert caught.value.message == "Previous response with id 'resp_\"quoted\"' not found."


async def test_an_unknown_item_is_not_found(responses: ResponseStore) -> None:
    with pytest.raises(NotFoundError, match=r"Item with id 'msg_9' not found\."):
        await prepared(make_request(input=[{"id": "msg_9"}]), responses)


class _Stored:
    """A store that holds one chain and one item."""

    async def read_chain(self, project_id: str, response_id: str, now: int, reserve: Reserve) -> Chain | None:
        return make_chain(make_turn([user("1")], [thinks(), calls()])) if response_id == "resp_1" else None

    async def read_items(self, project_id: str, named: set[str], now: int, reserve: Reserve) -> dict[str, Any]:
        return {"rs_1": make_item(thinks(), is_output=True)}


async def test_references_become_what_they_name_and_are_not_sent() -> None:
    stored: Any = _Stored()
    made = await make_prepared(make_request(input=[{"id": "rs_1"}, user("2")]), stored)
    assert made.refers
    sent = orjson.loads(made.render(make_account()))
    assert sent["input"] == [{"type": "reasoning", "summary": [], "encrypted_content": "sealed"}, user("2")]


async def test_an_open_call_has_to_be_answered_before_upstream_is_asked() -> None:
    stored: Any = _Stored()
    with pytest.raises(InvalidRequestError, match=r"No tool output found for function call call_1\."):
        await make_prepared(make_request(input="2", previous_response_id="resp_1"), stored)


class _Measured:
    """A store that says what it would read, and has items of a hundred bytes and more."""

    async def read_chain(self, project_id: str, response_id: str, now: int, reserve: Reserve) -> Chain | None:
        await reserve(1000)
        return _CHAIN

    async def read_items(self, project_id: str, named: set[str], now: int, reserve: Reserve) -> dict[str, Any]:
        await reserve(100)
        return {name: make_item(user("x" * 100, name)) for name in named}


async def test_a_context_that_is_too_long_is_refused_before_it_is_read() -> None:
    request = make_request(input="x" * 500, previous_response_id="resp_1")
    assert (await prepared(request, _Measured(), max_bytes=1502)).chain is _CHAIN
    with pytest.raises(InvalidRequestError, match="exceeds the context window") as caught:
        await prepared(request, _Measured(), max_bytes=1501)
    error = caught.value
    assert (error.status, error.code, error.param) == (400, "context_length_exceeded", "input")


async def test_an_item_that_is_named_many_times_counts_as_many_times() -> None:
    request = make_request(input=[{"type": "item_reference", "id": "msg_1"}] * 50)
    with pytest.raises(InvalidRequestError, match="exceeds the context window"):
        await prepared(request, _Measured(), max_bytes=5000)
    assert len((await prepared(request, _Measured(), max_bytes=20_000)).items) == 50


async def test_a_large_body_is_made_off_the_loop_and_is_the_same() -> None:
    request = make_request(input="x" * 1_100_000, previous_response_id="resp_1", user="u")
    made = await prepared(request, _Measured(), max_bytes=2_000_000)
    assert made.is_large
    sent = orjson.loads(made.render(make_account()))
    assert sent["input"][-1]["content"] == "x" * 1_100_000
    assert [*sent] == ["model", "input", "user", "store", "include"]
    assert not (await prepared(make_request(), _Measured())).is_large
