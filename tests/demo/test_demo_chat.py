"""The demo model is asked in chat and for embeddings: what the SDK reads, whole and streamed."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from openai import APIStatusError, AsyncOpenAI

from app.demo.endpoint import answer
from tests.fakes.gateway import running_gateway

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Get the weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ASKED: Any = [{"role": "user", "content": "What is the weather in Utrecht? Call weather."}]


@pytest.fixture
async def client(sqlite_url: str) -> AsyncIterator[AsyncOpenAI]:
    """The SDK at a gateway without upstreams."""
    async with running_gateway(sqlite_url) as gateway, gateway.client() as client:
        yield client


async def test_a_whole_completion_and_a_streamed_one_say_the_same(client: AsyncOpenAI) -> None:
    messages: Any = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "Hello [words:5]"}]},
    ]
    whole = await client.chat.completions.create(model="demo", messages=messages)
    stream = await client.chat.completions.create(
        model="demo", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    said = whole.choices[0].message.content
    assert said
    assert "".join([chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]) == said
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens > 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_tool_is_called_and_its_result_read(client: AsyncOpenAI, stream: bool) -> None:
    if stream:
        streamed = client.chat.completions.stream(model="demo", messages=ASKED, tools=[WEATHER])
        async with streamed as events:
            completion: Any = await events.get_final_completion()
    else:
        completion = await client.chat.completions.create(model="demo", messages=ASKED, tools=[WEATHER])
    assert completion.choices[0].finish_reason == "tool_calls"
    (call,) = completion.choices[0].message.tool_calls
    assert call.function.name == "weather"
    assert orjson.loads(call.function.arguments).keys() == {"city"}
    done = await client.chat.completions.create(
        model="demo",
        messages=[
            *ASKED,
            {"role": "assistant", "tool_calls": [call.to_dict()]},
            {"role": "tool", "tool_call_id": call.id, "content": "Rain."},
        ],
        tools=[WEATHER],
    )
    assert "The tool weather answered: Rain." in (done.choices[0].message.content or "")


async def test_structured_output_satisfies_its_schema(client: AsyncOpenAI) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}
    made = await client.chat.completions.create(model="demo", messages=ASKED, response_format=form)
    assert type(orjson.loads(made.choices[0].message.content or "")["age"]) is int


async def test_an_answer_that_was_cut_short_says_so(client: AsyncOpenAI) -> None:
    messages: Any = [{"role": "user", "content": "[words:200]"}]
    made = await client.chat.completions.create(model="demo", messages=messages, max_tokens=16)
    assert made.choices[0].finish_reason == "length"


async def test_a_failure_is_an_error(client: AsyncOpenAI) -> None:
    messages: Any = [{"role": "user", "content": "[fail]"}]
    with pytest.raises(APIStatusError) as caught:
        await client.with_options(max_retries=0).chat.completions.create(model="demo", messages=messages)
    assert "The demo model failed" in caught.value.message


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_the_same_text_has_the_same_embedding_of_length_one(encoding: str) -> None:
    body = orjson.dumps({"model": "demo", "input": ["a", "b", "a"], "encoding_format": encoding, "dimensions": 8})
    answered = await answer("POST", "/embeddings", body)
    told = orjson.loads(b"".join([chunk async for chunk in answered.chunks]))
    first, second, third = [each["embedding"] for each in told["data"]]
    assert first == third != second
    if encoding == "float":
        assert len(first) == 8
        assert sum(value * value for value in first) == pytest.approx(1)


async def test_the_sdk_reads_embeddings_of_tokens(client: AsyncOpenAI) -> None:
    made = await client.embeddings.create(model="demo", input=[1, 2, 3])
    assert [len(each.embedding) for each in made.data] == [64]
    assert made.usage.prompt_tokens > 0


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"tools": 5}, "tools"),
        ({"tools": [5]}, "tools[0]"),
        ({"response_format": {"type": "json_schema", "json_schema": 5}}, "response_format.json_schema"),
        ({"messages": [{"role": "assistant", "tool_calls": 5}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant", "tool_calls": ["a"]}]}, "messages[0].tool_calls[0]"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": "f"}]}]},
            "messages[0].tool_calls[0].function",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": 5}]}]}, None),
    ],
)
async def test_what_the_demo_cannot_read_is_the_clients_fault(members: dict[str, Any], param: str | None) -> None:
    body = orjson.dumps({"model": "demo", "messages": ASKED, **members})
    refused = await answer("POST", "/chat/completions", body)
    [told] = [chunk async for chunk in refused.chunks]
    assert refused.status == 400
    assert param is None or orjson.loads(told)["error"]["param"] == param


async def test_the_demo_makes_no_more_numbers_than_a_process_can_hold() -> None:
    for members in ({"input": ["x"] * 5000}, {"input": ["x"] * 100, "dimensions": 3072}):
        refused = await answer("POST", "/embeddings", orjson.dumps({"model": "demo", **members}))
        assert refused.status == 400
    made = await answer("POST", "/embeddings", orjson.dumps({"model": "demo", "input": ["x"] * 80, "dimensions": 3072}))
    assert made.status == 200
