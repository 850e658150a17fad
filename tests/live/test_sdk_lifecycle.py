"""Every method of the SDK's `responses` and `conversations`, sync and async, on each kind of database."""

import asyncio
import inspect
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, OpenAIConversationsSession, OpenAIResponsesModel, OpenAIResponsesWSModel, Runner
from agents import set_tracing_disabled as disable_tracing
from openai import AsyncOpenAI, NotFoundError, OpenAI
from pydantic import BaseModel

from tests.fakes.databases import sqlite_first
from tests.fakes.forked import ForkedGateway
from tests.fakes.gateway import GatewayProcess, LiveGateway
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live

_SLOW = "Count. [slow:20] [words:20]"
_ENDED = {"completed", "failed", "incomplete", "cancelled"}
_SECONDS = 60.0


class Named(BaseModel):
    name: str


@pytest.fixture
def process(tmp_path: Path, database_url: str) -> Iterator[GatewayProcess]:
    """A gateway as its operator runs it, in front of the demo model."""
    process = ForkedGateway(tmp_path, {"DATABASE_URL": database_url}).start()
    try:
        yield process
    finally:
        process.stop()


# Its type of a compacted output knows no user's messages, which OpenAI returns there as well.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@sqlite_first
def test_the_sync_client_drives_every_method(process: GatewayProcess) -> None:
    with process.client() as client:
        _responses(client)
        _background(client)
        _conversations(client)
        _socket(client)


def _responses(client: OpenAI) -> None:
    first = client.responses.create(model="demo", input="My city is Utrecht.")
    second = client.responses.create(model="demo", input="What is my city?", previous_response_id=first.id)
    assert second.output_text == "Your city is Utrecht."
    assert client.responses.retrieve(second.id).output_text == second.output_text
    parsed = client.responses.parse(model="demo", input="Name it.", text_format=Named)
    assert parsed.output_parsed is not None
    with client.responses.stream(model="demo", input="And my city?", previous_response_id=second.id) as events:
        assert [event.type for event in events][-1] == "response.completed"
        assert events.get_final_response().previous_response_id is None or events.get_final_response().id
    assert len(list(client.responses.input_items.list(second.id, limit=1))) == 3
    counted = client.responses.input_tokens.count(model="demo", input="How many?", previous_response_id=second.id)
    assert counted.input_tokens > client.responses.input_tokens.count(model="demo", input="How many?").input_tokens > 0
    compacted = client.responses.compact(model="demo", previous_response_id=second.id)
    assert compacted.output[-1].type == "compaction"
    after: Any = [*compacted.output, {"role": "user", "content": "Hello again."}]
    assert client.responses.create(model="demo", input=after).status == "completed"
    client.responses.delete(first.id)
    with pytest.raises(NotFoundError):
        client.responses.retrieve(first.id)


def _background(client: OpenAI) -> None:
    run = client.responses.create(model="demo", input=_SLOW, background=True)
    assert run.status == "queued"
    deadline = time.monotonic() + _SECONDS
    while (now := client.responses.retrieve(run.id)).status not in _ENDED:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert now.status == "completed"
    assert now.usage is not None
    with client.responses.stream(model="demo", input=_SLOW, background=True) as live:
        seen = [event for event, _ in zip(live, range(5), strict=False)]
    started = seen[0].response.id  # type: ignore[union-attr]  # the first event has one
    with client.responses.stream(response_id=started, starting_after=seen[-1].sequence_number) as rest:
        numbers = [event.sequence_number for event in rest]
        assert rest.get_final_response().status == "completed"
    assert numbers == list(range(seen[-1].sequence_number + 1, numbers[-1] + 1))
    with client.responses.retrieve(started, stream=True, starting_after=numbers[-2]) as last:
        assert [event.type for event in last] == ["response.completed"]
    stopped = client.responses.create(model="demo", input=_SLOW, background=True)
    assert client.responses.cancel(stopped.id).status == "cancelled"


def _conversations(client: OpenAI) -> None:
    items: Any = [{"type": "message", "role": "user", "content": "My city is Utrecht."}]
    conversation = client.conversations.create(items=items, metadata={"a": "1"})
    assert client.conversations.update(conversation.id, metadata={"b": "2"}).metadata == {"b": "2"}
    assert client.conversations.retrieve(conversation.id).metadata == {"b": "2"}
    said = client.responses.create(model="demo", input="What is my city?", conversation=conversation.id)
    assert said.output_text == "Your city is Utrecht."
    assert said.conversation is not None
    assert said.conversation.id == conversation.id
    added = client.conversations.items.create(conversation.id, items=items)
    listed = list(client.conversations.items.list(conversation.id, limit=1))
    assert len(listed) == 4
    assert listed[0].id == added.data[0].id
    assert client.conversations.items.retrieve(listed[0].id or "", conversation_id=conversation.id).type == "message"
    client.conversations.items.delete(listed[0].id or "", conversation_id=conversation.id)
    assert len(list(client.conversations.items.list(conversation.id))) == 3
    assert client.conversations.delete(conversation.id).deleted
    with pytest.raises(NotFoundError):
        client.conversations.retrieve(conversation.id)
    assert client.responses.retrieve(said.id).id == said.id


def _socket(client: OpenAI) -> None:
    with client.responses.connect() as connection:
        connection.response.create(model="demo", input="My city is Utrecht.", store=False)
        first = _last(connection)
        connection.response.create(
            model="demo", input="What is my city?", previous_response_id=first.response.id, store=False
        )
        assert _last(connection).response.output_text == "Your city is Utrecht."


def _last(connection: Any) -> Any:
    for event in connection:
        assert event.type != "error", event
        if event.type == "response.completed":
            return event
    raise AssertionError


@sqlite_first
async def test_the_async_client_drives_every_method(process: GatewayProcess) -> None:
    async with AsyncOpenAI(base_url=f"{process.url}/v1", api_key=process.key, max_retries=0) as client:
        first = await client.responses.create(model="demo", input="My city is Utrecht.")
        async with client.responses.stream(
            model="demo", input="What is my city?", previous_response_id=first.id
        ) as events:
            second = await events.get_final_response()
        assert second.output_text == "Your city is Utrecht."
        assert (await client.responses.parse(model="demo", input="Name it.", text_format=Named)).output_parsed
        assert len([item async for item in client.responses.input_items.list(second.id)]) == 3
        assert (await client.responses.input_tokens.count(model="demo", input="How many?")).input_tokens
        assert (await client.responses.compact(model="demo", input="Hello!")).output[-1].type == "compaction"
        await client.responses.delete(first.id)

        run = await client.responses.create(model="demo", input=_SLOW, background=True)
        async with asyncio.timeout(_SECONDS):
            while (await client.responses.retrieve(run.id)).status not in _ENDED:
                await asyncio.sleep(0.05)
        live = await client.responses.create(model="demo", input=_SLOW, background=True, stream=True)
        started = [event async for event in live]
        again = await client.responses.retrieve(
            started[0].response.id,  # type: ignore[union-attr]  # the first event has one
            stream=True,
            starting_after=3,
        )
        assert [event async for event in again] == started[4:]
        stopped = await client.responses.create(model="demo", input=_SLOW, background=True)
        assert (await client.responses.cancel(stopped.id)).status == "cancelled"

        items: Any = [{"type": "message", "role": "user", "content": "My city is Utrecht."}]
        conversation = await client.conversations.create(items=items)
        await client.conversations.update(conversation.id, metadata={"b": "2"})
        assert (await client.conversations.retrieve(conversation.id)).metadata == {"b": "2"}
        said = await client.responses.create(model="demo", input="What is my city?", conversation=conversation.id)
        assert said.output_text == "Your city is Utrecht."
        (added,) = (await client.conversations.items.create(conversation.id, items=items)).data
        assert len([item async for item in client.conversations.items.list(conversation.id)]) == 4
        assert await client.conversations.items.retrieve(added.id or "", conversation_id=conversation.id)
        await client.conversations.items.delete(added.id or "", conversation_id=conversation.id)
        assert (await client.conversations.delete(conversation.id)).deleted

        async with client.responses.connect() as connection:
            await connection.response.create(model="demo", input="Hello!")
            kinds = [(await connection.recv()).type]
            while kinds[-1] != "response.completed":
                kinds.append((await connection.recv()).type)
        assert kinds[:2] == ["response.created", "response.in_progress"]


def test_no_method_of_the_sdk_is_left_out() -> None:
    """A newer SDK may have more of them: then the two tests above are to be extended."""
    with OpenAI(api_key="sk-none") as client:
        known: dict[Any, set[str]] = {
            client.responses: {
                *("create", "retrieve", "delete", "cancel", "compact", "parse", "stream", "connect"),
                *("input_items", "input_tokens"),
            },
            client.responses.input_items: {"list"},
            client.responses.input_tokens: {"count"},
            client.conversations: {"create", "retrieve", "update", "delete", "items"},
            client.conversations.items: {"create", "retrieve", "list", "delete"},
        }
        for resource, methods in known.items():
            public = {name for name, _ in inspect.getmembers(type(resource)) if not name.startswith(("_", "with_"))}
            assert public == methods


@pytest.fixture
def untraced() -> Iterator[None]:
    """The agents' tracing posts to a host of its own."""
    disable_tracing(True)
    yield
    disable_tracing(False)


@pytest.mark.usefixtures("untraced")
async def test_an_agent_keeps_its_session_in_a_conversation(gateway: LiveGateway) -> None:
    async with gateway.client() as client:
        agent = Agent(name="Clerk", model=OpenAIResponsesModel(model="demo", openai_client=client))
        session = OpenAIConversationsSession(openai_client=client)
        await Runner.run(agent, "My city is Utrecht.", session=session)
        result = await Runner.run(agent, "What is my city?", session=session)
        assert result.final_output == "Your city is Utrecht."
        assert len(await session.get_items()) == 4
        await session.clear_session()


@pytest.mark.usefixtures("untraced")
async def test_an_agent_works_in_a_conversation_and_by_chaining(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    async with gateway.client() as client:
        agent = Agent(name="Clerk", model=OpenAIResponsesModel(model="demo", openai_client=client))
        conversation = await client.conversations.create()
        await Runner.run(agent, "My city is Utrecht.", conversation_id=conversation.id)
        result = await Runner.run(agent, "What is my city?", conversation_id=conversation.id)
        assert result.final_output == "Your city is Utrecht."
        chained = await Runner.run(agent, "And my city?", previous_response_id=result.last_response_id)
        assert chained.final_output
    assert all(
        request.json.keys().isdisjoint({"conversation", "previous_response_id"}) for request in upstream.requests
    )


@pytest.mark.usefixtures("untraced")
async def test_an_agent_works_over_a_websocket(gateway: LiveGateway) -> None:
    async with gateway.client() as client:
        model = OpenAIResponsesWSModel(model="demo", openai_client=client)
        agent = Agent(name="Clerk", model=model)
        first = await Runner.run(agent, "My city is Utrecht.")
        result = await Runner.run(agent, "What is my city?", previous_response_id=first.last_response_id)
        assert result.final_output == "Your city is Utrecht."
        await model.close()
