"""A scripted upstream and a gateway in front of it, on real sockets."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial

import pytest

from tests.fakes.chat_upstream import FakeChat
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.upstream import FakeUpstream


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """A stateless upstream; unless scripted it answers as the demo model does."""
    async with FakeUpstream() as upstream:
        yield upstream


GatewayWith = Callable[..., AbstractAsyncContextManager[LiveGateway]]


@pytest.fixture
async def gateway(database_url: str, upstream: FakeUpstream) -> AsyncIterator[LiveGateway]:
    """A gateway on each kind of database, with one upstream key."""
    async with running_gateway(database_url, [upstream_settings(upstream.url, "sk-upstream-one")]) as gateway:
        yield gateway


@pytest.fixture
def gateway_with(sqlite_url: str, upstream: FakeUpstream) -> GatewayWith:
    """Starts one on SQLite alone, with settings of the test's own: `gateway_with(relay={…})`."""
    return partial(running_gateway, sqlite_url, [upstream_settings(upstream.url, "sk-upstream-one")])


@pytest.fixture
async def sqlite_gateway(gateway_with: GatewayWith) -> AsyncIterator[LiveGateway]:
    """The same on SQLite alone, where the kind of database adds nothing."""
    async with gateway_with() as gateway:
        yield gateway


@pytest.fixture
async def chat() -> AsyncIterator[FakeChat]:
    async with FakeChat() as chat:
        yield chat


@pytest.fixture
def no_tracing() -> Iterator[None]:
    """Keep the Agents SDK from posting its traces to a host of its own."""
    from agents import set_tracing_disabled  # noqa: PLC0415 (few tests need it, and it takes a second)

    set_tracing_disabled(True)
    yield
    set_tracing_disabled(False)
