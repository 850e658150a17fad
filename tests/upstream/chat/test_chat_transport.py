"""The transport around another: which calls it translates, and how it reads what comes of them."""

import asyncio
from typing import Any

import httpx
import orjson
import pytest

from app.observability import logging
from app.upstream.transport import UnfitRequestError
from tests.fakes.chat_shapes import chunk
from tests.upstream.chat.inner_transport import (
    COMPLETION,
    JSON,
    SSE,
    Body,
    Inner,
    answered,
    ask_of,
    rest,
)
from tests.upstream.chat.translated import DONE, decoded, frames_of


async def test_only_responses_are_translated() -> None:
    inner = Inner(200, JSON, Body(COMPLETION))
    for url, method in (("https://one.example/v1/models", "GET"), ("https://one.example/v1/responses/resp_1", "GET")):
        assert await ask_of(inner, url, method)(b"", []) is inner.answer
    answer = await ask_of(inner, "https://one.example/v1/responses?beta=true")(b'{"model":"m","input":"Hi"}', [])
    assert [str(request.url) for request in inner.prepared] == [
        *("https://one.example/v1/models", "https://one.example/v1/responses/resp_1"),
        "https://one.example/v1/chat/completions",
    ]
    assert orjson.loads(inner.sent[-1])["messages"] == [{"role": "user", "content": "Hi"}]
    assert orjson.loads(await rest(answer.body))["output"][0]["content"][0]["text"] == "A"
    assert answer.body.is_over


async def test_what_cannot_be_said_is_not_sent() -> None:
    inner = Inner(200, JSON, Body())
    with pytest.raises(UnfitRequestError):
        await ask_of(inner)(b'{"model":"m","input":"Hi","prompt":{"id":"p"}}', [])
    assert inner.sent == []


@pytest.mark.parametrize(
    ("chunk_", "dropped"),
    [(chunk({"content": "A"}, "stop"), {"dropped": "user,service_tier"}), ({"error": {"message": "Down"}}, {})],
    ids=["served", "refused"],
)
async def test_the_requests_log_line_names_what_was_dropped_of_the_call_that_was_served(
    chunk_: Any, dropped: dict[str, str]
) -> None:
    """Names alone; and none where another upstream may take the call as it is."""
    logging.begin_request("req_1")
    await answered(Body(frames_of([chunk_])), user="a canary", service_tier="flex")
    assert logging._request.get() == {"request_id": "req_1", **dropped}


async def test_headers_are_those_of_the_translated_answer_and_what_was_dropped_is_beside_them() -> None:
    """An upstream that says itself what it dropped says it in a header like any other."""
    said = [*SSE, (b"x-antiphon-dropped", b"mine"), (b"transfer-encoding", b"chunked")]
    answer = await answered(Body(frames_of([chunk({"content": "A"}, "stop")])), said, user="u", service_tier="flex")
    assert dict(answer.headers) == {
        b"content-type": b"text/event-stream",
        b"x-request-id": b"req_up",
        b"x-antiphon-dropped": b"mine",
    }
    assert answer.dropped == b"user,service_tier"


async def test_what_was_dropped_is_listed_in_whole_names_that_a_header_can_say() -> None:
    odd = {"a\r\nset-cookie: b": 1, "\u00e9": 1, **{f"member_{place:03}": 1 for place in range(99)}}
    answer = await answered(Body(COMPLETION), JSON, stream=False, **odd)
    names = [b"a__set-cookie__b", b"_", *(b"member_%03d" % place for place in range(44))]
    assert answer.dropped == b",".join(names)


@pytest.mark.parametrize("is_stream", [True, False])
async def test_either_form_of_an_answer_is_read_whichever_was_asked_for(is_stream: bool) -> None:
    body = Body(frames_of([chunk({"content": "A"}, "stop")])) if is_stream else Body(COMPLETION)
    answer = await answered(body, [], stream=not is_stream)
    said = await rest(answer.body)
    last = decoded(said)[-1]["response"] if is_stream else orjson.loads(said)
    assert last["output"][0]["content"][0]["text"] == "A"


async def test_blanks_before_a_whole_answer_pass_as_signs_of_life_and_a_cancelled_read_loses_nothing() -> None:
    late: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    answer = await answered(Body(b"\n", b"\n", COMPLETION[:9], late), JSON)
    assert [await answer.body.read(), await answer.body.read()] == [b"\n", b"\n"]
    reading = asyncio.ensure_future(answer.body.read())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    again: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    answer.body._inner.pieces = [again]  # type: ignore[attr-defined]  # the cancelled future is of no use
    again.set_result(COMPLETION[9:])
    assert orjson.loads(await rest(answer.body))["status"] == "completed"


async def test_an_error_before_the_first_chunk_is_an_answer_of_its_status() -> None:
    body = Body(b": wait\n\n", b'data: {"error":{"message":"Slow down","code":429}}\n\n')
    answer = await answered(body)
    assert answer.status == 429
    assert orjson.loads(await rest(answer.body))["error"]["message"] == "Slow down"
    assert body.is_closed


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (422, {"detail": [{"loc": ["body", "messages"], "msg": "bad"}]}, (400, None, "input")),
        (500, {"error": {"message": "maximum context length is 8"}}, (400, "context_length_exceeded", "input")),
        (413, {"error": {"message": "The prompt is too long."}}, (400, "context_length_exceeded", "input")),
        (422, {"message": "input is too long"}, (400, "context_length_exceeded", "input")),
        (429, {"error": {"message": "Slow", "code": 400}}, (429, "rate_limit_exceeded", None)),
        (401, {"error": {"message": "Who?", "code": 400}}, (401, None, None)),
        (503, {"error": {"message": "Down", "code": 400}}, (503, None, None)),
    ],
)
async def test_a_refusal_is_told_in_our_words_and_with_the_status_that_they_have(
    status: int, said: Any, expected: tuple[int, str | None, str | None]
) -> None:
    raw = orjson.dumps(said)
    answer = await answered(Body(raw[:9], raw[9:]), JSON, status)
    error = orjson.loads(await rest(answer.body))["error"]
    assert (answer.status, error["code"], error["param"]) == expected


@pytest.mark.parametrize(("status", "ours"), [(422, 400), (429, 429), (500, 500)])
async def test_the_status_of_a_refusal_counts_where_its_body_does_not_come(status: int, ours: int) -> None:
    answer = await answered(Body(error=httpx.ReadError("gone")), JSON, status)
    assert answer.status == ours


async def test_a_body_that_breaks_off_before_it_begins_is_closed() -> None:
    body = Body(b": wait\n\n", error=httpx.ReadError("gone"))
    with pytest.raises(httpx.ReadError):
        await answered(body)
    assert body.is_closed


async def test_a_break_amid_a_stream_is_the_readers() -> None:
    answer = await answered(Body(frames_of([chunk({"content": "A"})], is_done=False), error=httpx.ReadError("gone")))
    assert b"response.created" in answer.body.take()
    with pytest.raises(httpx.ReadError):
        await answer.body.read()


async def test_a_server_that_neither_ends_nor_closes_is_waited_for_only_after_its_reason_and_for_two_seconds() -> None:
    silent: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    first, end = (frames_of([each], is_done=False) for each in (chunk({"content": "A"}), chunk({}, "stop")))
    body = Body(first, end, silent)
    answer = await answered(body)
    answer.body.take()
    last = await answer.body.read()
    assert body.waits == [2.0]
    assert decoded(last)[-1]["response"]["status"] == "completed"


async def test_text_is_forwarded_as_it_comes_until_it_is_declined() -> None:
    deltas = [frames_of([chunk({"content": text})], is_done=False) for text in ("A", "B", "C")]
    end = frames_of([chunk({}, "stop")])
    body = Body(*deltas, end)
    answer = await answered(body)
    read = answer.body.take()
    taken: list[bytes] = []

    def take(event: bytes) -> bool:
        taken.append(event)
        return len(taken) < 2

    await answer.body.forward_ready(take)
    # The second was declined: it is there for the next reader, once.
    events = decoded(read + taken[0] + await rest(answer.body))
    assert [event["delta"] for event in events if "delta" in event] == ["A", "B", "C"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert answer.body.is_over


async def test_what_comes_soon_is_translated_and_silence_is_no_end() -> None:
    silent: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    first, second = (frames_of([chunk({"content": text})], is_done=False) for text in "AB")
    answer = await answered(Body(first, second, silent))
    answer.body.take()
    assert b'"delta":"B"' in await answer.body.read_soon(0.01)
    assert await answer.body.read_soon(0.01) == b""
    assert not answer.body.is_over
    silent.set_result(DONE)
    assert decoded(await answer.body.read())[-1]["type"] == "response.completed"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("input[4].content[1]", "input[1].content[1]"),
        ("input[2].type", "input"),
        ("tools[4].type", "tools[4].type"),
        ("prompt", "prompt"),
    ],
)
def test_a_path_counts_among_the_callers_own_items(path: str, shown: str) -> None:
    error = UnfitRequestError(path, items=5).as_asked(own_items=2)
    assert error.param == shown
    assert f"'{shown}'" in error.message
