"""Every code sample of the reference page, through the installed SDK."""

from itertools import groupby

import orjson
import pytest
from jsonschema import validate
from openai import OpenAI
from openai.types.responses import Response

from tests.fakes.gateway import LiveGateway
from tests.fakes.upstream import FakeUpstream
from tests.live import seed_samples
from tests.live.seed_samples import MODEL, ask

pytestmark = pytest.mark.live


async def test_the_basic_sample_prints_an_answer(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    response = await ask(sqlite_gateway, seed_samples.basic)
    assert response.status == "completed"
    assert "Tell me a three sentence bedtime story about a unicorn." in response.output_text
    assert (await upstream.request()).json == {
        "model": MODEL,
        "input": "Tell me a three sentence bedtime story about a unicorn.",
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }


async def test_the_second_turn_is_answered_with_the_first_in_its_context(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    first, second = await ask(gateway, seed_samples.two_turns)
    assert second.previous_response_id == first.id
    assert "(turn 2)" in second.output_text
    sent = (await upstream.request(1)).json["input"]
    assert isinstance(sent, list)
    assert [item["role"] for item in sent] == ["user", "assistant", "user"]
    assert sent[0]["content"] == "What is quantum computing?"
    assert sent[1]["content"][0]["text"] == first.output_text
    assert sent[2]["content"] == "Can you explain that more simply?"


async def test_a_built_in_tool_is_run_by_upstream(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    response = await ask(sqlite_gateway, seed_samples.built_in_tool)
    assert [item.type for item in response.output] == ["web_search_call", "message"]
    assert "Find the current price of Bitcoin" in response.output_text
    assert (await upstream.request()).json["tools"] == [{"type": "web_search_preview"}]


async def test_a_function_is_called_and_its_result_goes_into_a_follow_up(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    response = await ask(gateway, seed_samples.function_call)
    [call] = response.output
    assert call.type == "function_call"
    assert call.name == "get_weather"
    assert orjson.loads(call.arguments) == {"location": "Tokyo"}

    def follow_up(client: OpenAI) -> Response:
        return client.responses.create(
            model=MODEL,
            previous_response_id=response.id,
            input=[{"type": "function_call_output", "call_id": call.call_id, "output": "22 degrees"}],
        )

    answered = await ask(gateway, follow_up)
    assert answered.output_text == "The tool get_weather answered: 22 degrees"
    sent = (await upstream.request(1)).json["input"]
    assert isinstance(sent, list)
    assert sent[1:] == [
        {"type": "function_call", "call_id": call.call_id, "name": "get_weather", "arguments": call.arguments},
        {"type": "function_call_output", "call_id": call.call_id, "output": "22 degrees"},
    ]


async def test_structured_output_follows_the_schema(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    response = await ask(sqlite_gateway, seed_samples.structured_output)
    answer = orjson.loads(response.output_text)
    validate(answer, seed_samples.LANGUAGES)
    assert answer["languages"]
    assert (await upstream.request()).json["text"] == {
        "format": {"type": "json_schema", "name": "languages", "strict": True, "schema": seed_samples.LANGUAGES}
    }


async def test_reasoning_effort_reaches_upstream_and_its_thought_comes_back(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    response = await ask(sqlite_gateway, seed_samples.reasoning)
    assert [item.type for item in response.output] == ["reasoning", "message"]
    assert response.reasoning is not None
    assert response.reasoning.effort == "high"
    assert response.usage is not None
    assert response.usage.output_tokens_details.reasoning_tokens > 0
    assert (await upstream.request()).json["reasoning"] == {"effort": "high"}


async def test_a_stream_has_the_events_in_the_order_of_the_page(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    events, printed = await ask(sqlite_gateway, seed_samples.streaming)
    assert tuple(kind for kind, _ in groupby(event.type for event in events)) == seed_samples.EVENTS
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert sum(event.type == "response.output_text.delta" for event in events) > 1
    last = events[-1]
    assert last.type == "response.completed"
    assert printed == last.response.output_text
    assert last.response.usage is not None
    kept = await ask(sqlite_gateway, lambda client: client.responses.retrieve(last.response.id))
    assert kept.output_text == printed
    assert (await upstream.request()).json["stream"] is True
