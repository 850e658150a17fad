"""Conversations over the wire: what upstream is told, what is appended when, and who may write meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError

from tests.fakes.databases import sqlite_first
from tests.fakes.gateway import LiveGateway
from tests.fakes.raw_client import calling
from tests.fakes.raw_http import RawClient
from tests.fakes.replies import Act, Reply
from tests.fakes.streams import item, response, story
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

SECONDS = 60.0
LOCKED = (
    b'{"error":{"message":"Another process is currently operating on this conversation. Please retry in a few '
    b'seconds.","type":"invalid_request_error","param":"conversation","code":"conversation_locked"}}'
)


@pytest.fixture
async def client(gateway: LiveGateway) -> AsyncIterator[AsyncOpenAI]:
    async with gateway.client() as client:
        yield client


@pytest.fixture(autouse=True)
async def upstream_is_stateless(upstream: FakeUpstream) -> AsyncIterator[None]:
    """Whatever a test does, no upstream hears of a conversation."""
    yield
    for request in upstream.requests:
        assert request.json.keys().isdisjoint({"conversation", "previous_response_id"})
        assert request.json["store"] is False


async def say(client: AsyncOpenAI, text: str, *, streamed: bool = False, **fields: Any) -> Any:
    """The response to this; of a stream the one that it ends with."""
    if not streamed:
        return await client.responses.create(model="demo", input=text, **fields)
    stream = await client.responses.create(model="demo", input=text, stream=True, **fields)
    return [event async for event in stream][-1].response


async def standing(client: AsyncOpenAI, conversation_id: str) -> list[str]:
    """The texts of what stands in the conversation, oldest first; of what is no message its type."""
    listed = client.conversations.items.list(conversation_id, order="asc", limit=100)
    return [one.content[0].text if one.type == "message" else one.type async for one in listed]  # type: ignore[union-attr]


def told(request: Recorded) -> list[str]:
    """What upstream was sent, in the same form."""
    sent: Any = request.json["input"]
    if isinstance(sent, str):
        return [sent]
    return [_text(one["content"]) if "content" in one else one["type"] for one in sent]


def _text(content: Any) -> str:
    return content if isinstance(content, str) else content[0]["text"]


def user(text: str) -> Any:
    return {"type": "message", "role": "user", "content": text}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_turn_hears_what_was_said_and_is_appended(
    client: AsyncOpenAI, upstream: FakeUpstream, streamed: bool
) -> None:
    conversation = await client.conversations.create(items=[user("My city is Utrecht.")])
    first = await say(client, "What is my city?", streamed=streamed, conversation=conversation.id)
    second = await say(client, "Are you sure?", streamed=streamed, conversation={"id": conversation.id})
    said = ["My city is Utrecht.", "What is my city?", first.output_text, "Are you sure?"]
    assert first.output_text == "Your city is Utrecht."
    assert told(upstream.requests[-1]) == said
    assert await standing(client, conversation.id) == [*said, second.output_text]
    kept = await client.responses.retrieve(second.id)
    assert kept.conversation is not None
    assert (kept.conversation.id, kept.previous_response_id) == (conversation.id, None)
    given = [one async for one in client.responses.input_items.list(second.id, order="asc")]
    assert len(given) == len(said)


async def test_every_method_of_the_sdk(client: AsyncOpenAI) -> None:
    conversation = await client.conversations.create(metadata={"a": "b"}, items=[user("One.")])
    assert (conversation.object, conversation.metadata) == ("conversation", {"a": "b"})
    assert await client.conversations.retrieve(conversation.id) == conversation
    updated = await client.conversations.update(conversation.id, metadata={"c": "d"})
    assert (updated.id, updated.created_at, updated.metadata) == (conversation.id, conversation.created_at, {"c": "d"})

    added = await client.conversations.items.create(
        conversation.id, items=[user("Two."), {"role": "assistant", "content": "Three."}, user("Four.")]
    )
    assert (added.object, added.has_more, len(added.data)) == ("list", False, 3)
    assert (added.first_id, added.last_id) == (added.data[0].id, added.data[2].id)
    two: Any = await client.conversations.items.retrieve(added.first_id, conversation_id=conversation.id)
    assert (two.id, two.role, two.content[0].text, two.status) == (added.first_id, "user", "Two.", "completed")

    newest = await client.conversations.items.list(conversation.id, limit=2)
    assert ([one.id for one in newest.data], newest.has_more) == ([added.last_id, added.data[1].id], True)
    left = await client.conversations.items.delete(added.data[1].id or "", conversation_id=conversation.id)
    assert left == updated
    assert await standing(client, conversation.id) == ["One.", "Two.", "Four."]
    with pytest.raises(NotFoundError, match=f"Item with id '{added.data[1].id}' not found"):
        await client.conversations.items.retrieve(added.data[1].id or "", conversation_id=conversation.id)

    deleted = await client.conversations.delete(conversation.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (conversation.id, "conversation.deleted", True)
    with pytest.raises(NotFoundError, match=f"Conversation with id '{conversation.id}' not found"):
        await client.conversations.delete(conversation.id)


async def test_a_conversation_that_is_not_there_is_not_made(client: AsyncOpenAI, upstream: FakeUpstream) -> None:
    for fields in ({"conversation": "conv_1"}, {"conversation": {"id": "conv_1"}, "store": False, "stream": True}):
        with pytest.raises(NotFoundError) as raised:
            await client.responses.create(model="demo", input="Hi.", **fields)
        error: Any = raised.value.body
        assert (error["message"], error["param"]) == ("Conversation with id 'conv_1' not found.", None)
    with pytest.raises(BadRequestError) as refused:
        await say(client, "Hi.", conversation="conv_1", previous_response_id="resp_1")
    assert refused.value.code == "mutually_exclusive_parameters"
    assert upstream.requests == []


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_nothing_is_visible_and_nobody_else_writes_before_the_end(
    gateway: LiveGateway, client: AsyncOpenAI, upstream: FakeUpstream, streamed: bool
) -> None:
    conversation = await client.conversations.create(items=[user("One.")])
    going_on = asyncio.Event()

    async def after_that(_: Recorded) -> Reply:
        await going_on.wait()
        whole = Reply.json(200, response("resp_1", "completed", [item("Done.")]))
        return Reply.sse(story("resp_1")) if streamed else whole

    upstream.respond = after_that
    running = asyncio.create_task(say(client, "Two.", streamed=streamed, conversation=conversation.id))
    await upstream.request()
    assert await standing(client, conversation.id) == ["One."]
    async with RawClient.to(gateway.url) as raw:
        for target, body in (
            ("/v1/responses", b'{"model":"demo","input":"Three.","conversation":"%b"}' % conversation.id.encode()),
            (f"/v1/conversations/{conversation.id}/items", b'{"items":[{"role":"user","content":"Three."}]}'),
        ):
            refused = await raw.ask("POST", target, gateway.headers(), body)
            assert (refused.status, refused.body) == (400, LOCKED)
    upstream.respond = None
    # Who only reads need not wait.
    aside = await say(client, "Aside.", conversation=conversation.id, store=False)
    assert aside.conversation.id == conversation.id
    assert told(upstream.requests[-1]) == ["One.", "Aside."]
    going_on.set()
    await running
    assert len(await standing(client, conversation.id)) == 3
    await say(client, "Three.", conversation=conversation.id)
    assert len(await standing(client, conversation.id)) == 5


async def test_a_turn_that_failed_leaves_nothing_and_lets_go(client: AsyncOpenAI, upstream: FakeUpstream) -> None:
    conversation = await client.conversations.create(items=[user("One.")])
    upstream.enqueue(Reply.error(400, "invalid_value"))
    with pytest.raises(BadRequestError):
        await say(client, "Two.", conversation=conversation.id)
    failed = response("resp_failed", "failed")
    upstream.enqueue(Reply.json(200, failed), Reply.sse(story("resp_cut")[:3], then=Act.CLOSE))
    assert (await say(client, "Two.", conversation=conversation.id)).status == "failed"
    assert (await say(client, "Two.", streamed=True, conversation=conversation.id)).status == "failed"
    with pytest.raises(NotFoundError):
        await client.responses.create(
            model="demo", input=[{"type": "item_reference", "id": "msg_9"}], conversation=conversation.id
        )
    assert await standing(client, conversation.id) == ["One."]
    assert (await client.responses.retrieve("resp_failed")).status == "failed"
    await say(client, "Two.", conversation=conversation.id)


async def test_a_client_that_leaves_lets_go(client: AsyncOpenAI, upstream: FakeUpstream) -> None:
    conversation = await client.conversations.create(items=[user("One.")])
    upstream.enqueue(Reply.sse(story("resp_left")[:3], then=Act.STALL), Reply.stall())
    async with calling(str(client.base_url), client.api_key, input="Two.", conversation=conversation.id) as leaving:
        await leaving.until(b"response.created")
    waiting = asyncio.create_task(say_when_free(client, "Two.", conversation.id))
    await upstream.request(1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await say_when_free(client, "Two.", conversation.id)
    assert (await client.responses.retrieve("resp_left")).status == "cancelled"
    assert len(await standing(client, conversation.id)) == 3


async def say_when_free(client: AsyncOpenAI, text: str, conversation_id: str) -> Any:
    async with asyncio.timeout(4 * SECONDS):
        while True:
            try:
                return await say(client, text, conversation=conversation_id)
            except BadRequestError as error:
                if error.code != "conversation_locked":
                    raise
                # A hundred that ask again at once keep each other from being answered.
                await asyncio.sleep(0.5)


@pytest.mark.parametrize(
    "clients", [pytest.param(40, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.faults)]
)
@sqlite_first
async def test_of_many_clients_each_is_appended_once_and_whole(client: AsyncOpenAI, clients: int) -> None:
    conversation = await client.conversations.create()
    said = await asyncio.gather(
        *(say_when_free(client, f"Client {number}.", conversation.id) for number in range(clients))
    )
    listed = client.conversations.items.list(conversation.id, order="asc", limit=100)
    ids = [one.id async for one in listed]
    assert len(ids) == len(set(ids)) == 2 * clients
    assert set(ids[1::2]) == {one.output[0].id for one in said}
    texts = await standing(client, conversation.id)
    assert set(texts[::2]) == {f"Client {number}." for number in range(clients)}


async def test_a_response_outlives_its_conversation(client: AsyncOpenAI, upstream: FakeUpstream) -> None:
    conversation = await client.conversations.create(items=[user("My city is Utrecht.")])
    first = await say(client, "One.", conversation=conversation.id)
    child = await say(client, "What is my city?", previous_response_id=first.id)
    assert (child.output_text, child.conversation) == ("Your city is Utrecht.", None)
    assert told(upstream.requests[-1])[:2] == ["My city is Utrecht.", "One."]
    assert len(await standing(client, conversation.id)) == 3

    going_on = asyncio.Event()

    async def after_that(_: Recorded) -> Reply:
        await going_on.wait()
        return Reply.json(200, response("resp_1", "completed", [item("Done.")]))

    upstream.respond = after_that
    running = asyncio.create_task(say(client, "Two.", conversation=conversation.id))
    await upstream.request(2)
    await client.conversations.delete(conversation.id)
    going_on.set()
    assert (await running).id == "resp_1"
    assert (await client.responses.retrieve("resp_1")).output_text == "Done."
    assert await client.responses.retrieve(first.id)
    for response_id in ("resp_1", first.id, child.id):
        with pytest.raises(BadRequestError) as refused:
            await say(client, "Three.", previous_response_id=response_id)
        assert refused.value.code == "previous_response_not_found"


async def test_a_deleted_response_stays_in_its_conversation(client: AsyncOpenAI) -> None:
    conversation = await client.conversations.create()
    first = await say(client, "One.", conversation=conversation.id)
    await client.responses.delete(first.id)
    assert await standing(client, conversation.id) == ["One.", first.output_text]


async def test_items_are_named_by_their_ids(client: AsyncOpenAI, upstream: FakeUpstream) -> None:
    conversation = await client.conversations.create(items=[user("One.")])
    (one,) = (await client.conversations.items.list(conversation.id)).data
    reference: Any = {"type": "item_reference", "id": one.id}
    other = await client.conversations.create()
    with pytest.raises(NotFoundError, match=f"Item with id '{one.id}' not found"):
        await client.conversations.items.create(other.id, items=[reference])
    await client.responses.create(model="demo", input=[reference, user("Two.")], conversation=conversation.id)
    assert told(upstream.requests[-1]) == ["One.", "Two."]
    assert (await standing(client, conversation.id))[:2] == ["One.", "Two."]
    first = await say(client, "Three.")
    answer: Any = {"type": "item_reference", "id": first.output[0].id}
    await client.conversations.items.create(other.id, items=[answer])
    assert await standing(client, other.id) == [first.output_text]


async def test_a_call_is_answered_in_its_conversation(client: AsyncOpenAI, upstream: FakeUpstream) -> None:
    call = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
    upstream.enqueue(Reply.json(200, response("resp_1", "completed", [call])))
    conversation = await client.conversations.create()
    await say(client, "One.", conversation=conversation.id)
    with pytest.raises(BadRequestError, match="No tool output found for function call call_1"):
        await say(client, "Two.", conversation=conversation.id)
    output: Any = {"type": "function_call_output", "call_id": "call_1", "output": "42"}
    await client.conversations.items.create(conversation.id, items=[output])
    await say(client, "Two.", conversation=conversation.id)
    assert told(upstream.requests[-1]) == ["One.", "function_call", "function_call_output", "Two."]
    assert (await standing(client, conversation.id))[1:3] == ["function_call", "function_call_output"]


async def test_a_response_without_items_is_a_turn_too(client: AsyncOpenAI, upstream: FakeUpstream) -> None:
    conversation = await client.conversations.create()
    upstream.enqueue(Reply.json(200, response("resp_1", "completed")))
    await client.responses.create(model="demo", input=[], conversation=conversation.id)
    (one,) = (await client.conversations.items.create(conversation.id, items=[user("One.")])).data
    await client.conversations.items.delete(one.id or "", conversation_id=conversation.id)
    await say(client, "Two.", conversation=conversation.id)
    assert told(upstream.requests[-1]) == ["Two."]
