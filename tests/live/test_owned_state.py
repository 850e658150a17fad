"""Files, vector stores, containers and prompts are upstream's: who names one stays with the account that has it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from openai import APIStatusError, InternalServerError, NotFoundError, RateLimitError

from tests.builders import user
from tests.fakes.forked import ForkedGateway
from tests.fakes.gateway import running_gateway, upstream_settings
from tests.fakes.replies import Reply
from tests.fakes.streams import item, response
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = pytest.mark.live

FILE: Any = {"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}
READ: Any = user("Read it.")
SEARCH: Any = [{"type": "file_search", "vector_store_ids": ["vs_1"]}]


def reading(upstream: FakeUpstream) -> None:
    """Have the upstream answer whatever it is sent."""

    def read(_: Recorded) -> Reply:
        return Reply.json(200, response(f"resp_{len(upstream.requests)}", "completed", [item("Read.")]))

    upstream.respond = read


def keys(upstream: FakeUpstream) -> list[str]:
    return [request.headers["authorization"] for request in upstream.requests]


@pytest.mark.parametrize(
    "named",
    [{"input": [FILE]}, {"input": "Find it.", "tools": SEARCH}, {"input": "Go.", "prompt": {"id": "pmpt_1"}}],
    ids=["a file", "a vector store", "a prompt"],
)
async def test_what_is_upstreams_is_passed_on_and_its_chain_stays_with_the_account(
    named: dict[str, Any], sqlite_url: str, upstream: FakeUpstream
) -> None:
    reading(upstream)
    two = upstream_settings(upstream.url, "sk-one", "sk-two")
    async with running_gateway(sqlite_url, [two]) as gateway, gateway.client() as client:
        last = await client.responses.create(model="demo", **named)
        for name, value in named.items():
            assert upstream.requests[0].json[name] == value
        for _ in range(3):
            last = await client.responses.create(model="demo", previous_response_id=last.id, **named)
        # The account has to rest, and the other is no help.
        upstream.enqueue(Reply.error(429, "rate_limit_exceeded", {"retry-after": "30"}))
        for _ in range(2):
            with pytest.raises(RateLimitError):
                await client.responses.create(model="demo", previous_response_id=last.id, **named)
    assert len(set(keys(upstream))) == 1
    assert len(upstream.requests) == 5


async def test_a_file_named_long_ago_still_decides(database_url: str, upstream: FakeUpstream) -> None:
    reading(upstream)
    two = upstream_settings(upstream.url, "sk-one", "sk-two")
    async with running_gateway(database_url, [two]) as gateway, gateway.client() as client:
        last = await client.responses.create(model="demo", input=[FILE])
        for _ in range(2):
            last = await client.responses.create(model="demo", input="And?", previous_response_id=last.id)
        upstream.enqueue(Reply.error(500))
        with pytest.raises(InternalServerError):
            await client.responses.create(model="demo", input="And?", previous_response_id=last.id)
        # Another chain is free to go elsewhere.
        free = await client.responses.create(model="demo", input="Hello.")
        await client.responses.create(model="demo", input="And?", previous_response_id=free.id)
    assert len(set(keys(upstream)[:4])) == 1
    assert len(set(keys(upstream))) == 2


@pytest.mark.slow
async def test_an_account_that_is_gone_is_named_as_the_reason(
    sqlite_url: str, upstream: FakeUpstream, tmp_path: Path
) -> None:
    reading(upstream)
    async with (
        running_gateway(sqlite_url, [upstream_settings(upstream.url, "sk-one", name="openai")]) as gateway,
        gateway.client() as client,
    ):
        first = await client.responses.create(model="demo", input=[FILE])
        plain = await client.responses.create(model="demo", input="Hello.")
    environment = {"DATABASE_URL": sqlite_url, "OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-two"}
    process = ForkedGateway(tmp_path, environment)

    def ask() -> APIStatusError:
        with process.start().client(gateway.key) as client:
            client.responses.create(model="demo", input="And?", previous_response_id=plain.id)
            with pytest.raises(InternalServerError) as error:
                client.responses.create(model="demo", input="And?", previous_response_id=first.id)
        return error.value

    try:
        error = await asyncio.to_thread(ask)
    finally:
        await asyncio.to_thread(process.stop)
    assert (error.status_code, error.code) == (502, "upstream_account_gone")


async def test_an_unknown_file_is_upstreams_answer_and_not_looked_for_elsewhere(
    sqlite_url: str, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply.error(404, message="No such File object: file_1"))
    two = upstream_settings(upstream.url, "sk-one", "sk-two")
    async with running_gateway(sqlite_url, [two]) as gateway, gateway.client() as client:
        with pytest.raises(NotFoundError, match="No such File object"):
            await client.responses.create(model="demo", input=[FILE])
        # Nothing is known of the file yet, so any account may be asked: another, when the first fails.
        upstream.enqueue(Reply.error(500))
        await client.responses.create(model="demo", input=[FILE, READ])
    assert len(upstream.requests) == 3
    assert len(set(keys(upstream)[1:])) == 2


async def test_a_stored_item_that_names_a_file_takes_the_call_to_its_account(
    sqlite_url: str, upstream: FakeUpstream
) -> None:
    reading(upstream)
    two = upstream_settings(upstream.url, "sk-one", "sk-two")
    async with running_gateway(sqlite_url, [two]) as gateway, gateway.client() as client:
        given: Any = [{**FILE, "id": "msg_of_the_file"}]
        first = await client.responses.create(model="demo", input=given)
        named: Any = [{"type": "item_reference", "id": "msg_of_the_file"}, user("And?")]
        upstream.enqueue(Reply.error(500))
        with pytest.raises(InternalServerError):
            await client.responses.create(model="demo", input=named)
    assert first.status == "completed"
    assert len(set(keys(upstream))) == 1


async def test_a_call_that_is_sent_back_with_its_container_goes_to_the_account_that_has_it(
    sqlite_url: str, upstream: FakeUpstream
) -> None:
    ran: Any = {"id": "ci_1", "type": "code_interpreter_call", "container_id": "cntr_1", "code": "1", "outputs": []}
    upstream.enqueue(Reply.json(200, response("resp_ran", "completed", [ran, item("One.")])))
    two = upstream_settings(upstream.url, "sk-one", "sk-two")
    async with running_gateway(sqlite_url, [two]) as gateway, gateway.client() as client:
        await client.responses.create(model="demo", input="Run it.")
        for store in (True, False):
            upstream.enqueue(Reply.error(500))
            with pytest.raises(InternalServerError):
                await client.responses.create(model="demo", input=[READ, ran, READ], store=store)
    assert len(set(keys(upstream))) == 1


async def test_what_a_model_made_in_a_container_is_left_out_elsewhere(sqlite_url: str, upstream: FakeUpstream) -> None:
    ran = {"id": "ci_1", "type": "code_interpreter_call", "status": "completed", "container_id": "cntr_1", "code": "1"}
    upstream.enqueue(Reply.json(200, response("resp_ran", "completed", [ran, item("One.")])))
    two = upstream_settings(upstream.url, "sk-one", "sk-two")
    async with running_gateway(sqlite_url, [two]) as gateway, gateway.client() as client:
        tool: Any = {"type": "code_interpreter", "container": {"type": "auto"}}
        first = await client.responses.create(model="demo", input="Run it.", tools=[tool])
        upstream.enqueue(Reply.error(500), Reply.json(200, response("resp_next", "completed", [item("Two.")])))
        await client.responses.create(model="demo", input="Again.", previous_response_id=first.id)
    sent = upstream.requests[-1].json["input"]
    assert isinstance(sent, list)
    assert [each["type"] for each in sent] == ["message", "message", "message"]
    assert len(set(keys(upstream))) == 2
