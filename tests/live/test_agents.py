"""The OpenAI Agents SDK, pointed at the gateway."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from agents import Agent, OpenAIResponsesModel, Runner, function_tool
from openai import AsyncOpenAI

from tests.fakes.gateway import LiveGateway
from tests.fakes.upstream import FakeUpstream

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("no_tracing")]

QUESTION = "What is the weather in Utrecht?"
ANSWER = "The tool get_weather answered: 22 degrees"


@pytest.fixture
async def client(sqlite_gateway: LiveGateway) -> AsyncIterator[AsyncOpenAI]:
    async with sqlite_gateway.client() as client:
        yield client


@pytest.fixture
def asked() -> list[str]:
    """What the tool was asked for."""
    return []


@pytest.fixture
def agent(client: AsyncOpenAI, asked: list[str]) -> Agent[Any]:
    @function_tool
    def get_weather(city: str) -> str:
        """Tell the weather in a city."""
        asked.append(city)
        return "22 degrees"

    return Agent(
        name="Forecaster",
        instructions="Use the tool.",
        model=OpenAIResponsesModel(model="demo", openai_client=client),
        tools=[get_weather],
    )


def item_types(upstream: FakeUpstream, number: int) -> list[str]:
    sent = upstream.requests[number].json["input"]
    return [item.get("type", "message") for item in sent] if isinstance(sent, list) else ["message"]


async def test_an_agent_calls_its_tool_and_answers(agent: Agent[Any], asked: list[str], upstream: FakeUpstream) -> None:
    result = await Runner.run(agent, QUESTION)
    assert result.final_output == ANSWER
    assert asked == ["Utrecht"]
    # Without chaining the agent sends its history itself, ids and all.
    assert item_types(upstream, 1) == ["message", "function_call", "function_call_output"]


async def test_an_agent_streams(agent: Agent[Any], asked: list[str], upstream: FakeUpstream) -> None:
    result = Runner.run_streamed(agent, QUESTION)
    kinds = [event.data.type async for event in result.stream_events() if event.type == "raw_response_event"]
    assert result.final_output == ANSWER
    assert asked == ["Utrecht"]
    assert kinds.count("response.completed") == 2
    assert "response.function_call_arguments.delta" in kinds
    assert "response.output_text.delta" in kinds
    assert [request.json["stream"] for request in upstream.requests] == [True, True]


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_agent_that_chains_sends_only_what_is_new(
    streamed: bool, agent: Agent[Any], client: AsyncOpenAI, upstream: FakeUpstream
) -> None:
    async def run(text: str, **options: Any) -> Any:
        if not streamed:
            return await Runner.run(agent, text, **options)
        result = Runner.run_streamed(agent, text, **options)
        assert [event async for event in result.stream_events()]
        return result

    first = await run(QUESTION, auto_previous_response_id=True)
    assert first.final_output == ANSWER
    second = await run("Thanks.", previous_response_id=first.last_response_id)
    assert second.final_output == 'Demo answer to "Thanks." (turn 2).'
    # Upstream was given the whole history, and each turn is kept as what it added.
    history = ["message", "function_call", "function_call_output", "message", "message"]
    assert item_types(upstream, 1) == history[:3]
    assert item_types(upstream, 2) == history
    for request in upstream.requests:
        assert "previous_response_id" not in request.json
        assert request.json["instructions"] == "Use the tool."
    kept = await client.responses.retrieve(second.last_response_id)
    assert kept.previous_response_id == first.last_response_id
