"""What a chat completions server does wrong, and what it cannot be asked, over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from openai import APIStatusError, BadRequestError, RateLimitError

from app.storage.usage.tables import usage
from tests.fakes.chat_calls import WEATHER, chat_settings, streamed
from tests.fakes.chat_shapes import chunk
from tests.fakes.chat_upstream import DEEPSEEK, Dialect, FakeChat
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.ledger import rows
from tests.fakes.replies import Reply
from tests.fakes.streams import response
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live


@pytest.fixture
async def gateway(database_url: str, chat: FakeChat) -> AsyncIterator[LiveGateway]:
    async with running_gateway(database_url, [chat_settings(chat)]) as gateway:
        yield gateway


@pytest.fixture
async def sqlite_gateway(sqlite_url: str, chat: FakeChat) -> AsyncIterator[LiveGateway]:
    async with running_gateway(sqlite_url, [chat_settings(chat)]) as gateway:
        yield gateway


async def ledger(gateway: LiveGateway, count: int) -> list[dict[str, Any]]:
    """The entries of the calls, once there are so many."""
    async with asyncio.timeout(10):
        while len(entries := await asyncio.to_thread(rows, gateway.settings.storage.url, usage)) < count:
            await asyncio.sleep(0.05)
    return entries


async def test_a_stream_that_is_cut_off_fails_once_and_is_kept_as_failed(gateway: LiveGateway) -> None:
    """Rules 46 and 48."""
    async with gateway.client() as client:
        events = await streamed(client, input="Go [words:10] [cut]")
        kept = await client.responses.retrieve(events[-1].response.id)
    assert [event.type for event in events if event.type.endswith(("failed", "completed", "incomplete"))] == [
        "response.failed"
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert kept.status == "failed"
    assert kept.output_text.startswith("word0 word1")


_FAULTS: Any = {
    "down": {"error": {"message": "Provider down", "code": 503}},
    "limited": {"error": {"message": "Slow down", "code": 429}},
    "key": {"error": {"message": "Who are you?", "code": 401}},
    "nothing": {"choices": []},
    "deep": {
        "choices": [{"delta": {"content": [[[[{}]]]]}, "message": 1}],
        "x": orjson.Fragment(b"[" * 300 + b"]" * 300),
    },
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("said", _FAULTS.values(), ids=_FAULTS)
async def test_an_error_in_a_200_fails_over_before_the_first_byte(
    sqlite_url: str, chat: FakeChat, said: Any, stream: bool
) -> None:
    """Rule 46: the error of the first answer is nobody's, as another key answers."""
    frames = [b"data: " + orjson.dumps(said) + b"\n\n", b"data: [DONE]\n\n"]
    bad = [Reply.sse(frames) if stream else Reply.json(200, said)]
    chat.before = lambda _: bad.pop() if bad else None
    two = chat_settings(chat).model_copy(update={"keys": upstream_settings(chat.url, "sk-one-key", "sk-two-key").keys})
    async with running_gateway(sqlite_url, [two]) as gateway, gateway.client() as client:
        if stream:
            events = await streamed(client, input="Hello")
            assert events[-1].type == "response.completed"
        else:
            assert (await client.responses.create(model="m", input="Hello")).status == "completed"
    assert len(chat.server.requests) == 2


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_limit_in_a_200_is_a_429_and_rests_the_account(
    sqlite_gateway: LiveGateway, chat: FakeChat, stream: bool
) -> None:
    said, rest = _FAULTS["limited"], {"retry-after": "60"}
    frame = b"data: " + orjson.dumps(said) + b"\n\n"
    chat.before = lambda _: Reply.sse([frame], headers=rest) if stream else Reply.json(200, said, rest)
    async with sqlite_gateway.client() as client:
        for _ in range(2):
            with pytest.raises(RateLimitError) as limited:
                await client.responses.create(model="m", input="Hello", stream=stream)
            assert limited.value.code == "rate_limit_exceeded"
            assert 50 < int(limited.value.response.headers["retry-after"]) <= 60
    # The second call found the account at rest.
    assert len(chat.bodies) == 1


async def test_a_limit_amid_a_stream_is_one_that_clients_wait_for(sqlite_gateway: LiveGateway, chat: FakeChat) -> None:
    frames = [b"data: " + orjson.dumps(each) + b"\n\n" for each in (chunk({"content": "A"}), _FAULTS["limited"])]
    chat.before = lambda _: Reply.sse(frames)
    async with sqlite_gateway.client() as client:
        events = await streamed(client, input="Hello")
    assert events[-1].type == "response.failed"
    assert (events[-1].response.error.code, events[-1].response.error.message) == ("rate_limit_exceeded", "Slow down")


async def test_what_was_dropped_is_named_and_what_binds_is_refused_before_upstream_is_asked(
    sqlite_gateway: LiveGateway, chat: FakeChat
) -> None:
    """Rules 33 and 47."""
    async with sqlite_gateway.client() as client:
        raw = await client.responses.with_raw_response.create(
            model="m", input="Hello", text={"verbosity": "low"}, user="u", tools=[WEATHER, {"type": "web_search"}]
        )
        assert raw.headers["x-antiphon-dropped"] == "tools[1],text.verbosity,user"
        with pytest.raises(BadRequestError) as refused:
            await client.responses.create(model="m", input="Hello", tools=[{"type": "web_search"}])
        assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "tools[0].type")
        assert refused.value.response.headers["x-antiphon-error-source"] == "gateway"
        # The path counts among the caller's own items, whatever the chain has before them.
        shown: Any = [{"role": "user", "content": [{"type": "input_image", "file_id": "file_1"}]}]
        with pytest.raises(BadRequestError) as refused:
            await client.responses.create(model="m", input=shown, previous_response_id=raw.parse().id)
        assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "input[0].content[0].file_id")
        assert "'input[0].content[0].file_id'" in refused.value.message
    assert len(chat.bodies) == 1
    entries = await ledger(sqlite_gateway, 3)
    assert sorted((row["status"], row["attempts"], row["upstream"]) for row in entries) == [
        (200, 1, "chat"),
        (400, 0, None),
        (400, 0, None),
    ]


async def test_what_chat_cannot_say_goes_to_a_native_upstream_of_the_same_model(
    sqlite_url: str, chat: FakeChat, upstream: FakeUpstream
) -> None:
    native = upstream_settings(upstream.url, "sk-native-key", name="native")
    settings = [chat_settings(chat, models=("demo",)), native]
    async with running_gateway(sqlite_url, settings) as gateway, gateway.client() as client:
        made = await client.responses.create(model="demo", input="Search.", tools=[{"type": "web_search"}])
        assert made.status == "completed"
        assert chat.bodies == []
        # It was no fault of the chat upstream, which serves the next call.
        assert (await client.responses.create(model="demo", input="Hello")).output_text.startswith("You said")


@pytest.mark.parametrize("status", [400, 413, 422, 500])
async def test_an_upstreams_overflow_is_a_400_in_our_words_whatever_its_status(
    sqlite_gateway: LiveGateway, chat: FakeChat, status: int
) -> None:
    """Rule 3, and an overflow that Codex compacts on."""
    said = {"object": "error", "message": "This model's maximum context length is 8 tokens.", "param": "messages"}
    in_stream = Reply.sse([b'data: {"error":{"message":"prompt is too long","code":%d}}\n\n' % status])
    for reply in (Reply.json(status, said), Reply.json(200, {"error": {**said, "code": status}}), in_stream):
        chat.before = lambda _, reply=reply: reply
        async with sqlite_gateway.client() as client:
            with pytest.raises(APIStatusError) as refused:
                await client.responses.create(model="m", input="Hello", stream=True)
        assert refused.value.status_code == 400
        assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input")


async def test_a_native_upstream_cannot_say_that_something_was_dropped(sqlite_url: str, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.json(200, response("resp_1", "completed"), headers={"x-antiphon-dropped": "mine"}))
    native = upstream_settings(upstream.url, "sk-native-key", name="native")
    async with running_gateway(sqlite_url, [native]) as gateway, gateway.client() as client:
        raw = await client.responses.with_raw_response.create(model="demo", input="Hello", store=False)
    assert "x-antiphon-dropped" not in raw.headers


async def test_a_call_that_fails_over_to_a_native_upstream_leaves_the_seal_behind(
    sqlite_url: str, chat: FakeChat, upstream: FakeUpstream
) -> None:
    chat.dialect = DEEPSEEK
    native = upstream_settings(upstream.url, "sk-native-key", name="native")
    settings = [chat_settings(chat, models=("demo",)), native]
    async with running_gateway(sqlite_url, settings) as gateway, gateway.client() as client:
        made: Any = await client.responses.create(model="demo", input="[call weather]", tools=[WEATHER], store=False)
        kept = [{"role": "user", "content": "Hi"}, *[item.model_dump(exclude_none=True) for item in made.output]]
        kept += [{"type": "function_call_output", "call_id": made.output[1].call_id, "output": "sunny"}]
        chat.before = lambda _: Reply.error(500)
        for store in (False, True):
            made = await client.responses.create(model="demo", input=kept, tools=[WEATHER], store=store)
            assert made.status == "completed"
        await client.responses.create(model="demo", input="And?", previous_response_id=made.id)
    sent = [request.body for request in upstream.requests if request.method == "POST"]
    assert len(sent) == 3
    assert b"reasoning" not in b"".join(sent).replace(b"reasoning.encrypted_content", b"")


async def test_the_ledger_says_what_nobody_told_and_is_estimated(sqlite_gateway: LiveGateway, chat: FakeChat) -> None:
    """Rule 44: not as a call of nothing, and not as one that upstream counted."""
    async with sqlite_gateway.client() as client:
        for shape in ("none", "chunk"):
            chat.dialect = Dialect(usage=shape)
            await streamed(client, input="Hello")
    entries = await ledger(sqlite_gateway, 2)
    told = sorted((row["is_estimated"], row["output_tokens"]) for row in entries)
    assert told[0] == (False, 7)
    assert told[1][0]
    assert told[1][1] > 0
