from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import openai
import orjson
import pytest
from pydantic import BaseModel

from app.demo.endpoint import answer

Stream = Callable[..., Awaitable[list[dict[str, Any]]]]

FUNCTION = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
    "strict": True,
}
EVERYTHING: list[dict[str, Any]] = [
    {"input": "Hello there"},
    {"input": "weather in Tokyo", "tools": [FUNCTION]},
    {"input": "shout it", "tools": [{"type": "custom", "name": "shout"}], "reasoning": {"effort": "low"}},
    {"input": "Look", "tools": [{"type": "web_search"}], "reasoning": {"summary": "auto"}},
    {"input": "Look", "tools": [{"type": "file_search", "vector_store_ids": ["vs"]}]},
    {"input": "Look", "tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]},
    {"input": "[words:9] [incomplete]"},
    {"input": "[words:9] [fail]", "reasoning": {"effort": "low"}},
]
NAMES = ["text", "function", "custom", "web", "file", "code", "incomplete", "failed"]


async def _play(request: httpx2.Request) -> httpx2.Response:
    got = await answer(request.method, request.url.path.removeprefix("/v1"), await request.aread())

    class Chunks(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for chunk in got.chunks:
                yield chunk

    return httpx2.Response(got.status, headers={"content-type": got.content_type}, stream=Chunks())


@pytest.fixture
async def client() -> AsyncIterator[openai.AsyncOpenAI]:
    transport = httpx2.MockTransport(_play)
    async with (
        httpx2.AsyncClient(transport=transport) as http,
        openai.AsyncOpenAI(base_url="http://demo/v1", api_key="none", http_client=http, max_retries=0) as made,
    ):
        yield made


def _types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


async def test_a_message_is_streamed_in_the_order_of_the_page(stream: Stream) -> None:
    events = await stream("[words:2]")
    assert _types(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    for event in events[:2]:
        response = event["response"]
        assert (response["status"], response["output"], response["usage"]) == ("in_progress", [], None)
        assert "output_text" not in response
    assert (events[2]["item"]["status"], events[2]["item"]["content"]) == ("in_progress", [])
    assert [event["delta"] for event in events[4:6]] == ["w1 ", "w2"]
    assert [event["logprobs"] for event in events[4:7]] == [[], [], []]


@pytest.mark.parametrize("parameters", EVERYTHING, ids=NAMES)
async def test_the_last_event_agrees_with_everything_before_it(parameters: dict[str, Any], stream: Stream) -> None:
    given = dict(parameters)
    events = await stream(given.pop("input"), **given)
    final = events[-1]["response"]
    assert events[-1]["type"] == f"response.{final['status']}"
    added = {event["output_index"]: event["item"] for event in events if event["type"].endswith("item.added")}
    done = {event["output_index"]: event["item"] for event in events if event["type"].endswith("item.done")}
    assert [done[index] for index in range(len(done))] == final["output"]
    identity = ("id", "type", "call_id")
    assert [[item.get(key) for key in identity] for item in added.values()] == [
        [item.get(key) for key in identity] for item in final["output"]
    ]
    for event in events:
        if "item_id" in event:
            assert event["item_id"] == final["output"][event["output_index"]]["id"]
    assert {event["response"]["id"] for event in events if "response" in event} == {final["id"]}
    deltas = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert deltas == final["output_text"]


async def test_function_arguments_are_streamed_with_the_name_at_the_end(stream: Stream) -> None:
    events = await stream("weather in Tokyo", tools=[FUNCTION])
    item = events[-1]["response"]["output"][0]
    assert events[2]["item"]["arguments"] == ""
    assert _types(events)[3:-2] == ["function_call_arguments.delta", "function_call_arguments.done"]
    done = events[-3]
    assert (done["arguments"], done["name"]) == (item["arguments"], "get_weather")


async def test_custom_input_is_streamed(stream: Stream) -> None:
    events = await stream("shout it", tools=[{"type": "custom", "name": "shout"}])
    assert _types(events)[3:-2] == [*["custom_tool_call_input.delta"] * 2, "custom_tool_call_input.done"]
    assert events[-3]["input"] == "shout it"


async def test_a_reasoning_summary_is_streamed_and_its_proof_comes_when_it_is_done(stream: Stream) -> None:
    events = await stream("Hello", reasoning={"summary": "auto"})
    inside = [event for event in events if event.get("output_index") == 0]
    kinds = list(dict.fromkeys(_types(inside)))
    assert kinds == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
    ]
    assert (inside[0]["item"]["summary"], inside[0]["item"]["encrypted_content"]) == ([], "")
    assert inside[-1]["item"]["encrypted_content"].startswith("demo-enc:")


@pytest.mark.parametrize(
    ("tool", "stages"),
    [
        ({"type": "web_search"}, ["in_progress", "searching", "completed"]),
        ({"type": "file_search", "vector_store_ids": ["vs"]}, ["in_progress", "searching", "completed"]),
        ({"type": "code_interpreter", "container": "cntr_1"}, ["in_progress", "interpreting", "completed"]),
    ],
)
async def test_a_built_in_tool_shows_its_stages(tool: dict[str, Any], stages: list[str], stream: Stream) -> None:
    events = await stream("Look", tools=[tool])
    call = events[2]["item"]["type"]
    assert [kind for kind in _types(events) if kind.startswith(f"{call}.")] == [f"{call}.{stage}" for stage in stages]


async def test_deltas_are_obfuscated_unless_it_is_declined(stream: Stream) -> None:
    events = await stream("[words:12]")
    for event in events:
        assert ("obfuscation" in event) == ("delta" in event)
        if "delta" in event:
            assert len(event["delta"] + event["obfuscation"]) == 16
    plain = await stream("[words:12]", stream_options={"include_obfuscation": False})
    assert not [event for event in plain if "obfuscation" in event]


async def test_each_delta_carries_its_log_probability(stream: Stream) -> None:
    events = await stream("[words:2]", include=["message.output_text.logprobs"])
    tokens = [[entry["token"] for entry in event["logprobs"]] for event in events if "logprobs" in event]
    assert tokens == [["w1 "], ["w2"], ["w1 ", "w2"]]


async def test_a_slow_answer_is_the_same_answer(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("asyncio.sleep", sleep)
    assert (await stream("[words:3] [slow]"))[-1]["response"]["output_text"] == "w1 w2 w3"
    await stream("[words:1] [slow:200]")
    await stream("[words:1] [slow:90000]")
    assert pauses == [0.05] * 3 + [0.2, 5.0]


@pytest.mark.parametrize("parameters", EVERYTHING, ids=NAMES)
async def test_the_sdk_accumulates_every_stream(parameters: dict[str, Any], client: openai.AsyncOpenAI) -> None:
    async with client.responses.stream(model="demo", store=False, **parameters) as streamed:
        events = [event async for event in streamed]
    assert events[-1].type in {"response.completed", "response.incomplete", "response.failed"}
    if events[-1].type == "response.completed":
        final = await streamed.get_final_response()
        assert final.output
        assert final.usage


async def test_the_sdk_parses_a_structured_answer(client: openai.AsyncOpenAI) -> None:
    class Language(BaseModel):
        name: str
        year: int

    class Languages(BaseModel):
        languages: list[Language]

    got = await client.responses.parse(model="demo", store=False, input="List 3 languages", text_format=Languages)
    assert got.output_parsed == Languages(languages=[Language(name="demo", year=1)])


async def test_the_sdk_reads_errors_and_models(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["demo"]
    with pytest.raises(openai.BadRequestError, match="The requested model 'other' does not exist") as caught:
        await client.responses.create(model="other", input="Hello")
    assert caught.value.code == "model_not_found"


async def test_a_stream_is_refused_before_it_begins() -> None:
    got = await answer("POST", "/responses", orjson.dumps({"model": "demo", "input": "x", "stream": True}))
    assert (got.status, got.content_type) == (400, "application/json")
