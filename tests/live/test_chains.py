"""Chains: what a stateless upstream is told of the turns before, and that it never hears of a chain."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError
from openai.types.responses import Response

from app.ids import new_id
from tests.fakes.databases import sqlite_first
from tests.fakes.forked import ForkedGateway
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

TURNS = 200
FORKS = (50, 100, 150)


@dataclass(frozen=True)
class Tip:
    """The latest response of a branch, and all that was said on the way to it."""

    id: str | None = None
    said: tuple[tuple[str, str], ...] = ()


def said_in(request: Recorded) -> tuple[tuple[str, str], ...]:
    """Role and text of each message that upstream was sent."""
    sent = request.json["input"]
    items = [{"role": "user", "content": sent}] if isinstance(sent, str) else input_of(request)
    return tuple(
        (item["role"], item["content"] if isinstance(item["content"], str) else item["content"][0]["text"])
        for item in items
    )


def input_of(request: Recorded) -> list[dict[str, Any]]:
    sent = request.json["input"]
    assert isinstance(sent, list)
    return sent


def types(items: Sequence[dict[str, Any]]) -> list[str]:
    return [item["type"] if "role" not in item else item["role"] for item in items]


async def take_turn(client: AsyncOpenAI, upstream: FakeUpstream, tip: Tip, text: str, *, streamed: bool) -> Tip:
    """One turn further; upstream has to have received exactly what was said before, and this."""
    if streamed:
        stream = await client.responses.create(model="demo", input=text, previous_response_id=tip.id, stream=True)
        *_, last = [event async for event in stream]
        assert last.type == "response.completed"
        response = last.response
    else:
        response = await client.responses.create(model="demo", input=text, previous_response_id=tip.id)
    heard = (*tip.said, ("user", text))
    assert said_in(upstream.requests[-1]) == heard
    return Tip(response.id, (*heard, ("assistant", response.output_text)))


@pytest.mark.slow
@sqlite_first
async def test_long_chains_and_their_forks_are_replayed_whole_and_in_order(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    async with gateway.client() as client:
        trunk = [Tip()]
        for number in range(TURNS):
            streamed = number % 10 == 0
            trunk.append(await take_turn(client, upstream, trunk[-1], f"Trunk {number}.", streamed=streamed))
        for fork in FORKS:
            tip = trunk[fork]
            for number in range(3):
                tip = await take_turn(client, upstream, tip, f"Fork {fork} {number}.", streamed=number == 1)
            assert len(tip.said) == 2 * (fork + 3)
        await take_turn(client, upstream, trunk[-1], "And the trunk goes on.", streamed=False)
    assert len(upstream.requests) == TURNS + 3 * len(FORKS) + 1
    for request in upstream.requests:
        assert request.json["store"] is False
        assert request.json.keys() <= {"model", "input", "include", "store", "stream"}


@sqlite_first
async def test_a_chain_goes_on_when_the_key_that_began_it_is_taken_away(
    database_url: str, upstream: FakeUpstream, tmp_path: Path
) -> None:
    async with (
        running_gateway(database_url, [upstream_settings(upstream.url, "sk-one", name="openai")]) as gateway,
        gateway.client() as client,
    ):
        first = await client.responses.create(model="demo", input="My city is Utrecht.", reasoning={"effort": "low"})
        second = await client.responses.create(model="demo", input="Go on.", previous_response_id=first.id)
    with_thought = input_of(upstream.requests[1])
    assert types(with_thought) == ["user", "reasoning", "assistant", "user"]

    environment = {"DATABASE_URL": database_url, "OPENAI_BASE_URL": upstream.url}
    process = ForkedGateway(tmp_path, environment | {"OPENAI_API_KEY": "sk-two"})

    def ask() -> Response:
        with process.start().client(gateway.key) as client:
            return client.responses.create(model="demo", input="What is my city?", previous_response_id=second.id)

    try:
        third = await asyncio.to_thread(ask)
    finally:
        await asyncio.to_thread(process.stop)
    assert third.output_text == "Your city is Utrecht."
    last = upstream.requests[2]
    assert last.headers["authorization"] == "Bearer sk-two"
    without_thought = [item for item in with_thought if item["type"] != "reasoning"]
    assert types(input_of(last)) == ["user", "assistant", "user", "assistant", "user"]
    assert input_of(last)[:3] == without_thought


async def test_a_thought_stands_before_its_message_without_its_id(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    async with gateway.client() as client:
        first = await client.responses.create(model="demo", input="Think.", reasoning={"effort": "low"})
        await client.responses.create(model="demo", input="And now?", previous_response_id=first.id)
    thought, message = first.output
    assert thought.type == "reasoning"
    assert message.type == "message"
    _, sent_thought, sent_message, _ = input_of(upstream.requests[1])
    assert sent_thought == {"type": "reasoning", "summary": [], "encrypted_content": thought.encrypted_content}
    assert sent_thought["encrypted_content"]
    assert sent_message["content"][0]["text"] == first.output_text
    assert "id" not in sent_message


async def test_the_phase_of_a_message_is_kept(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    def spoken(phase: str) -> dict[str, Any]:
        content = [{"type": "output_text", "text": phase, "annotations": []}]
        return {"id": new_id("msg"), "type": "message", "role": "assistant", "phase": phase, "content": content}

    output = [spoken("commentary"), spoken("final_answer")]
    upstream.enqueue(Reply.json(200, {"id": new_id("resp"), "status": "completed", "model": "m", "output": output}))
    async with sqlite_gateway.client() as client:
        given: Any = [{"role": "assistant", "content": "Let me see.", "phase": "commentary"}]
        first = await client.responses.create(model="demo", input=given)
        await client.responses.create(model="demo", input="And now?", previous_response_id=first.id)
    replayed = input_of(upstream.requests[1])
    assert [item.get("phase") for item in replayed] == ["commentary", "commentary", "final_answer", None]


async def test_an_incomplete_response_can_be_continued(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    async with sqlite_gateway.client() as client:
        first = await client.responses.create(model="demo", input="Tell me a story. [incomplete]")
        assert first.status == "incomplete"
        second = await client.responses.create(model="demo", input="Go on.", previous_response_id=first.id)
    assert second.status == "completed"
    assert said_in(upstream.requests[1])[:2] == (
        ("user", "Tell me a story. [incomplete]"),
        ("assistant", first.output_text),
    )
    assert "status" not in input_of(upstream.requests[1])[1]


async def test_a_call_that_was_cut_off_is_left_out_and_owed_nothing(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    tool: Any = {"type": "function", "name": "get_weather", "parameters": {"properties": {"city": {}}}}
    async with sqlite_gateway.client() as client:
        first = await client.responses.create(model="demo", input="The weather? [incomplete]", tools=[tool])
        assert [item.type for item in first.output] == ["function_call"]
        await client.responses.create(model="demo", input="Never mind.", previous_response_id=first.id)
    assert said_in(upstream.requests[1]) == (("user", "The weather? [incomplete]"), ("user", "Never mind."))


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_failed_turn_is_left_out_of_the_history(
    streamed: bool, sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    async with sqlite_gateway.client() as client:
        first = await client.responses.create(model="demo", input="My city is Utrecht.")
        asked: dict[str, Any] = {"model": "demo", "input": "Now [fail].", "previous_response_id": first.id}
        if streamed:
            *_, last = [event async for event in await client.responses.create(**asked, stream=True)]
            failed = last.response
        else:
            failed = await client.responses.create(**asked)
        assert failed.status == "failed"
        third = await client.responses.create(model="demo", input="What is my city?", previous_response_id=failed.id)
    assert third.output_text == "Your city is Utrecht."
    assert said_in(upstream.requests[2]) == (
        ("user", "My city is Utrecht."),
        ("assistant", first.output_text),
        ("user", "What is my city?"),
    )


async def test_instructions_and_parameters_are_of_one_turn_only(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    async with sqlite_gateway.client() as client:
        first = await client.responses.create(
            model="demo", input="Hi.", instructions="Speak Dutch.", temperature=0.5, metadata={"turn": "1"}
        )
        second = await client.responses.create(model="demo", input="And now?", previous_response_id=first.id)
    assert upstream.requests[0].json["instructions"] == "Speak Dutch."
    assert upstream.requests[1].json.keys() == {"model", "input", "store", "include"}
    assert b"Dutch" not in upstream.requests[1].body
    assert (second.instructions, second.metadata) == (None, {})


async def test_a_turn_that_was_not_stored_cannot_be_continued(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    async with sqlite_gateway.client() as client:
        first = await client.responses.create(model="demo", input="Hi.")
        aside: dict[str, Any] = {"model": "demo", "input": "Aside.", "previous_response_id": first.id}
        unstored = await client.responses.create(**aside, store=False)
        assert unstored.previous_response_id == first.id
        assert said_in(upstream.requests[1])[0] == ("user", "Hi.")
        with pytest.raises(BadRequestError) as refused:
            await client.responses.create(model="demo", input="And now?", previous_response_id=unstored.id)
        assert refused.value.code == "previous_response_not_found"
    assert len(upstream.requests) == 2
