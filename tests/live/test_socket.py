"""WebSocket mode, with the SDKs that speak it: turns, chains and lanes on one connection."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from agents import Agent, Runner, function_tool, set_tracing_disabled
from agents.models.openai_responses import OpenAIResponsesWSModel
from openai import OpenAI

from app.ids import new_id
from tests.fakes.gateway import LiveGateway
from tests.fakes.replies import Act, Reply
from tests.fakes.socket_client import SocketClient
from tests.fakes.streams import frame, response, story
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]


@pytest.fixture
async def client(sqlite_gateway: LiveGateway) -> AsyncIterator[SocketClient]:
    async with SocketClient.to(sqlite_gateway) as client:
        yield client


def said(upstream: FakeUpstream, number: int) -> list[str]:
    """What upstream was sent as input, in short."""
    sent = upstream.requests[number].json["input"]
    if isinstance(sent, str):
        return [sent]
    assert isinstance(sent, list)
    return [item["content"] if isinstance(item["content"], str) else item["content"][0]["text"] for item in sent]


async def test_the_sdk_streams_stored_turns_over_one_connection(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    async with gateway.client() as sdk:
        async with sdk.responses.connect() as connection:
            previous: Any = None
            for text in ("One.", "Two."):
                options = {"previous_response_id": previous} if previous else {}
                await connection.response.create(model="demo", input=text, **options)
                async for event in connection:
                    if event.type == "response.completed":
                        previous = event.response.id
                        break
        kept = await sdk.responses.retrieve(previous)
        assert kept.previous_response_id is not None
        assert kept.output_text == 'Demo answer to "Two." (turn 2).'
        # The chain goes on over HTTP.
        third = await sdk.responses.create(model="demo", input="Three.", previous_response_id=previous)
        assert third.output_text == 'Demo answer to "Three." (turn 3).'
    assert [request.json["store"] for request in upstream.requests] == [False, False, False]
    assert [request.json["stream"] for request in upstream.requests[:2]] == [True, True]


async def test_the_synchronous_sdk_does_too(sqlite_gateway: LiveGateway) -> None:
    def run() -> str:
        with (
            OpenAI(base_url=sqlite_gateway.base_url, api_key=sqlite_gateway.key) as sdk,
            sdk.responses.connect() as connection,
        ):
            connection.response.create(model="demo", input="Hello.", store=False)
            for event in connection:
                if event.type == "response.completed":
                    return event.response.output_text
        raise AssertionError("no answer")

    assert await asyncio.to_thread(run) == 'Demo answer to "Hello." (turn 1).'


@pytest.fixture
def no_tracing() -> Iterator[None]:
    set_tracing_disabled(True)
    yield
    set_tracing_disabled(False)


async def test_an_agent_calls_its_tool_over_a_websocket(sqlite_gateway: LiveGateway, no_tracing: None) -> None:
    asked = []

    @function_tool
    def get_weather(city: str) -> str:
        """Tell the weather in a city."""
        asked.append(city)
        return "22 degrees"

    async with sqlite_gateway.client() as sdk:
        model = OpenAIResponsesWSModel(model="demo", openai_client=sdk)
        agent = Agent(name="Forecaster", instructions="Use the tool.", model=model, tools=[get_weather])
        result = await Runner.run(agent, "What is the weather in Utrecht?", auto_previous_response_id=True)
        await model.close()
    assert result.final_output == "The tool get_weather answered: 22 degrees"
    assert asked == ["Utrecht"]


async def test_a_message_is_the_data_of_an_event_byte_for_byte(client: SocketClient, upstream: FakeUpstream) -> None:
    frames = story(new_id("resp"), "\u2028 é \U0001f600")
    upstream.enqueue(Reply.sse([b": hello\n\n", *frames, b"data: [DONE]\n\n"]))
    await client.create()
    await client.rest()
    assert client.texts == [each.split(b"data: ")[1].removesuffix(b"\n\n") for each in frames]
    # Nothing follows the last event.
    await client.turn()
    assert client.texts[len(frames)].startswith(b'{"type":"response.created"')


async def test_events_that_arrive_in_pieces_are_whole_messages(client: SocketClient, upstream: FakeUpstream) -> None:
    body = b"".join(story(new_id("resp"))).replace(b"\n", b"\r\n")
    upstream.enqueue(Reply.sse([body[start : start + 7] for start in range(0, len(body), 7)]))
    await client.create()
    assert [event["sequence_number"] for event in await client.rest()] == [0, 1, 2, 3, 4, 5]


async def test_a_chain_that_is_not_stored_goes_on_as_long_as_its_connection(
    client: SocketClient, sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    previous: Any = None
    for number, text in enumerate(("One.", "Two.", "Three.")):
        answer = await client.respond(input=text, store=False, previous_response_id=previous)
        assert answer["output"][0]["content"][0]["text"] == f'Demo answer to "{text}" (turn {number + 1}).'
        previous = answer["id"]
    assert said(upstream, 2)[::2] == ["One.", "Two.", "Three."]
    assert "previous_response_id" not in upstream.requests[2].json
    async with sqlite_gateway.client() as sdk, SocketClient.to(sqlite_gateway) as other:
        failed = await other.turn(previous_response_id=previous)
        assert (failed["status"], failed["error"]["code"]) == (400, "previous_response_not_found")
        with pytest.raises(Exception, match="not found"):
            await sdk.responses.retrieve(previous)


async def test_only_the_latest_response_of_a_lane_is_remembered(client: SocketClient) -> None:
    first = await client.respond(store=False)
    await client.respond(store=False, previous_response_id=first["id"])
    failed = await client.turn(store=False, previous_response_id=first["id"])
    assert failed["error"]["code"] == "previous_response_not_found"


async def test_a_turn_that_is_stored_after_some_that_are_not_holds_their_history(
    client: SocketClient, sqlite_gateway: LiveGateway
) -> None:
    first = await client.respond(input="One.")
    second = await client.respond(input="Two.", store=False, previous_response_id=first["id"])
    third = await client.respond(input="Three.", previous_response_id=second["id"])
    async with sqlite_gateway.client() as sdk:
        items = (await sdk.responses.input_items.list(third["id"], order="asc")).data
        assert [item.to_dict()["content"][0]["text"] for item in items] == [  # type: ignore[index] # plain JSON
            "One.",
            'Demo answer to "One." (turn 1).',
            "Two.",
            'Demo answer to "Two." (turn 2).',
            "Three.",
        ]
        # Deleting what it hangs on is felt; of what was never stored there is nothing else to delete.
        fourth = await sdk.responses.create(model="demo", input="Four.", previous_response_id=third["id"])
        assert fourth.output_text == 'Demo answer to "Four." (turn 4).'
        await sdk.responses.delete(first["id"])
    failed = await client.turn(previous_response_id=third["id"])
    assert failed["error"]["code"] == "previous_response_not_found"


async def test_a_failing_turn_makes_its_lane_forget_what_it_continued(
    client: SocketClient, upstream: FakeUpstream
) -> None:
    first = await client.respond(store=False)
    upstream.enqueue(Reply.error(400, "invalid_prompt"))
    failed = await client.turn(store=False, previous_response_id=first["id"])
    assert (failed["status"], failed["error"]["code"]) == (400, "invalid_prompt")
    failed = await client.turn(store=False, previous_response_id=first["id"])
    assert failed["error"]["code"] == "previous_response_not_found"


async def test_a_response_that_fails_is_not_continued(client: SocketClient, upstream: FakeUpstream) -> None:
    first = await client.respond(store=False)
    begun, *_ = story(new_id("resp"))
    upstream.enqueue(Reply.sse([begun], then=Act.CLOSE))
    failed = await client.turn(store=False, previous_response_id=first["id"])
    assert failed["type"] == "response.failed"
    for response_id in (first["id"], failed["response"]["id"]):
        failed = await client.turn(store=False, previous_response_id=response_id)
        assert failed["error"]["code"] == "previous_response_not_found"


async def test_a_lane_forks_from_another_and_its_failure_leaves_the_other_alone(
    client: SocketClient, upstream: FakeUpstream
) -> None:
    first = await client.respond(input="One.", store=False, stream_id="a")
    fork = {"store": False, "previous_response_id": first["id"]}
    upstream.enqueue(Reply.error(400, "invalid_prompt"))
    failed = await client.turn(**fork, stream_id="b")
    assert (failed["stream_id"], failed["status"]) == ("b", 400)
    await client.respond(**fork, input="Two b.", stream_id="b")
    await client.respond(**fork, input="Two a.", stream_id="a")
    assert [said(upstream, number)[::2] for number in (2, 3)] == [["One.", "Two b."], ["One.", "Two a."]]


async def test_lanes_run_at_once_and_a_lanes_own_turns_one_after_the_other(
    client: SocketClient, upstream: FakeUpstream
) -> None:
    go = asyncio.Event()

    async def reply(request: Recorded) -> Reply:
        if request.json["input"] == "slow":
            await go.wait()
        return Reply.sse(story(new_id("resp"), f"Re: {request.json['input']}"))

    upstream.respond = reply
    await client.create(input="slow", stream_id="a.1")
    await client.create(input="next", stream_id="a.1")
    await client.create(input="quick", stream_id="b-2")
    events = await client.rest()
    assert {event["stream_id"] for event in events} == {"b-2"}
    assert [request.json["input"] for request in upstream.requests] == ["slow", "quick"]
    assert "stream_id" not in upstream.requests[0].json
    go.set()
    for text in ("slow", "next"):
        events = await client.rest()
        assert {event["stream_id"] for event in events} == {"a.1"}
        assert events[-1]["response"]["output"][0]["content"][0]["text"] == f"Re: {text}"


@pytest.mark.parametrize("asked", [{"generate": False}, {"prompt_cache_options": {"prewarm": True}}])
@pytest.mark.parametrize("given", [[], "Be ready."])
async def test_a_warm_up_is_answered_without_upstream_and_continued(
    asked: dict[str, Any], given: Any, client: SocketClient, upstream: FakeUpstream
) -> None:
    await client.create(input=given, store=False, **asked)
    events = await client.rest()
    assert [event["type"] for event in events] == ["response.created", "response.in_progress", "response.completed"]
    assert [event["sequence_number"] for event in events] == [0, 1, 2]
    warm = events[-1]["response"]
    assert (warm["status"], warm["output"], warm["store"]) == ("completed", [], False)
    assert not upstream.requests
    await client.respond(input="Go.", store=False, previous_response_id=warm["id"])
    assert said(upstream, 0) == [*([given] if given else []), "Go."]
    assert "generate" not in upstream.requests[0].json


async def test_a_warm_up_is_stored_like_any_other_response(client: SocketClient, sqlite_gateway: LiveGateway) -> None:
    warm = await client.respond(input="Be ready.", generate=False)
    async with sqlite_gateway.client() as sdk:
        assert (await sdk.responses.retrieve(warm["id"])).output == []
        answer = await sdk.responses.create(model="demo", input="Go.", previous_response_id=warm["id"])
        assert answer.output_text == 'Demo answer to "Go." (turn 2).'


async def test_a_receipt_is_answered_by_nothing(client: SocketClient) -> None:
    first = await client.respond(input="One.")
    await client.send({"type": "response.processed", "response_id": first["id"]})
    events = await client.turn_events(input="Two.", previous_response_id=first["id"])
    assert (events[0]["type"], events[-1]["type"]) == ("response.created", "response.completed")


async def test_an_upstream_that_does_not_stream_is_one_event(client: SocketClient, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.json(200, response("resp_1", "incomplete")))
    last = await client.turn(stream_id="a")
    assert (last["type"], last["stream_id"], last["response"]["id"]) == ("response.incomplete", "a", "resp_1")


async def test_an_error_in_the_stream_is_nested(client: SocketClient, upstream: FakeUpstream) -> None:
    begun, added, *_ = story(new_id("resp"))
    error = frame("error", 2, code="server_error", message="No.", param=None)
    upstream.enqueue(Reply.sse([begun, added, error]))
    assert await client.turn() == {
        "type": "error",
        "sequence_number": 2,
        "status": 500,
        "error": {"type": "server_error", "code": "server_error", "message": "No.", "param": None},
    }
    await client.respond()
