"""Reasoning that was sealed for a chat upstream: it goes wherever that is read again, and nowhere else."""

import asyncio
from typing import Any

import pytest
from openai import AsyncOpenAI

from tests.fakes.chat_calls import WEATHER, chat_settings
from tests.fakes.chat_upstream import DEEPSEEK, THOUGHT, FakeChat
from tests.fakes.gateway import running_gateway, upstream_settings
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live


def output_of(called: Any) -> Any:
    """The input that answers the call of this response."""
    (call,) = [item for item in called.output if item.type == "function_call"]
    return [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}]


def thoughts_in(chat: FakeChat) -> list[str | None]:
    """The reasoning in each message with calls that the chat server was sent last."""
    return [each.get("reasoning_content") for each in chat.bodies[-1]["messages"] if each.get("tool_calls")]


async def test_another_key_of_the_upstream_has_the_reasoning_of_the_first(sqlite_url: str, chat: FakeChat) -> None:
    """A server that insists on it refuses the chain otherwise, as the first key dies."""
    chat.dialect = DEEPSEEK
    keys = upstream_settings(chat.url, "sk-chat-one", "sk-chat-two").keys
    upstream = chat_settings(chat).model_copy(update={"keys": keys})
    async with running_gateway(sqlite_url, [upstream]) as gateway, gateway.client() as client:
        called: Any = await client.responses.create(model="m", input="[call weather]", tools=[WEATHER])
        first = chat.server.requests[-1].headers["authorization"]

        def refuse(_: Any) -> Reply | None:
            is_first = chat.server.requests[-1].headers["authorization"] == first
            return Reply.error(401, "invalid_api_key") if is_first else None

        chat.before = refuse
        turn: Any = await client.responses.create(
            model="m", input=output_of(called), previous_response_id=called.id, tools=[WEATHER]
        )
        assert turn.output_text == "The tool said: sunny"
    assert chat.server.requests[-1].headers["authorization"] != first
    assert thoughts_in(chat) == [THOUGHT]
    assert chat.refusals == []


async def test_a_chain_that_goes_on_with_another_chat_upstream_leaves_the_reasoning(
    sqlite_url: str, chat: FakeChat
) -> None:
    chat.dialect = DEEPSEEK
    settings = [
        chat_settings(chat, models=("one",)),
        chat_settings(chat, name="other", models=("two",), chat={"fills_reasoning": True}),
    ]
    async with running_gateway(sqlite_url, settings) as gateway, gateway.client() as client:
        called: Any = await client.responses.create(model="one", input="[call weather]", tools=[WEATHER])
        await client.responses.create(model="two", input=output_of(called), previous_response_id=called.id)
    assert thoughts_in(chat) == [""]


@pytest.mark.parametrize("carries", ["chain", "conversation", "client"])
async def test_reasoning_is_back_after_a_turn_with_a_native_upstream(
    database_url: str, chat: FakeChat, upstream: FakeUpstream, carries: str
) -> None:
    """Chat, native, chat: the native upstream is sent nothing of it, and what it says takes nothing away."""
    chat.dialect = DEEPSEEK
    native = upstream_settings(upstream.url, "sk-native-key", name="native", models=("n",), aliases={"n": "demo"})
    settings = [chat_settings(chat, models=("m",)), native]
    async with running_gateway(database_url, settings) as gateway, gateway.client() as client:
        conversation = await client.conversations.create() if carries == "conversation" else None
        kept: list[Any] = []
        turn: Any = None
        for model in ("m", "n", "m", "n", "m"):
            asked: Any = [{"role": "user", "content": "[call weather]"}] if turn is None else []
            if turn is not None and any(item.type == "function_call" for item in turn.output):
                asked += output_of(turn)
            asked += [] if turn is None else [{"role": "user", "content": "Go on."}]
            kept += asked
            continued: dict[str, Any] = {
                "chain": {"previous_response_id": turn and turn.id},
                "conversation": {"conversation": conversation and conversation.id},
                "client": {"store": False},
            }[carries]
            given = kept if carries == "client" else asked
            turn = await client.responses.create(model=model, input=given, tools=[WEATHER], **continued)
            kept += [item.model_dump(exclude_none=True) for item in turn.output]
            assert turn.status == "completed"
            if model == "m" and len(chat.bodies) > 1:
                assert thoughts_in(chat) == [THOUGHT]
    assert chat.refusals == []
    assert_unread(upstream)


def assert_unread(upstream: FakeUpstream) -> None:
    """The native upstream was asked, and sent nothing that was sealed."""
    sent = [request.body for request in upstream.requests if request.method == "POST"]
    assert sent
    assert b"antiphon." not in b"".join(sent)


async def sealed_by(client: AsyncOpenAI) -> list[Any]:
    """A history that a client keeps, with reasoning that was sealed."""
    called: Any = await client.responses.create(model="m", input="[call weather]", tools=[WEATHER], store=False)
    kept = [item.model_dump(exclude_none=True) for item in called.output]
    assert kept[0]["encrypted_content"].startswith("antiphon.")
    return [{"role": "user", "content": "[call weather]"}, *kept, *output_of(called)]


async def test_sealed_reasoning_of_a_turn_that_no_account_served_goes_to_no_native_upstream(
    database_url: str, chat: FakeChat, upstream: FakeUpstream
) -> None:
    """A run that failed before it was served, by chain and by reference, and items of a conversation."""
    chat.dialect = DEEPSEEK
    native = upstream_settings(upstream.url, "sk-native-key", name="native", models=("n",), aliases={"n": "demo"})
    settings = [chat_settings(chat, models=("m",)), native]
    async with running_gateway(database_url, settings) as gateway, gateway.client() as client:
        kept = await sealed_by(client)
        chat.before = lambda _: Reply.error(500)
        run: Any = await client.responses.create(model="m", input=kept, tools=[WEATHER], background=True)
        async with asyncio.timeout(60):
            while (run := await client.responses.retrieve(run.id)).status in {"queued", "in_progress"}:
                await asyncio.sleep(0.05)
        assert run.status == "failed"
        chat.before = None
        said: Any = {"role": "user", "content": "And?"}
        stored = [item.id async for item in client.responses.input_items.list(run.id, order="asc")]
        assert len(stored) == len(kept)
        named: Any = [*[{"type": "item_reference", "id": item_id} for item_id in stored], said]
        conversation = await client.conversations.create(items=kept)
        ways: list[dict[str, Any]] = [
            {"input": [said], "previous_response_id": run.id},
            {"input": named},
            {"input": [said], "conversation": conversation.id},
        ]
        for way in ways:
            assert (await client.responses.create(model="n", **way)).status == "completed"
        assert_unread(upstream)
        # It is not lost: a chat upstream has it back.
        for way in ways[1:]:
            assert (await client.responses.create(model="m", tools=[WEATHER], **way)).status == "completed"
            assert thoughts_in(chat) == [THOUGHT]
    assert chat.refusals == []
