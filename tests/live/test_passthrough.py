"""Chat completions as clients get them: upstream's bytes, its usage in the ledger, failover and capabilities."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from tests.fakes.chat_calls import chat_settings
from tests.fakes.chat_upstream import FakeChat
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.passthrough import COUNTED, MESSAGES, STREAM, USED, frames, ledger, posted, said
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live


@pytest.fixture
async def chatting(sqlite_url: str, chat: FakeChat) -> AsyncIterator[LiveGateway]:
    """A gateway in front of a server that speaks chat alone."""
    async with running_gateway(sqlite_url, [chat_settings(chat)]) as gateway:
        yield gateway


async def test_a_whole_completion_has_upstreams_bytes_and_its_usage_in_the_ledger(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    body = b'{"id": "chatcmpl-1",\n "model":"m-7", "choices":[{"message":{"content":"Hi"}}], "usage": ' + (
        orjson.dumps({**USED, "prompt_tokens_details": {"cached_tokens": 5}}) + b"}"
    )
    upstream.enqueue(Reply.body(200, body, {"x-request-id": "req_theirs"}))
    answer = await posted(gateway, "/chat/completions", model="m", messages=MESSAGES, temperature=0.25)
    assert answer.content == body
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-upstream-request-id"] == "req_theirs"
    sent = upstream.requests[0]
    assert (sent.path, sent.json) == (
        "/v1/chat/completions",
        {"model": "m", "messages": MESSAGES, "temperature": 0.25},
    )
    entry = (await ledger(gateway))[0]
    assert (entry["endpoint"], entry["model"], entry["model_served"], entry["status"]) == ("chat", "m", "m-7", 200)
    assert (entry["input_tokens"], entry["cached_tokens"], entry["output_tokens"]) == (9, 5, 4)
    assert (entry["is_stream"], entry["is_estimated"], entry["response_status"]) == (False, False, "completed")


async def test_a_stream_keeps_its_bytes_but_for_the_usage_that_the_client_did_not_ask_for(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    """Rule 45: clients index the choices of each chunk."""
    upstream.enqueue(Reply.sse(COUNTED))
    answer = await posted(sqlite_gateway, "/chat/completions", model="m", messages=MESSAGES, stream=True)
    assert answer.content == b"".join(STREAM)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert upstream.requests[0].json["stream_options"] == {"include_usage": True}
    entry = (await ledger(sqlite_gateway))[0]
    assert (entry["input_tokens"], entry["output_tokens"], entry["is_estimated"]) == (9, 4, False)
    assert (entry["is_stream"], entry["response_status"], entry["model_served"]) == (True, "completed", "m-7")


async def test_a_client_that_asks_for_the_usage_gets_it(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.sse([b"".join(COUNTED)]))
    options = {"include_usage": True, "include_obfuscation": False}
    answer = await posted(
        sqlite_gateway, "/chat/completions", model="m", messages=MESSAGES, stream=True, stream_options=options
    )
    assert answer.content == b"".join(COUNTED)
    assert upstream.requests[0].json["stream_options"] == options


async def test_a_usage_that_comes_with_the_end_of_the_answer_stays(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    ending = frames(said("Hi"), {**said("", "stop"), "usage": USED})
    upstream.enqueue(Reply.sse(ending))
    answer = await posted(sqlite_gateway, "/chat/completions", model="m", messages=MESSAGES, stream=True)
    assert answer.content == b"".join(ending)
    assert (await ledger(sqlite_gateway))[0]["output_tokens"] == 4


async def test_a_stream_without_usage_is_estimated(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.sse(frames(said("x" * 400), said("", "stop"))))
    await posted(sqlite_gateway, "/chat/completions", model="m", messages=MESSAGES, stream=True)
    entry = (await ledger(sqlite_gateway))[0]
    assert (entry["output_tokens"], entry["is_estimated"]) == (100, True)
    assert entry["input_tokens"] > 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_key_with_a_fault_is_followed_by_another_before_the_first_byte(
    sqlite_url: str, upstream: FakeUpstream, stream: bool
) -> None:
    good = Reply.sse(STREAM) if stream else Reply.json(200, {"id": "chatcmpl-1", "choices": []})
    upstream.enqueue(Reply.error(429, "rate_limit_exceeded", {"retry-after": "30"}), good)
    keys = upstream_settings(upstream.url, "sk-one", "sk-two")
    async with running_gateway(sqlite_url, [keys]) as gateway:
        answer = await posted(gateway, "/chat/completions", model="m", messages=MESSAGES, stream=stream)
        assert answer.status_code == 200
        assert (await ledger(gateway))[0]["attempts"] == 2
    assert len({request.headers["authorization"] for request in upstream.requests}) == 2


async def test_upstreams_refusal_reaches_the_client_as_it_is(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply.error(400, "invalid_value", message="Invalid value for 'temperature'."))
    answer = await posted(sqlite_gateway, "/chat/completions", model="m", messages=MESSAGES, temperature=9)
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "Invalid value for 'temperature'.")


async def test_nothing_is_left_in_an_account_that_others_share(sqlite_url: str, upstream: FakeUpstream) -> None:
    good = Reply.json(200, {"id": "chatcmpl-1", "choices": []})
    upstream.enqueue(good, good)
    kept: dict[str, Any] = {"store": True, "metadata": {"a": "b"}}
    async with running_gateway(sqlite_url, [upstream_settings(upstream.url)]) as gateway:
        await posted(gateway, "/chat/completions", model="m", messages=MESSAGES, **kept)
    keeping = upstream_settings(upstream.url, state="upstream")
    async with running_gateway(sqlite_url, [keeping], keys_of=gateway) as gateway:
        await posted(gateway, "/chat/completions", model="m", messages=MESSAGES, **kept)
    first, second = [request.json for request in upstream.requests]
    assert first == {"model": "m", "messages": MESSAGES}
    assert second == {"model": "m", "messages": MESSAGES, **kept}


async def test_a_server_that_speaks_chat_alone_is_asked_as_the_client_asks(
    chatting: LiveGateway, chat: FakeChat
) -> None:
    async with chatting.client() as client:
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        whole = await client.chat.completions.create(model="m", messages=MESSAGES)
    assert text == whole.choices[0].message.content == "word0 word1 word2 word3 word4"
    assert [body["messages"] for body in chat.bodies] == [MESSAGES, MESSAGES]
    assert [entry["output_tokens"] for entry in await ledger(chatting, 2)] == [7, 7]


async def test_an_alias_and_what_an_upstream_does_not_know_are_its_own(sqlite_url: str, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.json(200, {"id": "chatcmpl-1", "choices": []}))
    settings = upstream_settings(upstream.url, aliases={"m": "theirs/m"}, strip=["user"])
    async with running_gateway(sqlite_url, [settings]) as gateway:
        await posted(gateway, "/chat/completions", model="m", messages=MESSAGES, user="u")
    assert upstream.requests[0].json == {"model": "theirs/m", "messages": MESSAGES}


async def test_an_upstream_is_asked_for_the_surfaces_that_it_serves(sqlite_url: str, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.json(200, {"id": "chatcmpl-1", "choices": []}))
    without = upstream_settings("http://127.0.0.1:9/v1", name="first", serves=["responses"])
    settings = [without, upstream_settings(upstream.url, name="second")]
    async with running_gateway(sqlite_url, settings) as gateway:
        answer = await posted(gateway, "/chat/completions", model="m", messages=MESSAGES)
        assert answer.status_code == 200
        assert (await ledger(gateway))[0]["attempts"] == 1
    async with running_gateway(sqlite_url, [without], keys_of=gateway) as gateway:
        answer = await posted(gateway, "/chat/completions", model="m", messages=MESSAGES)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "model_not_found")
