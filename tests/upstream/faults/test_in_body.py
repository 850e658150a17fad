"""An answer of success that says in its body that it failed: the body counts, and not the status."""

import asyncio
from typing import Any

import orjson
import pytest

from app.errors import UpstreamError, UpstreamRefusedError
from app.upstream.faults.in_body import may_hold_fault
from app.upstream.http.http_client import HttpClient
from app.wire.upstream_errors import ParsedError
from tests.fakes.replies import Act, Reply
from tests.fakes.streams import frame, item, response, story
from tests.fakes.upstream import FakeUpstream, Recorded
from tests.upstream.rig import KEYS, Rig, failure, read_all, rig, upstream_settings

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def served(upstream: FakeUpstream) -> None:
    """Whoever is not told otherwise is served."""
    upstream.respond = lambda _: Reply.sse(_GOOD)


_GOOD = story("resp_good")
_CREATED = _GOOD[0]
_BEGUN = frame("response.in_progress", 1, response=response("resp_bad", "in_progress"))


def failed(code: str, **members: Any) -> dict[str, Any]:
    return {**response("resp_bad", "failed"), "error": {"code": code, "message": "Slower."}, **members}


def limit(code: str = "rate_limit_exceeded") -> bytes:
    return frame("response.failed", 2, response=failed(code))


_ERROR = frame("error", 0, code="rate_limit_exceeded", message="Slower.", param=None)
_NESTED = frame("error", 0, error={"type": "requests", "code": "rate_limit_exceeded", "message": "Slower."})


def sse(frames: list[bytes], **more: Any) -> Reply:
    """A stream whose head says for how long a limit lasts."""
    return Reply.sse(frames, headers={"retry-after": "30"}, **more)


LIMITS = {
    "a body": Reply.json(200, {"error": {"message": "Slower.", "code": 429}}),
    "a list": Reply.json(200, [{"error": {"message": "Slower.", "status": "RESOURCE_EXHAUSTED"}}]),
    "a body of another order": Reply.json(200, {"id": "gen_1", "error": {"message": "Slower.", "code": 429}}),
    "a body under the label of a stream": Reply.body(
        200, b'{"error":{"message":"Slower.","code":429}}', content_type="text/event-stream"
    ),
    "a failed response": Reply.json(200, failed("rate_limit_exceeded")),
    "an error event": sse([_ERROR]),
    "a nested error event": sse([_NESTED]),
    "a nameless error event": sse([b'data: {"error":{"message":"Slower.","code":429}}\n\n']),
    "an error event that is cut": sse([_ERROR[:9], _ERROR[9:20], _ERROR[20:]]),
    "a failed event": sse([limit()]),
    "a failed event behind the announcement": sse([_CREATED + _BEGUN + limit()]),
    "a failed event of a stream that goes on": sse([_CREATED + limit()], then=Act.STALL),
}


@pytest.mark.parametrize("reply", LIMITS.values(), ids=LIMITS.keys())
async def test_a_limit_that_is_told_in_the_body_rests_the_key_and_another_serves(
    upstream: FakeUpstream, three: Rig, reply: Reply
) -> None:
    upstream.enqueue(reply, reply)
    assert await three.read() != b""
    states = sorted(state.state for state in three.pool.report())
    assert states == ["cooling", "cooling", "usable"]
    assert three.client.possible_duplicates == 0
    assert three.in_flight == 0


async def test_a_limit_that_comes_soon_after_the_announcement_is_waited_for(
    upstream: FakeUpstream, native: HttpClient
) -> None:
    two = rig(native, upstream_settings(upstream.url, *KEYS[:2]))
    upstream.enqueue(sse([_CREATED, _BEGUN, limit()], pause=0.02, then=Act.STALL))
    assert await two.read() == b"".join(_GOOD)
    assert sorted(state.state for state in two.pool.report()) == ["cooling", "usable"]


@pytest.mark.parametrize(
    ("code", "state"),
    [("insufficient_quota", "parked"), ("rate_limit_exceeded", "cooling"), ("invalid_api_key", "dead")],
)
async def test_the_key_rests_as_the_code_says(upstream: FakeUpstream, three: Rig, code: str, state: str) -> None:
    upstream.enqueue(Reply.json(200, {"error": {"message": "No.", "code": code}}))
    await three.read()
    assert sorted(each.state for each in three.pool.report()) == sorted([state, "usable", "usable"])


async def test_the_last_words_are_upstreams_with_their_status(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply.json(200, {"error": {"message": "Slower.", "code": 429}}, {"retry-after": "7"}))
    error = await failure(one.open())
    assert (error.status, error.was_taken, error.headers["retry-after"]) == (429, True, "7")
    assert orjson.loads(error.body())["error"]["message"] == "Slower."


_TOO_LARGE = {"code": "rate_limit_exceeded", "message": "Request too large: Limit 3, Requested 4."}
OVERSIZED = {
    "a body": Reply.json(200, {"error": _TOO_LARGE}),
    "a failed response": Reply.json(200, failed("", error=_TOO_LARGE)),
    "an error event": sse([frame("error", 0, param=None, **_TOO_LARGE)]),
    "a failed event": sse([_CREATED, frame("response.failed", 1, response=failed("", error=_TOO_LARGE))]),
}


@pytest.mark.parametrize("reply", OVERSIZED.values(), ids=OVERSIZED.keys())
async def test_a_request_larger_than_the_limit_rests_no_key_that_says_so_in_the_body(
    upstream: FakeUpstream, three: Rig, reply: Reply
) -> None:
    upstream.respond = lambda _: reply
    error = await failure(three.open())
    assert (error.status, error.is_final, error.headers["x-should-retry"]) == (429, True, "false")
    assert [state.state for state in three.pool.report()] == ["usable"] * 3
    assert three.in_flight == 0


async def test_a_request_larger_than_the_limit_rests_no_key_that_says_so_in_the_midst_of_an_answer(
    upstream: FakeUpstream, one: Rig
) -> None:
    upstream.enqueue(Reply.sse(_GOOD))
    answer = await one.open()
    answer.limited(ParsedError(_TOO_LARGE["message"], _TOO_LARGE["code"], status=429))
    await answer.aclose()
    assert [state.state for state in one.pool.report()] == ["usable"]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_clients_fault_in_a_body_is_refused_as_its_status_would_be(
    upstream: FakeUpstream, three: Rig, stream: bool
) -> None:
    said = {"message": "maximum context length", "type": "invalid_request_error", "param": None, "code": 400}
    upstream.enqueue(Reply.json(200, {"error": said}))
    error = await failure(three.open(stream=stream))
    assert isinstance(error, UpstreamRefusedError)
    assert (error.status, error.was_taken) == (400, True)
    assert orjson.loads(error.body()) == {"error": {**said, "code": None}}
    assert len(upstream.requests) == 1
    assert three.in_flight == 0


@pytest.mark.parametrize("body", [{"error": {"message": "Boom."}}, {"message": "Boom."}, {"errors": ["Boom."]}])
async def test_an_error_of_no_known_kind_is_the_servers(upstream: FakeUpstream, three: Rig, body: Any) -> None:
    upstream.respond = lambda _: Reply.json(200, body)
    error = await failure(three.open())
    assert (error.status, orjson.loads(error.body())["error"]["message"]) == (502, "Boom.")
    assert len(upstream.requests) == 3


PASSED_ON = {
    "the client's fault": [frame("error", 0, code="context_length_exceeded", message="Too long.", param=None)],
    "a failure of another kind": [_CREATED, frame("response.failed", 1, response=failed("invalid_prompt"))],
    "a limit that was met with something said": [
        _CREATED,
        frame("response.failed", 1, response=failed("rate_limit_exceeded", output=[item("a")])),
    ],
    "a limit behind an item": [*_GOOD[:2], limit()],
    "a good answer": _GOOD,
    "an announcement alone": [_CREATED],
}


@pytest.mark.parametrize("frames", PASSED_ON.values(), ids=PASSED_ON.keys())
@pytest.mark.parametrize("pause", [0.0, 0.01])
async def test_a_stream_that_is_no_fault_of_the_account_arrives_as_it_was_sent(
    upstream: FakeUpstream, three: Rig, frames: list[bytes], pause: float
) -> None:
    upstream.enqueue(Reply.sse(frames, pause=pause))
    assert await three.read() == b"".join(frames)
    assert len(upstream.requests) == 1


BODIES = {
    "a response": response("resp_1", "completed", [item('an "error" and a "failed" call')]),
    "one that failed": failed("server_error"),
    "one with its members in another order": {"output": [item("x" * 600)], "error": None, "id": "resp_1"},
    "a count": {"input_tokens": 3, "object": "response.input_tokens"},
    "something else": {"id": "x", "title": "a"},
    "a completion without an id": {"choices": [], "title": "a"},
    "a moderation without an id": {"results": [], "message": "a"},
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_a_body_that_is_no_error_arrives_as_it_was_sent(upstream: FakeUpstream, three: Rig, body: Any) -> None:
    sent = orjson.dumps(body)
    head = Reply.head(200, {"content-length": str(len(sent))})
    upstream.enqueue(Reply([head, sent[:30], 0.02, sent[30:]]))
    assert await three.read(stream=False) == sent
    assert len(upstream.requests) == 1


async def test_a_stream_whose_upstream_thinks_after_its_announcement_is_not_held_back(
    upstream: FakeUpstream, one: Rig
) -> None:
    upstream.enqueue(Reply.sse([_CREATED], then=Act.STALL))
    async with asyncio.timeout(10):
        answer = await one.open()
    assert await answer.read() == _CREATED
    await answer.aclose()


async def test_what_is_below_a_response_may_tell_of_a_failure_of_long_ago(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply.json(200, failed("rate_limit_exceeded")))
    call = one.call(method="GET", path="/resp_bad", stream=False)
    answer = await one.client.ask(one.pool.accounts()[0].name, call)
    assert b"Slower." in await read_all(answer)
    await answer.aclose()


async def test_an_account_that_met_a_limit_in_the_midst_of_an_answer_rests_once_that_is_closed(
    upstream: FakeUpstream, one: Rig
) -> None:
    upstream.enqueue(Reply.sse(_GOOD))
    answer = await one.open()
    answer.limited(ParsedError("Spent.", "insufficient_quota", status=429))
    await answer.aclose()
    assert [state.state for state in one.pool.report()] == ["parked"]


async def test_an_event_that_tells_no_time_rests_the_key_for_the_shortest(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply.sse([_ERROR]))
    await failure(one.open())
    (state,) = one.pool.report()
    assert state.rest <= 1.1


async def test_an_error_that_quotes_the_key_is_told_without_it(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply.json(200, {"error": {"message": f"{KEYS[0]} is odd.", "code": 400}}))
    with pytest.raises(UpstreamError) as caught:
        await one.open()
    assert b"[redacted] is odd." in caught.value.body()


async def test_one_healthy_key_of_three_serves_though_both_others_fail_first(
    upstream: FakeUpstream, three: Rig
) -> None:
    bad = {f"Bearer {key}" for key in KEYS[:2]}

    def respond(request: Recorded) -> Reply:
        is_bad = request.headers["authorization"] in bad
        return Reply.error(500, "server_error") if is_bad else Reply.sse(_GOOD)

    upstream.respond = respond
    first, second, _ = three.pool.accounts()
    for _ in range(50):
        assert await three.read(prefer=first.name) == b"".join(_GOOD)
    assert second.name in {account.name for account in three.rendered}


async def test_fifty_calls_at_once_find_the_one_healthy_key_of_three(upstream: FakeUpstream, three: Rig) -> None:
    bad = {f"Bearer {key}" for key in KEYS[:2]}

    def respond(request: Recorded) -> Reply:
        return Reply.html(503) if request.headers["authorization"] in bad else Reply.sse(_GOOD)

    upstream.respond = respond
    bodies = await asyncio.gather(*(three.read() for _ in range(50)))
    assert set(bodies) == {b"".join(_GOOD)}


@pytest.mark.parametrize(
    ("body", "may"),
    [
        (b'{"id":"resp_1","object":"response","error":null}', False),
        (b'{"id":"chatcmpl-1","object":"chat.completion","choices":[]}', False),
        (b'{"object":"list","data":[]}', False),
        (b'{"id":"gen-1","object":"chat.completion","choices":[],"error":{"code":429}}', True),
        (b'{"object":"list","error":{"code":429}}', True),
        (b'{"error":{"message":"the \\"list\\" is long"}}', True),
        (b'{"detail":"No."}', True),
    ],
)
def test_a_good_answer_is_known_by_how_it_begins(body: bytes, may: bool) -> None:
    assert may_hold_fault(body) is may
