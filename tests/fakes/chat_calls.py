"""What the tests of chat upstreams have in common: settings, tools, a stream read to its end."""

from typing import Any

from openai import AsyncOpenAI

from app.settings.upstreams import UpstreamSettings
from tests.fakes.chat_upstream import FakeChat
from tests.fakes.gateway import upstream_settings

WEATHER: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
TIME: Any = {"type": "function", "name": "time", "parameters": {"type": "object"}, "strict": False}


def chat_settings(server: FakeChat, key: str = "sk-chat-one", **options: Any) -> UpstreamSettings:
    return upstream_settings(server.url, key, **{"name": "chat", "api": "chat", **options})


async def streamed(client: AsyncOpenAI, **request: Any) -> list[Any]:
    stream = await client.responses.create(**{"model": "m", **request}, stream=True)
    return [event async for event in stream]


async def tool_rounds(client: AsyncOpenAI, model: str = "m") -> None:
    """A chain of two rounds, each with two calls whose outputs come in the other order, whole and streamed by turns."""
    tools = [WEATHER, TIME]
    previous: Any = await client.responses.create(model=model, input="Hello", instructions="Be kind.", tools=tools)
    for round_ in range(2):
        asked: Any = [
            {"role": "developer", "content": "Use tools."},
            {"role": "user", "content": "[call weather] [call time] please"},
        ]
        called: Any = await client.responses.create(
            model=model, input=asked, previous_response_id=previous.id, tools=tools, metadata={"round": str(round_)}
        )
        calls = [item for item in called.output if item.type == "function_call"]
        assert [call.name for call in calls] == ["weather", "time"]
        assert all(call.arguments == '{"city": "Utrecht"}' for call in calls)
        outputs: Any = [
            {"type": "function_call_output", "call_id": call.call_id, "output": f"{call.name} is fine"}
            for call in reversed(calls)
        ]
        events = await streamed(client, model=model, input=outputs, previous_response_id=called.id, tools=tools)
        previous = events[-1].response
        assert events[-1].type == "response.completed"
        assert previous.output_text == "The tool said: time is fine"
