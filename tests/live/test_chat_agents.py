"""The OpenAI Agents SDK, with only a chat completions server behind the gateway."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner, function_tool

from tests.fakes.chat_calls import chat_settings
from tests.fakes.chat_upstream import DEEPSEEK, FakeChat
from tests.fakes.gateway import running_gateway

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("no_tracing")]


@pytest.fixture
async def chat() -> AsyncIterator[FakeChat]:
    async with FakeChat(DEEPSEEK) as chat:
        yield chat


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("store", [False, True], ids=["own history", "stored"])
async def test_an_agent_calls_its_tools_and_answers(
    sqlite_url: str, chat: FakeChat, is_streamed: bool, store: bool
) -> None:
    """Rules 1, 2, 10 and 13: events and items that its parser takes, and reasoning that goes back either way."""
    asked: list[str] = []

    @function_tool
    def weather(city: str) -> str:
        """Tell the weather in a city."""
        asked.append(city)
        return "22 degrees"

    async with running_gateway(sqlite_url, [chat_settings(chat)]) as gateway, gateway.client() as client:
        agent = Agent(
            name="Forecaster",
            instructions="Use the tool.",
            model=OpenAIResponsesModel(model="m", openai_client=client),
            model_settings=ModelSettings(store=store, response_include=["reasoning.encrypted_content"]),
            tools=[weather],
        )
        result: Any
        if is_streamed:
            result = Runner.run_streamed(agent, "[call weather]")
            kinds = [event.data.type async for event in result.stream_events() if event.type == "raw_response_event"]
            assert kinds.count("response.completed") == 2
            assert "response.reasoning_summary_text.delta" in kinds
        else:
            result = await Runner.run(agent, "[call weather]")
    assert result.final_output == "The tool said: 22 degrees"
    assert asked == ["Utrecht"]
    assert chat.refusals == []
