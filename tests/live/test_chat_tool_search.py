"""A client searches for tools in front of a chat model: what it has found can be called, in the whole chain."""

from typing import Any

import pytest
from openai import AsyncOpenAI

from tests.fakes.chat_calls import WEATHER, chat_settings, streamed
from tests.fakes.chat_upstream import FakeChat
from tests.fakes.gateway import LiveGateway, running_gateway
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live

SEARCH: Any = {
    "type": "tool_search",
    "execution": "client",
    "description": "Finds tools.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


async def asked(client: AsyncOpenAI, is_streamed: bool, **request: Any) -> Any:
    """The response, which reads the same when it is stored."""
    if is_streamed:
        made = (await streamed(client, **request))[-1].response
    else:
        made = await client.responses.create(model="m", **request)
    kept = await client.responses.retrieve(made.id)
    assert kept.model_dump()["output"] == made.model_dump()["output"]
    return made


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
async def test_a_tool_that_the_client_finds_is_called_and_stays(
    sqlite_url: str, chat: FakeChat, is_streamed: bool
) -> None:
    async with running_gateway(sqlite_url, [chat_settings(chat)]) as gateway, gateway.client() as client:
        searched = await asked(client, is_streamed, input="[call tool_search]", tools=[SEARCH])
        [search] = [item for item in searched.output if item.type == "tool_search_call"]
        assert (search.execution, search.arguments) == ("client", {"city": "Utrecht"})
        found: Any = {"type": "tool_search_output", "call_id": search.call_id, "execution": "client"}
        found |= {"tools": [WEATHER]}
        told = await asked(client, is_streamed, input=[found], tools=[SEARCH], previous_response_id=searched.id)
        assert told.output_text == "The tool said: These tools can be called now: weather"
        called = await asked(client, is_streamed, input="[call weather]", tools=[SEARCH], previous_response_id=told.id)
    assert [item.name for item in called.output if item.type == "function_call"] == ["weather"]
    offered = [[tool["function"]["name"] for tool in body["tools"]] for body in chat.bodies]
    assert offered == [["tool_search"], ["tool_search", "weather"], ["tool_search", "weather"]]
    assert chat.refusals == []


async def test_custom_tools_and_searches_go_to_a_native_upstream_as_they_are(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    """Rule 20: only an upstream that speaks chat has them translated."""
    tools: Any = [SEARCH, {"type": "custom", "name": "edit", "format": {"type": "text"}}]
    items: Any = [{"type": "tool_search_call", "call_id": "s", "execution": "client", "arguments": {"city": "x"}}]
    items += [{"type": "tool_search_output", "call_id": "s", "execution": "client", "tools": [WEATHER]}]
    items += [{"type": "custom_tool_call", "call_id": "c", "name": "edit", "input": "x"}]
    items += [{"type": "custom_tool_call_output", "call_id": "c", "output": "done"}, {"role": "user", "content": "Hi"}]
    async with sqlite_gateway.client() as client:
        await client.responses.create(model="demo", input=items, tools=tools)
    sent: Any = upstream.requests[0].json
    assert (sent["input"], sent["tools"]) == (items, tools)
