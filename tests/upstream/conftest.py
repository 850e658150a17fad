import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing

import httpx
import pytest
import uvloop

from app.state.account_conditions import Condition, Recovery
from app.upstream.http.egress_policy import EgressPolicy
from app.upstream.http.http_client import HttpClient
from app.upstream.http.proxies import EnvironmentProxies
from app.upstream.pool.pool import Pool
from app.upstream.transport import Transport
from tests.fakes.upstream import FakeUpstream
from tests.upstream.rig import KEYS, Clock, NetworkOf, Rig, rig, upstream_settings


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as server:
        yield server


@pytest.fixture
async def network() -> NetworkOf:
    """Makes a transport, with the environment as it is then."""

    def open_network(max_connections: int, reach: EgressPolicy = EgressPolicy.ANYWHERE) -> "aclosing[Transport]":
        return aclosing(HttpClient(httpx.create_ssl_context(), EnvironmentProxies(), max_connections, reach))

    return open_network


@pytest.fixture
async def transport(network: NetworkOf) -> AsyncIterator[Transport]:
    async with network(100) as opened:
        yield opened


@pytest.fixture
async def native() -> AsyncIterator[HttpClient]:
    async with aclosing(HttpClient(httpx.create_ssl_context(), EnvironmentProxies(), 2)) as network:
        yield network


@pytest.fixture
def one(upstream: FakeUpstream, transport: Transport) -> Rig:
    """One key."""
    return rig(transport, upstream_settings(upstream.url))


@pytest.fixture
def three(upstream: FakeUpstream, transport: Transport) -> Rig:
    """Three keys of one upstream."""
    return rig(transport, upstream_settings(upstream.url, *KEYS))


def pytest_asyncio_loop_factories(item: pytest.Function) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that serves; a module that sets `BOTH_LOOPS` runs on the standard library's as well."""
    if getattr(item.module, "BOTH_LOOPS", False):
        return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def news() -> list[Condition | Recovery]:
    return []


@pytest.fixture
def pool(clock: Clock, news: list[Condition | Recovery]) -> Pool:
    return Pool([upstream_settings("http://a/v1", *KEYS)], 10.0, clock, on_change=news.append)
