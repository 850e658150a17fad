"""What is large is translated beside the event loop, reserved as it comes, held once, and bounded."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from tests.fakes.chat_shapes import chunk
from tests.upstream.chat.inner_transport import (
    COMPLETION,
    JSON,
    SSE,
    Body,
    CountedThread,
    Inner,
    answered,
    ask_of,
    rest,
)
from tests.upstream.chat.translated import DONE, MAX_BYTES, check, decoded, frames_of, stream_of


async def test_a_refusal_that_is_larger_than_any_error_is_read_no_further() -> None:
    body = Body(*[b"x" * 30_000] * 9)
    answer = await answered(body, JSON, 429)
    await rest(answer.body)
    assert (answer.status, len(body.pieces)) == (429, 6)


async def test_a_running_stream_does_not_hold_the_prompt() -> None:
    answer = await answered(Body(frames_of([chunk({"content": "A"})], is_done=False)))
    assert answer.body._stream._request.body == b""  # type: ignore[attr-defined]  # of the body of a stream


@pytest.mark.parametrize(
    "delta",
    [
        lambda text: {"content": text},
        lambda text: {"reasoning": text},
        lambda text: {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": text}}]},
    ],
    ids=["text", "reasoning", "calls"],
)
@pytest.mark.parametrize("frames_per_chunk", [1, 2])
async def test_a_huge_stream_is_in_the_compute_thread_only_where_something_ends(
    delta: Callable[[str], Any], frames_per_chunk: int
) -> None:
    thread = CountedThread()
    said = frames_of([chunk(delta("x" * 40_000))], is_done=False)
    inner = Inner(200, SSE, Body(*[said * frames_per_chunk] * (50 // frames_per_chunk), DONE))
    answer = await ask_of(inner, thread=thread, max_bytes=10_000_000)(b'{"model":"m","input":"Hi","stream":true}', [])
    assert b"response.completed" in await rest(answer.body)
    # The first of the huge ones, which may end what came before, and the end.
    assert len(thread.sizes) == 2
    assert thread.sizes[-1] > 2_000_000


async def test_a_frame_that_is_large_is_read_in_the_compute_thread_from_the_first_on() -> None:
    thread = CountedThread()
    inner = Inner(200, SSE, Body(frames_of([chunk({"content": "x" * 70_000})], is_done=False), DONE))
    answer = await ask_of(inner, thread=thread)(b'{"model":"m","input":"Hi","stream":true}', [])
    assert b"response.completed" in await rest(answer.body)
    assert len(thread.sizes) == 1


async def test_a_stream_that_is_too_large_before_its_first_chunk_is_an_answer_that_another_may_replace() -> None:
    body = Body(*[b"data: " + b"x" * 60_000] * 3)
    answer = await answered(body)
    assert answer.status == 502
    assert orjson.loads(await rest(answer.body))["error"]["message"] == (
        "Upstream's answer is larger than this gateway accepts. (upstream_too_large)"
    )
    assert body.is_closed


@pytest.mark.parametrize("is_stream", [True, False])
async def test_what_is_held_of_an_answer_is_reserved_as_it_comes(is_stream: bool) -> None:
    reserved: list[int] = []

    async def reserve(size: int) -> None:
        reserved.append(size)

    whole = orjson.dumps({"choices": [{"message": {"content": "x" * 200_000}, "finish_reason": "stop"}]})
    pieces = [whole[at : at + 40_000] for at in range(0, len(whole), 40_000)]
    said = frames_of([chunk({"content": "x" * 39_800})], is_done=False)
    body = Body(*[said] * 5, DONE) if is_stream else Body(*pieces)
    ask = ask_of(Inner(200, SSE if is_stream else JSON, body), max_bytes=1_000_000)
    answer = await ask(orjson.dumps({"model": "m", "input": "Hi", "stream": is_stream}), [], "proj", reserve)
    await rest(answer.body)
    # Twice what there was when it had grown over what was reserved: few times, and all of it.
    size = len(said) if is_stream else 40_000
    assert reserved == [2 * size * 2, 2 * size * 4]


async def test_a_small_answer_reserves_nothing() -> None:
    async def reserve(_size: int) -> None:
        raise AssertionError

    for headers, body in ((SSE, Body(frames_of([chunk({"content": "A"}, "stop")]))), (JSON, Body(COMPLETION))):
        ask = ask_of(Inner(200, headers, body))
        await rest((await ask(b'{"model":"m","input":"Hi","stream":true}', [], "proj", reserve)).body)


async def test_a_running_stream_holds_the_clients_tools_packed() -> None:
    tools = [{"type": "function", "name": "f", "parameters": {"type": "object"}}]
    answer = await answered(Body(frames_of([chunk({"content": "A"})], is_done=False)), tools=tools)
    held = answer.body._stream.response  # type: ignore[attr-defined]  # of the body of a stream
    assert [name for name, value in held.items() if isinstance(value, dict | list)] == []
    [tool] = decoded(answer.body.take())[0]["response"]["tools"]
    assert (tool["name"], tool["parameters"]) == ("f", {"type": "object"})


async def test_large_bodies_are_translated_and_an_answer_has_a_bound() -> None:
    long = [{"role": "user", "content": "word " * 10_000}] * 40
    inner = Inner(200, JSON, Body(COMPLETION))
    answer = await ask_of(inner)(orjson.dumps({"model": "m", "input": long}), [])
    assert orjson.loads(inner.sent[0])["messages"] == long
    assert orjson.loads(await rest(answer.body))["status"] == "completed"
    answer = await answered(Body(b"{", b" " * 200_000, b"}"), JSON)
    assert orjson.loads(await rest(answer.body))["error"] == {
        "message": "Upstream's answer is larger than this gateway accepts. (upstream_too_large)",
        "type": "server_error",
        "param": None,
        "code": "server_error",
        "status": 502,
    }


def test_an_answer_that_is_too_large_fails_with_what_there_is_of_it() -> None:
    stream, said = stream_of(), frames_of([chunk({"content": "x" * 4000})], is_done=False)
    raw = b"".join([stream.feed(said) for _ in range(300)])
    last = check(decoded(raw))
    assert stream.is_over
    assert last["error"]["message"] == "Upstream's answer is larger than this gateway accepts. (upstream_too_large)"
    assert last["output"][0]["status"] == "incomplete"
    # The one that was too much is the last that was read.
    assert len(last["output"][0]["content"][0]["text"]) == 4000 * (MAX_BYTES // len(said) + 1)
