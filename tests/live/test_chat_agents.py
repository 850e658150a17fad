"""The OpenAI Agents SDK, with only a chat completions server behind the gateway."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner, function_tool
from pydantic import BaseModel

from tests.fakes.chat_calls import chat_settings
from tests.fakes.chat_upstream import DEEPSEEK, FakeChat
from tests.fakes.gateway import running_gateway
from tests.fakes.replies import Reply

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


class Weather(BaseModel):
    city: str


async def test_an_agent_is_given_what_its_schema_says(sqlite_url: str, chat: FakeChat) -> None:
    """Rule 34: the schema reaches the server, and its answer the agent."""

    def answer(body: Mapping[str, Any]) -> Reply:
        schema = body["response_format"]["json_schema"]
        assert (schema["strict"], [*schema["schema"]["properties"]]) == (True, ["city"])
        message = {"role": "assistant", "content": '{"city":"Utrecht"}'}
        return Reply.json(200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    chat.before = answer
    async with running_gateway(sqlite_url, [chat_settings(chat)]) as gateway, gateway.client() as client:
        model = OpenAIResponsesModel(model="m", openai_client=client)
        result = await Runner.run(Agent(name="Forecaster", model=model, output_type=Weather), "Where?")
    assert result.final_output == Weather(city="Utrecht")


async def test_an_agent_hands_over_to_another(sqlite_url: str, chat: FakeChat) -> None:
    async with running_gateway(sqlite_url, [chat_settings(chat)]) as gateway, gateway.client() as client:
        model = OpenAIResponsesModel(model="m", openai_client=client)
        spanish = Agent(name="Spanish agent", instructions="You speak Spanish.", model=model)
        first = Agent(name="Triage", instructions="Hand over.", model=model, handoffs=[spanish])
        result = await Runner.run(first, "[call transfer_to_spanish_agent]")
    assert result.last_agent is spanish
    assert result.final_output.startswith("The tool said: ")
    assert [body["messages"][0]["content"] for body in chat.bodies] == ["Hand over.", "You speak Spanish."]
    assert chat.refusals == []
