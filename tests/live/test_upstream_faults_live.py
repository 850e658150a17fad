"""What an upstream may do wrong, seen by the gateway's client: one clear error, nothing untrue kept, and on it goes."""

import gzip
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.ports import free_port
from tests.fakes.raw_http import Answer, RawClient
from tests.fakes.replies import Act, Reply
from tests.fakes.streams import events, frame, item, response, story
from tests.fakes.upstream import FakeUpstream

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

KEY = "sk-upstream-canary"
MOST = 20_000
ROOM = {"max_event_bytes": MOST, "max_answer_bytes": MOST}


def completed(response_id: str, text: str = "Hello.") -> dict[str, Any]:
    return response(response_id, "completed", [item(text)])


GOOD = completed("resp_good")
GOOD_BODY = orjson.dumps(GOOD)
LARGE = completed("resp_large", "x" * MOST)
EVENTS = story("resp_good")


@pytest.fixture
async def limited(sqlite_url: str, upstream: FakeUpstream) -> AsyncIterator[LiveGateway]:
    """A gateway with little room."""
    async with running_gateway(sqlite_url, [upstream_settings(upstream.url, KEY)], relay=ROOM) as gateway:
        yield gateway


@pytest.fixture
async def impatient(sqlite_url: str, upstream: FakeUpstream) -> AsyncIterator[LiveGateway]:
    """A gateway with little patience. On a busy machine a good answer may come too late for it."""
    relay = {"first_byte_timeout_seconds": 0.3}
    async with running_gateway(sqlite_url, [upstream_settings(upstream.url, KEY)], relay=relay) as gateway:
        yield gateway


async def create(gateway: LiveGateway, key: str | None = None, **members: Any) -> Answer:
    body = orjson.dumps({"model": "demo", "input": "Hello.", **members})
    async with RawClient.to(gateway.url) as client:
        return await client.ask("POST", "/v1/responses", gateway.headers(key), body)


async def read(gateway: LiveGateway, response_id: str) -> Answer:
    async with RawClient.to(gateway.url) as client:
        return await client.ask("GET", f"/v1/responses/{response_id}", gateway.headers())


async def kept(gateway: LiveGateway) -> dict[str, str]:
    """The ids and states of all that is stored."""
    every = text("SELECT id, status FROM responses")
    rows = await gateway.database.read(lambda connection: connection.execute(every).all())
    return {row.id: row.status for row in rows}


def error_of(answer: Answer) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/json"
    error: dict[str, Any] = answer.json["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


def failures(answer: Answer) -> list[dict[str, Any]]:
    """The responses of the stream's `response.failed` events."""
    assert answer.status == 200
    return [
        orjson.loads(part.partition(b"data: ")[2])["response"]
        for part in answer.body.split(b"\n\n")
        if b"event: response.failed" in part
    ]


@dataclass(frozen=True)
class Fault:
    """An answer to a call, streamed or not, and the error that comes of it before the first byte."""

    reply: Reply
    status: int
    code: str | None


BEFORE_THE_FIRST_BYTE = {
    "a head and no body": Fault(Reply.raw(Reply.head(200, {"content-length": "9"}), b""), 502, "upstream_disconnected"),
    "an empty stream": Fault(Reply.sse([]), 502, "upstream_disconnected"),
    "no HTTP": Fault(Reply.raw(b"220 smtp ready\r\n"), 502, "upstream_invalid_answer"),
    "headers without end": Fault(Reply.huge_header(100_000), 502, "upstream_invalid_answer"),
    "a bad chunk size": Fault(
        Reply.raw(Reply.head(200, {"transfer-encoding": "chunked"}) + b"zz\r\n"), 502, "upstream_invalid_answer"
    ),
    "a page of HTML, status 500": Fault(Reply.html(500), 502, "upstream_error"),
    "a page of HTML, status 200": Fault(Reply.html(200), 502, "upstream_invalid_answer"),
    "an error in OpenAI's shape": Fault(Reply.error(500, "server_error"), 500, "server_error"),
    "overload": Fault(Reply.error(503, "server_is_overloaded"), 503, "server_is_overloaded"),
    "half a JSON answer": Fault(Reply.truncated(GOOD_BODY[:200]), 502, "upstream_disconnected"),
    "JSON that ends early": Fault(Reply.body(200, GOOD_BODY[:-1]), 502, "upstream_invalid_answer"),
    "JSON that is no response": Fault(Reply.json(200, {"object": "chat.completion"}), 502, "upstream_invalid_answer"),
    "a response without an id": Fault(Reply.json(200, {**GOOD, "id": None}), 502, "upstream_invalid_answer"),
    "a response with bad items": Fault(Reply.json(200, {**GOOD, "output": [1]}), 502, "upstream_invalid_answer"),
    "gzipped JSON": Fault(
        Reply.body(200, gzip.compress(GOOD_BODY), {"content-encoding": "gzip"}), 502, "upstream_invalid_answer"
    ),
    "an answer past the limit": Fault(Reply.json(200, LARGE), 502, "upstream_too_large"),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_fault_before_the_first_byte_is_one_clear_error(
    limited: LiveGateway, upstream: FakeUpstream, stream: bool
) -> None:
    told, right = {}, {}
    for name, fault in BEFORE_THE_FIRST_BYTE.items():
        upstream.enqueue(fault.reply)
        answer = await create(limited, stream=stream)
        told[name] = (answer.status, error_of(answer)["code"])
        right[name] = (fault.status, fault.code)
        assert KEY.encode() not in answer.body
        assert upstream.origin.encode() not in answer.body
        assert (await create(limited, stream=stream, store=False)).status == 200, f"after {name}"
    assert told == right
    assert await kept(limited) == {}


@pytest.mark.parametrize("reply", [Reply.stall(), Reply.slow_head(0.05)], ids=["a stall", "a byte at a time"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_an_answer_that_does_not_begin_in_time_is_one_clear_error(
    impatient: LiveGateway, upstream: FakeUpstream, reply: Reply, stream: bool
) -> None:
    upstream.enqueue(reply)
    answer = await create(impatient, stream=stream)
    assert (answer.status, error_of(answer)["code"]) == (504, "upstream_timeout")
    assert await kept(impatient) == {}
    # None where even the connection took too long.
    assert len(upstream.requests) <= 1


@pytest.mark.parametrize("reply", [Reply.reset(), Reply.hang_up()], ids=["reset", "hang-up"])
@pytest.mark.slow
async def test_a_connection_that_was_kept_and_is_closed_without_a_word_is_followed_by_one_new_one(
    limited: LiveGateway, upstream: FakeUpstream, reply: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.upstream.http.connection_pool.IDLE_SECONDS", 60.0)
    upstream.enqueue(reply)
    answer = await create(limited)
    assert (answer.status, error_of(answer)["code"]) == (502, "upstream_disconnected")
    assert len(upstream.requests) == 1
    assert (await create(limited)).status == 200
    upstream.enqueue(reply)
    assert (await create(limited)).status == 200
    assert len(upstream.requests) == 4
    assert (await create(limited)).status == 200
    upstream.enqueue(reply, reply)
    answer = await create(limited)
    assert (answer.status, error_of(answer)["code"]) == (502, "upstream_disconnected")
    assert len(upstream.requests) == 7


async def test_a_port_where_nobody_listens_is_one_clear_error(sqlite_url: str) -> None:
    gone = f"127.0.0.1:{free_port()}"
    async with running_gateway(sqlite_url, [upstream_settings(f"http://{gone}/v1", KEY)]) as gateway:
        answer = await create(gateway)
        assert (answer.status, error_of(answer)["code"]) == (502, "upstream_unreachable")
        assert answer.headers["x-should-retry"] == "false"
        assert gone.encode() not in answer.body


async def test_a_redirect_is_not_followed(limited: LiveGateway, upstream: FakeUpstream) -> None:
    async with FakeUpstream() as elsewhere:
        for status in (301, 302, 303, 307, 308):
            upstream.enqueue(Reply.redirect(f"{elsewhere.url}/responses", status))
            answer = await create(limited)
            assert (answer.status, error_of(answer)["code"]) == (502, "upstream_error")
            assert "location" not in answer.headers
        assert elsewhere.connections == 0


UNFINISHED: Mapping[str, tuple[Reply, str]] = {
    "a reset": (Reply.sse(EVENTS[:3], then=Act.RESET), "upstream_disconnected"),
    "an end without the last event": (Reply.sse(EVENTS[:3]), "upstream_disconnected"),
    "an event past the limit": (
        Reply.sse([*EVENTS[:3], b"data: " + b"x" * MOST * 2], pause=0.01),
        "upstream_event_too_large",
    ),
    "a last event that is no JSON": (
        Reply.sse([*EVENTS[:3], b"event: response.completed\ndata: {\n\n"]),
        "upstream_invalid_answer",
    ),
}


@pytest.mark.parametrize("name", UNFINISHED)
async def test_a_fault_in_a_stream_ends_it_as_failed(limited: LiveGateway, upstream: FakeUpstream, name: str) -> None:
    reply, code = UNFINISHED[name]
    upstream.enqueue(reply)
    answer = await create(limited, stream=True)
    assert answer.body.startswith(b"".join(EVENTS[:3]))
    (failed,) = failures(answer)
    assert (failed["id"], failed["status"], failed["error"]["code"]) == ("resp_good", "failed", "server_error")
    assert code in failed["error"]["message"]
    assert b"response.completed" not in answer.body
    assert await kept(limited) == {"resp_good": "failed"}
    assert (await read(limited, "resp_good")).status == 200
    assert (await create(limited, stream=True)).body.count(b"event: response.completed") == 1


async def test_a_silence_in_a_stream_ends_it_as_failed(sqlite_url: str, upstream: FakeUpstream) -> None:
    relay = {"idle_timeout_seconds": 1.5}
    upstream.enqueue(Reply.sse(EVENTS[:3], then=Act.STALL))
    async with running_gateway(sqlite_url, [upstream_settings(upstream.url, KEY)], relay=relay) as gateway:
        answer = await create(gateway, stream=True)
        (failed,) = failures(answer)
        assert "upstream_idle_timeout" in failed["error"]["message"]
        assert await kept(gateway) == {"resp_good": "failed"}


async def test_a_bad_chunk_size_in_a_stream_ends_it_as_failed(sqlite_url: str, upstream: FakeUpstream) -> None:
    begun = [step for step in Reply.sse(EVENTS[:3]).steps if isinstance(step, bytes)][:-1]
    upstream.enqueue(Reply([*begun, 0.05, b"zz\r\n", Act.STALL]))
    async with running_gateway(sqlite_url, [upstream_settings(upstream.url, KEY)]) as gateway:
        answer = await create(gateway, stream=True)
        assert answer.body.startswith(b"".join(EVENTS[:3]))
        (failed,) = failures(answer)
        assert "upstream_invalid_answer" in failed["error"]["message"]
        assert await kept(gateway) == {"resp_good": "failed"}


async def test_a_stream_that_is_compressed_unasked_is_refused_before_its_first_byte(
    limited: LiveGateway, upstream: FakeUpstream
) -> None:
    packed = gzip.compress(b"".join(EVENTS), mtime=0)
    upstream.enqueue(Reply.sse([packed], headers={"content-encoding": "gzip"}))
    answer = await create(limited, stream=True)
    assert upstream.requests[0].headers["accept-encoding"] == "identity"
    assert (answer.status, answer.json["error"]["code"]) == (502, "upstream_invalid_answer")
    assert await kept(limited) == {}
    assert (await create(limited, stream=True)).body.count(b"event: response.completed") == 1


async def test_the_client_gets_the_form_that_it_asked_for(limited: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.json(200, completed("resp_whole")), Reply.sse(story("resp_streamed")))
    streamed = await create(limited, stream=True)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert events(streamed.body.removesuffix(b"data: [DONE]\n\n"))[-1]["response"]["id"] == "resp_whole"
    whole = await create(limited, stream=False)
    assert whole.headers["content-type"] == "application/json"
    assert (whole.json["id"], whole.json["output"]) == ("resp_streamed", [item("Once upon a time")])
    assert await kept(limited) == {"resp_whole": "completed", "resp_streamed": "completed"}
    assert (await read(limited, "resp_streamed")).json["output"] == [item("Once upon a time")]


async def test_the_first_of_two_last_events_is_kept_and_both_are_relayed(
    limited: LiveGateway, upstream: FakeUpstream
) -> None:
    second = frame("response.failed", 6, response={**GOOD, "status": "failed", "output": []})
    frames = [*EVENTS, second, b"data: [DONE]\n\n"]
    upstream.enqueue(Reply.sse(frames))
    assert (await create(limited, stream=True)).body == b"".join(frames)
    assert await kept(limited) == {"resp_good": "completed"}
    assert (await read(limited, "resp_good")).json["output"] == [item("Once upon a time")]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_an_id_that_is_taken_never_replaces_what_is_kept_and_the_answer_has_another(
    gateway: LiveGateway, upstream: FakeUpstream, stream: bool
) -> None:
    upstream.enqueue(Reply.json(200, completed("resp_twice", "First.")))
    assert (await create(gateway)).status == 200
    again = completed("resp_twice", "Second.")
    upstream.enqueue(Reply.sse(story("resp_twice", "Second.")) if stream else Reply.json(200, again))
    answer = await create(gateway, stream=stream)
    assert answer.status == 200
    told = events(answer.body)[-1]["response"] if stream else answer.json
    assert told["status"] == "completed"
    assert told["id"] != "resp_twice"
    assert b"First." in (await read(gateway, "resp_twice")).body
    assert b"Second." in (await read(gateway, told["id"])).body
    assert await kept(gateway) == {"resp_twice": "completed", told["id"]: "completed"}
