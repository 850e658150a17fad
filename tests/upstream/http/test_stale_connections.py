"""Kept connections that are closed when they are used again: asked once more on a new one, and never a third time."""

import asyncio

import pytest

from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream, Recorded
from tests.upstream.rig import EVENTS, SSE, NetworkOf, Rig, failure, rig, upstream_settings

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def kept_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is."""
    monkeypatch.setattr("app.upstream.http.connection_pool.IDLE_SECONDS", 60.0)


@pytest.mark.parametrize("fault", [Reply.hang_up(), Reply.reset()], ids=["FIN", "RST"])
async def test_a_connection_closed_without_an_answer_is_tried_once_more(
    fault: Reply, upstream: FakeUpstream, three: Rig
) -> None:
    upstream.enqueue(Reply.sse(EVENTS), fault, Reply.sse(EVENTS))
    assert await three.read() == SSE
    assert await three.read() == SSE
    assert [request.connection for request in upstream.requests] == [1, 1, 2]
    assert upstream.requests[1].headers["authorization"] == upstream.requests[2].headers["authorization"]


@pytest.mark.parametrize("fault", [Reply.hang_up(), Reply.reset()], ids=["FIN", "RST"])
async def test_a_new_connection_that_is_closed_without_an_answer_is_not_taken_for_a_stale_one(
    fault: Reply, upstream: FakeUpstream, three: Rig
) -> None:
    upstream.respond = lambda _: fault
    error = await failure(three.open())
    assert (error.status, error.code) == (502, "upstream_disconnected")
    assert error.headers == {"x-should-retry": "false"}
    assert len({request.headers["authorization"] for request in upstream.requests}) == len(upstream.requests) == 2
    assert three.client.possible_duplicates == 1


@pytest.mark.parametrize(
    "second", [Reply.hang_up(), Reply.error(500), Reply.error(429), Reply.error(503, "server_is_overloaded")]
)
async def test_after_a_stale_connection_upstream_is_asked_once_more_whatever_it_says_then(
    second: Reply, upstream: FakeUpstream, one: Rig
) -> None:
    upstream.enqueue(Reply.sse(EVENTS), Reply.hang_up(), second, Reply.sse(EVENTS))
    assert await one.read() == SSE
    error = await failure(one.open())
    # Not even a rate limit, after which a client comes again, hides that the first try may have been generated.
    assert error.headers["x-should-retry"] == "false"
    assert len(upstream.requests) == 3


async def test_kept_connections_that_are_closed_when_used_cost_no_retry_and_say_nothing_of_the_account(
    upstream: FakeUpstream, one: Rig
) -> None:
    seen: set[int] = set()

    def once_per_connection(request: Recorded) -> Reply:
        if request.connection in seen:
            return Reply.hang_up()
        seen.add(request.connection)
        return Reply.sse(EVENTS, pause=0.01)

    upstream.respond = once_per_connection
    for _ in range(4):
        assert await asyncio.gather(*(one.read() for _ in range(10))) == [SSE] * 10
    assert {state.state for state in one.pool.report()} == {"usable"}
    assert len(upstream.requests) > 40


async def test_what_is_asked_again_after_a_stale_connection_takes_a_place_among_the_connections(
    upstream: FakeUpstream, network: NetworkOf
) -> None:
    async with network(1) as narrow:
        one = rig(narrow, upstream_settings(upstream.url))
        upstream.enqueue(Reply.sse(EVENTS), Reply.hang_up(), Reply.sse(EVENTS), Reply.sse(EVENTS))
        for _ in range(3):
            assert await one.read() == SSE
    assert len(upstream.requests) == 4
