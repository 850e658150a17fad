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
    stream = await client.responses.create(model="m", stream=True, **request)
    return [event async for event in stream]
