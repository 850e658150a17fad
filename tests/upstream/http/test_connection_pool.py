"""The native transport's connections: used again while they are fresh, bounded, and given out in order."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from app.upstream.http import connection_pool
from app.upstream.http.connection import Connection
from app.upstream.http.http_client import HttpClient
from app.upstream.http.proxies import EnvironmentProxies
from app.upstream.transport import UnansweredError
from tests.fakes.replies import Act, Reply
from tests.fakes.upstream import FakeUpstream
from tests.upstream.native import ask, chunks_of, kept, whole
from tests.upstream.rig import EVENTS

BOTH_LOOPS = True
pytestmark = pytest.mark.live
# Of the connections of `native`.
LIMIT = 2


def waiting(native: HttpClient) -> int:
    return len(native._connections._waiting)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def test_the_connection_that_rested_last_is_used_first(native: HttpClient, upstream: FakeUpstream) -> None:
    upstream.respond = lambda _: Reply.json(200, 1)
    assert await asyncio.gather(*(whole(native, upstream.url) for _ in range(LIMIT))) == [b"1"] * LIMIT
    last = idle(native)[-1]
    for _ in range(3):
        assert await whole(native, upstream.url) == b"1"
        assert idle(native)[-1] is last
    assert upstream.connections == LIMIT
    assert len({request.connection for request in upstream.requests[LIMIT:]}) == 1


async def test_an_idle_connection_is_closed_after_its_time(
    native: HttpClient, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_pool, "IDLE_SECONDS", 1.0)
    upstream.respond = lambda r: Reply.sse(EVENTS, pause=0.05 if "slow" in r.path else 0.0)
    slow = await ask(native, f"{upstream.origin}/slow")
    await whole(native, upstream.url)
    assert await chunks_of(slow.body) == EVENTS
    assert upstream.open_connections == LIMIT
    await upstream.wait_until_idle()
    assert native._connections._routes == {}
    assert native._connections._sweeper is None
    await whole(native, upstream.url)
    assert upstream.connections == LIMIT + 1


async def test_an_idle_connection_that_its_server_closes_is_not_used(
    native: HttpClient, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply([*Reply.json(200, 1).steps, 0.01, Act.CLOSE]), Reply.json(200, 2))
    assert await whole(native, upstream.url) == b"1"
    await until(lambda: not native._connections._routes)
    assert await whole(native, upstream.url) == b"2"
    assert len(upstream.requests) == 2


async def test_no_more_connections_are_open_than_allowed(native: HttpClient, upstream: FakeUpstream) -> None:
    upstream.respond = lambda _: Reply.sse(EVENTS, pause=0.01)
    await asyncio.gather(*(whole(native, upstream.url) for _ in range(4 * LIMIT)))
    assert upstream.connections == LIMIT


async def test_who_waits_is_served_in_order(upstream: FakeUpstream) -> None:
    upstream.respond = lambda _: Reply.sse(EVENTS, pause=0.01)
    async with aclosing(HttpClient(httpx.create_ssl_context(), EnvironmentProxies(), 1)) as network:
        calls = []
        for number in range(6):
            calls.append(asyncio.ensure_future(whole(network, f"{upstream.origin}/{number}")))
            await until(lambda n=number: waiting(network) == n)  # type: ignore[misc]
        await asyncio.gather(*calls)
    assert [request.path for request in upstream.requests] == [f"/{number}" for number in range(6)]
    assert upstream.connections == 1


async def test_who_waits_too_long_is_told_so_and_takes_no_place(native: HttpClient, upstream: FakeUpstream) -> None:
    upstream.respond = lambda _: Reply.sse(EVENTS[:1], then=Act.STALL)
    held = [await ask(native, upstream.url) for _ in range(LIMIT)]
    with pytest.raises(httpx.PoolTimeout):
        await ask(native, upstream.url, wait=0.1)
    assert waiting(native) == 0
    await held[0].body.aclose()
    upstream.respond = lambda _: Reply.json(200, 1)
    assert await whole(native, upstream.url) == b"1"
    await held[1].body.aclose()


async def test_an_idle_connection_makes_room_for_another_origin(native: HttpClient, upstream: FakeUpstream) -> None:
    upstream.respond = lambda _: Reply.json(200, 1)
    async with FakeUpstream() as other:
        other.respond = lambda _: Reply.json(200, 2)
        await asyncio.gather(*(whole(native, upstream.url) for _ in range(LIMIT)))
        assert len(idle(native)) == LIMIT
        assert await whole(native, other.url) == b"2"
        assert kept(native) == LIMIT


async def test_a_freed_connection_of_another_origin_gives_its_place_to_who_waits(
    native: HttpClient, upstream: FakeUpstream
) -> None:
    upstream.respond = lambda _: Reply.sse(EVENTS, pause=0.05)
    async with FakeUpstream() as other:
        other.respond = lambda _: Reply.json(200, 2)
        busy = [await ask(native, upstream.url) for _ in range(LIMIT)]
        call = asyncio.ensure_future(whole(native, other.url))
        await until(lambda: waiting(native) == 1)
        assert await chunks_of(busy[0].body) == EVENTS
        assert await call == b"2"
        await busy[1].body.aclose()
    assert upstream.connections == LIMIT


async def test_cancelling_at_any_moment_leaves_no_place_taken(native: HttpClient, upstream: FakeUpstream) -> None:
    upstream.respond = lambda _: Reply.sse(EVENTS, pause=0.001)

    async def call() -> None:
        response = await ask(native, upstream.url)
        try:
            _ = await chunks_of(response.body)
        finally:
            await response.body.aclose()

    for steps in range(60):
        calls = [asyncio.ensure_future(call()) for _ in range(2 * LIMIT)]
        for _ in range(steps):
            await asyncio.sleep(0)
        for each in calls:
            each.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert waiting(native) == 0
        assert all(connection in idle(native) for connection in native._connections._routes)
    await asyncio.gather(*(call() for _ in range(2 * LIMIT)))


async def test_who_gives_up_as_a_connection_is_freed_passes_it_on(native: HttpClient, upstream: FakeUpstream) -> None:
    upstream.respond = lambda _: Reply.json(200, 1)
    await asyncio.gather(*(whole(native, upstream.url) for _ in range(LIMIT)))
    pool, route = native._connections, native._routes[b"http", b"127.0.0.1", httpx.URL(upstream.url).port]
    taken = [pool.idle(route) for _ in range(LIMIT)]
    waiters = [asyncio.ensure_future(pool.open(route, wait_seconds=2.0, connect_seconds=2.0)) for _ in range(LIMIT + 2)]
    await until(lambda: waiting(native) == LIMIT + 2)
    waiters[0].cancel()
    for connection in taken:
        assert connection is not None
        pool.released(connection)
    waiters[1].cancel()
    await asyncio.gather(*waiters[:2], return_exceptions=True)
    assert await waiters[2] is taken[1]
    assert await waiters[3] is taken[0]


@pytest.mark.parametrize("given_up", [True, False])
async def test_a_connection_that_is_lost_as_it_is_passed_on_is_used_by_nobody(
    native: HttpClient, upstream: FakeUpstream, given_up: bool
) -> None:
    upstream.respond = lambda _: Reply.json(200, 1)
    await asyncio.gather(*(whole(native, upstream.url) for _ in range(LIMIT)))
    pool, route = native._connections, native._routes[b"http", b"127.0.0.1", httpx.URL(upstream.url).port]
    taken = [pool.idle(route) for _ in range(LIMIT)]
    call = asyncio.ensure_future(whole(native, upstream.url))
    await until(lambda: waiting(native) == 1)
    for connection in taken:
        assert connection is not None
        pool.released(connection)
        connection.abort(httpx.ReadError(""))
    if given_up:
        call.cancel()
    (outcome,) = await asyncio.gather(call, return_exceptions=True)
    assert type(outcome) is (asyncio.CancelledError if given_up else UnansweredError)
    assert kept(native) == 0
    assert await whole(native, upstream.url) == b"1"


async def test_a_place_that_was_given_to_who_has_just_given_up_is_passed_on(
    native: HttpClient, upstream: FakeUpstream
) -> None:
    upstream.respond = lambda _: Reply.sse(EVENTS[:1], then=Act.STALL)
    held = [await ask(native, upstream.url) for _ in range(LIMIT)]
    waiters = [asyncio.ensure_future(ask(native, upstream.url)) for _ in range(2)]
    await until(lambda: waiting(native) == 2)
    await held[0].body.aclose()
    waiters[0].cancel()
    response = await waiters[1]
    assert waiters[0].cancelled()
    assert kept(native) == LIMIT
    for each in (response, held[1]):
        await each.body.aclose()


async def test_closing_the_transport_tells_who_waits(upstream: FakeUpstream) -> None:
    upstream.respond = lambda _: Reply.sse(EVENTS[:1], then=Act.STALL)
    network = HttpClient(httpx.create_ssl_context(), EnvironmentProxies(), 1)
    response = await ask(network, upstream.url)
    assert await response.body.read() == EVENTS[0]
    reader = asyncio.ensure_future(response.body.read())
    call = asyncio.ensure_future(ask(network, upstream.url))
    await until(lambda: waiting(network) == 1)
    await network.aclose()
    with pytest.raises(httpx.ConnectError):
        await call
    with pytest.raises(httpx.ConnectError):
        await reader
    await upstream.wait_until_idle()
    assert network._connections._routes == {}


def test_concurrent_connections_share_one_look_up_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = socket.getaddrinfo
    names: list[object] = []

    def counted(*place: Any, **options: Any) -> object:
        names.append(place[0])
        return look_up(*place, **options)

    async def call_four_times() -> None:
        network = HttpClient(httpx.create_ssl_context(), EnvironmentProxies(), 4)
        async with FakeUpstream() as upstream, aclosing(network) as native:
            upstream.respond = lambda _: Reply.json(200, 1)
            url = upstream.url.replace("127.0.0.1", "localhost")
            assert await asyncio.gather(*(whole(native, url) for _ in range(4))) == [b"1"] * 4

    # The standard library's loop looks names up where this can be seen.
    monkeypatch.setattr(socket, "getaddrinfo", counted)
    asyncio.run(call_four_times())
    assert names.count("localhost") == 1


def idle(native: HttpClient) -> list[Connection]:
    return [connection for route in native._connections._idle.values() for connection in route]
