"""What the SDK builds on top of the calls: stream and parse helpers, raw answers, error classes, the list of models."""

import asyncio
from typing import Any

import pytest
from openai import AuthenticationError, BadRequestError, NotFoundError, OpenAI
from openai.lib.streaming.responses import ResponseTextDeltaEvent
from pydantic import BaseModel

from tests.fakes.gateway import LiveGateway
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live


class Language(BaseModel):
    name: str
    year: int


class Languages(BaseModel):
    languages: list[Language]


async def test_the_stream_helper_gathers_the_text(sqlite_gateway: LiveGateway) -> None:
    async with sqlite_gateway.client() as client:
        async with client.responses.stream(model="demo", input="Tell me about Utrecht.") as stream:
            events = [event async for event in stream]
            final = await stream.get_final_response()
        deltas = [event for event in events if isinstance(event, ResponseTextDeltaEvent)]
        assert len(deltas) > 1
        assert deltas[-1].snapshot == final.output_text == "".join(event.delta for event in deltas)
        assert events[-1].type == "response.completed"
        assert (await client.responses.retrieve(final.id)).output_text == final.output_text


async def test_the_stream_helper_gathers_calls_and_thoughts(sqlite_gateway: LiveGateway) -> None:
    # Its accumulator raises where an id, an index or the order of the events does not fit.
    tool: Any = {"type": "function", "name": "get_weather", "parameters": {"properties": {"city": {}}}, "strict": False}
    asked: dict[str, Any] = {"model": "demo", "input": "The weather in Utrecht?", "tools": [tool]}
    async with (
        sqlite_gateway.client() as client,
        client.responses.stream(**asked, reasoning={"effort": "low", "summary": "auto"}) as stream,
    ):
        final = await stream.get_final_response()
    assert [item.type for item in final.output] == ["reasoning", "function_call"]


async def test_the_stream_helper_parses_into_a_model(sqlite_gateway: LiveGateway) -> None:
    async with (
        sqlite_gateway.client() as client,
        client.responses.stream(model="demo", input="List languages.", text_format=Languages) as stream,
    ):
        final = await stream.get_final_response()
    assert isinstance(final.output_parsed, Languages)
    assert final.output_parsed == Languages.model_validate_json(final.output_text)
    assert final.output_parsed.languages


@pytest.mark.parametrize("text_format", [None, Languages])
async def test_the_blocking_stream_helper_does_the_same(
    text_format: type[BaseModel] | None, sqlite_gateway: LiveGateway
) -> None:
    asked: dict[str, Any] = {"model": "demo", "input": "List languages."}
    if text_format is not None:
        asked["text_format"] = text_format

    def run() -> tuple[str, str, object]:
        with (
            OpenAI(base_url=sqlite_gateway.base_url, api_key=sqlite_gateway.key, max_retries=0) as client,
            client.responses.stream(**asked) as stream,
        ):
            text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
            final = stream.get_final_response()
            return text, final.output_text, final.output_parsed

    text, whole, parsed = await asyncio.to_thread(run)
    assert text == whole != ""
    assert parsed == (Languages.model_validate_json(whole) if text_format else None)


async def test_a_streamed_turn_is_continued_by_the_helper(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    async with sqlite_gateway.client() as client:
        async with client.responses.stream(model="demo", input="My city is Utrecht.") as stream:
            first = await stream.get_final_response()
        async with client.responses.stream(
            model="demo", input="What is my city?", previous_response_id=first.id
        ) as stream:
            second = await stream.get_final_response()
    assert second.output_text == "Your city is Utrecht."


async def test_parse_returns_a_model(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    async with sqlite_gateway.client() as client:
        response = await client.responses.parse(model="demo", input="List languages.", text_format=Languages)
    assert response.output_parsed == Languages.model_validate_json(response.output_text)
    text = upstream.requests[0].json["text"]
    assert isinstance(text, dict)
    assert (text["format"]["type"], text["format"]["strict"]) == ("json_schema", True)


async def test_every_answer_names_its_request(sqlite_gateway: LiveGateway) -> None:
    async with sqlite_gateway.client() as client:
        raw = await client.responses.with_raw_response.create(model="demo", input="Hi.")
        assert raw.status_code == 200
        response = raw.parse()
        assert raw.headers["x-request-id"].startswith("req_")
        assert response._request_id == raw.request_id == raw.headers["x-request-id"]
        again = await client.responses.retrieve(response.id)
        assert again._request_id is not None
        assert again._request_id != response._request_id
        async with client.responses.with_streaming_response.create(model="demo", input="Hi.", stream=True) as streamed:
            assert streamed.headers["content-type"].startswith("text/event-stream")
            assert str(streamed.headers["x-request-id"]).startswith("req_")
        with pytest.raises(NotFoundError) as missing:
            await client.responses.retrieve("resp_nobody")
        assert str(missing.value.request_id).startswith("req_")


async def test_errors_are_the_classes_of_the_sdk(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    async with sqlite_gateway.client("sk-wrong") as stranger:
        with pytest.raises(AuthenticationError) as unknown:
            await stranger.responses.create(model="demo", input="Hi.")
        assert (unknown.value.status_code, unknown.value.code) == (401, "invalid_api_key")
        assert "sk-wrong" not in unknown.value.message
    async with sqlite_gateway.client() as client:
        with pytest.raises(NotFoundError) as missing:
            await client.responses.retrieve("resp_nobody")
        assert missing.value.type == "invalid_request_error"
        assert "Response with id 'resp_nobody' not found." in missing.value.message
        with pytest.raises(BadRequestError) as hot:
            await client.responses.create(model="demo", input="Hi.", temperature=3)
        assert (hot.value.param, hot.value.code) == ("temperature", "decimal_above_max_value")
        with pytest.raises(BadRequestError) as chained:
            await client.responses.create(model="demo", input="Hi.", previous_response_id="resp_nobody")
        assert (chained.value.param, chained.value.code) == ("previous_response_id", "previous_response_not_found")
        # A stream that cannot begin is an error of the call, and no stream.
        with pytest.raises(BadRequestError):
            await client.responses.create(model="demo", input="Hi.", previous_response_id="resp_nobody", stream=True)
    assert upstream.requests == []


async def test_models_are_listed_and_retrieved(sqlite_gateway: LiveGateway) -> None:
    async with sqlite_gateway.client() as client:
        models = [model async for model in client.models.list()]
        assert [(model.id, model.object) for model in models] == [("demo", "model")]
        assert await client.models.retrieve("demo") == models[0]
        with pytest.raises(NotFoundError) as missing:
            await client.models.retrieve("org/no-such-model")
        assert missing.value.code == "model_not_found"
