"""Everything that the gateway does, with only a chat completions server behind it, by the SDK over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import AsyncOpenAI

from tests.fakes.chat_calls import WEATHER, chat_settings, streamed, tool_rounds
from tests.fakes.chat_upstream import DEEPSEEK, GEMINI, OPENAI, STRICT, TEMPLATE, THOUGHT, Dialect, FakeChat
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live


@pytest.fixture
async def gateway(database_url: str, chat: FakeChat) -> AsyncIterator[LiveGateway]:
    async with running_gateway(database_url, [chat_settings(chat, chat={"fills_reasoning": True})]) as gateway:
        yield gateway


@pytest.fixture
async def client(gateway: LiveGateway) -> AsyncIterator[AsyncOpenAI]:
    async with gateway.client() as client:
        yield client


async def test_a_response_is_created_kept_and_found(client: AsyncOpenAI, chat: FakeChat) -> None:
    made: Any = await client.responses.create(model="m", input="Hello", instructions="Be kind.")
    assert made.output_text == "You said 1 things, first: Hello"
    assert made.status == "completed"
    assert made.usage is not None
    assert (made.usage.input_tokens, made.usage.output_tokens, made.usage.total_tokens) == (20, 7, 27)
    assert made.id.startswith("resp_")
    assert (await client.responses.retrieve(made.id)).output_text == made.output_text
    assert chat.bodies == [
        {
            "model": "m",
            "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}],
        }
    ]
    assert (await client.models.list()).data[0].id == "m"


async def test_a_stream_has_the_events_of_the_api_and_is_kept_as_it_ended(client: AsyncOpenAI) -> None:
    events = await streamed(client, input="Hello [words:3]")
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 3,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1].response
    assert last.output_text == "word0 word1 word2"
    assert last.usage.total_tokens == 17
    kept = await client.responses.retrieve(last.id)
    assert kept.output[0].model_dump() == last.output[0].model_dump()


@pytest.mark.parametrize(
    ("dialect", "profile"),
    [
        (OPENAI, {}),
        (DEEPSEEK, {}),
        (GEMINI, {}),
        (TEMPLATE, {}),
        (STRICT, {"include_usage": False, "reasoning_replay": "never", "call_id_form": "mistral9"}),
    ],
    ids=["openai", "deepseek", "gemini", "template", "strict"],
)
async def test_a_chain_with_tools_goes_on_whatever_the_dialect(
    database_url: str, chat: FakeChat, dialect: Dialect, profile: dict[str, Any]
) -> None:
    """Rules 1, 4, 26, 27, 35, 36, 49: whole and streamed by turns, two tool rounds."""
    chat.dialect = dialect
    async with (
        running_gateway(database_url, [chat_settings(chat, chat=profile)]) as gateway,
        gateway.client() as client,
    ):
        await tool_rounds(client)
    assert chat.refusals == []


async def test_a_chain_of_fifty_turns_keeps_all_that_was_thought_and_called(sqlite_url: str, chat: FakeChat) -> None:
    """Rules 1 and 4: half of the turns are calls, and every call has its own reasoning back in the end."""
    chat.dialect = DEEPSEEK
    async with running_gateway(sqlite_url, [chat_settings(chat)]) as gateway, gateway.client() as client:
        turn: Any = None
        for number in range(25):
            asked = f"[call weather] {number}"
            called: Any = await client.responses.create(
                model="m", input=asked, tools=[WEATHER], previous_response_id=turn and turn.id
            )
            output: Any = {"type": "function_call_output", "call_id": called.output[-1].call_id, "output": str(number)}
            turn = await client.responses.create(
                model="m", input=[output], tools=[WEATHER], previous_response_id=called.id
            )
            assert turn.output_text == f"The tool said: {number}"
    sent = chat.bodies[-1]["messages"]
    thoughts = [message.get("reasoning_content") for message in sent if message.get("tool_calls")]
    assert thoughts == [THOUGHT] * 25
    assert len(sent) == 4 * 25 - 1
    assert chat.refusals == []


async def test_reasoning_is_replayed_by_the_chain_and_by_clients_that_keep_it(
    client: AsyncOpenAI, chat: FakeChat
) -> None:
    """Rules 1 and 2: DeepSeek has its own reasoning back on the second turn, from the store and from the seal."""
    chat.dialect = DEEPSEEK
    called: Any = await client.responses.create(
        model="m",
        input="[call weather]",
        tools=[WEATHER],
        store=False,
        include=["reasoning.encrypted_content"],
    )
    reasoning, call = called.output
    assert reasoning.type == "reasoning"
    assert reasoning.summary[0].text == THOUGHT
    assert (reasoning.encrypted_content or "").startswith("antiphon.")
    # As Codex replays it: without the text.
    kept: Any = [
        {"role": "user", "content": "[call weather]"},
        {"type": "reasoning", "summary": [], "encrypted_content": reasoning.encrypted_content},
        {"type": "function_call", "call_id": call.call_id, "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"},
    ]
    await client.responses.create(model="m", input=kept, tools=[WEATHER], store=False)
    assert chat.bodies[-1]["messages"][1]["reasoning_content"] == THOUGHT
    stored: Any = await client.responses.create(model="m", input="[call weather]", tools=[WEATHER])
    output: Any = [{"type": "function_call_output", "call_id": stored.output[1].call_id, "output": "sunny"}]
    await client.responses.create(model="m", input=output, previous_response_id=stored.id, tools=[WEATHER])
    assert chat.bodies[-1]["messages"][1]["reasoning_content"] == THOUGHT
    assert chat.refusals == []


async def test_a_project_cannot_read_what_was_sealed_for_another(gateway: LiveGateway, chat: FakeChat) -> None:
    chat.dialect = DEEPSEEK
    async with gateway.client() as one, gateway.client(gateway.other_key) as other:
        called: Any = await one.responses.create(model="m", input="[call weather]", tools=[WEATHER], store=False)
        sent: Any = [
            {"role": "user", "content": "Hello"},
            {"type": "reasoning", "summary": [], "encrypted_content": called.output[0].encrypted_content},
            {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
        ]
        await other.responses.create(model="m", input=sent, tools=[WEATHER], store=False)
    assert chat.bodies[-1]["messages"][1]["reasoning_content"] == ""


async def test_a_conversation_goes_on(client: AsyncOpenAI) -> None:
    conversation: Any = await client.conversations.create()
    await client.responses.create(model="m", input="One", conversation=conversation.id)
    said: Any = await client.responses.create(model="m", input="Two", conversation=conversation.id)
    assert said.output_text == "You said 2 things, first: One"
    assert len([item async for item in client.conversations.items.list(conversation.id)]) == 4


async def test_a_background_response_is_polled_and_its_stream_resumed(client: AsyncOpenAI) -> None:
    run: Any = await client.responses.create(model="m", input="Go [words:4]", background=True)
    with_events: Any = await client.responses.create(
        model="m", input="Go [words:30] [slow:10]", background=True, stream=True
    )
    seen = [event async for event in _first(with_events, 5)]
    resumed = await client.responses.retrieve(seen[0].response.id, stream=True, starting_after=seen[-1].sequence_number)
    rest = [event async for event in resumed]
    assert rest[0].sequence_number == seen[-1].sequence_number + 1
    assert rest[-1].type == "response.completed"
    assert rest[-1].response.output_text.endswith("word29")
    async with asyncio.timeout(30):
        while (found := await client.responses.retrieve(run.id)).status != "completed":
            await asyncio.sleep(0.05)
    assert found.output_text == "word0 word1 word2 word3"


async def _first(stream: Any, count: int) -> AsyncIterator[Any]:
    async for event in stream:
        yield event
        count -= 1
        if not count:
            await stream.close()
            return


# Its type of a compacted output knows no user's messages, which OpenAI returns there as well.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
async def test_a_websocket_turn_and_a_compaction(client: AsyncOpenAI) -> None:
    async with client.responses.connect() as connection:
        await connection.response.create(model="m", input="One", store=False)
        first: Any = await _last(connection)
        await connection.response.create(model="m", input="Two", previous_response_id=first.response.id, store=False)
        assert (await _last(connection)).response.output_text == "You said 2 things, first: One"
    compacted: Any = await client.responses.compact(model="m", input="Remember this.")
    assert compacted.output[-1].type == "compaction"
    after: Any = [*compacted.output, {"role": "user", "content": "Go on."}]
    assert (await client.responses.create(model="m", input=after)).status == "completed"
    counted: Any = await client.responses.input_tokens.count(model="m", input="How many?")
    assert counted.input_tokens > 0


async def _last(connection: Any) -> Any:
    async for event in connection:
        assert event.type not in {"error", "response.failed"}, event
        if event.type == "response.completed":
            return event
    raise AssertionError


@pytest.mark.parametrize("first", ["chat", "native"])
async def test_a_chain_moves_between_native_and_chat_and_takes_no_sealed_reasoning_along(
    database_url: str, chat: FakeChat, upstream: FakeUpstream, first: str
) -> None:
    """Rule 7: what was sealed stays behind, in the chain and in what a client keeps; the rest goes on."""
    chat.dialect = DEEPSEEK
    native = upstream_settings(upstream.url, "sk-native-key", name="native", models=("n*",), aliases={"n": "demo"})
    settings = [chat_settings(chat, models=("m",), chat={"fills_reasoning": True}), native]
    models = ["m", "n", "m", "n"] if first == "chat" else ["n", "m", "n", "m"]
    async with running_gateway(database_url, settings) as gateway, gateway.client() as client:
        previous = None
        kept: list[Any] = []
        for number, model in enumerate(models):
            said: Any = {"role": "user", "content": f"Turn {number}"}
            turn: Any = await client.responses.create(model=model, input=[said], previous_response_id=previous)
            assert turn.status == "completed"
            previous = turn.id
            kept += [said]
            alone: Any = await client.responses.create(model=model, input=kept, store=False)
            kept += [item.model_dump(exclude_none=True) for item in alone.output]
            assert alone.status == "completed"
            # Also where the client continues a chain and repeats what it kept.
            both: Any = [*[item for item in kept if item.get("type") == "reasoning"], said] if number else [said]
            await client.responses.create(model=model, input=both, previous_response_id=previous)
    assert chat.refusals == []
    sent = b"".join(request.body for request in upstream.requests)
    assert b"antiphon." not in sent
    assert THOUGHT.encode() not in sent
