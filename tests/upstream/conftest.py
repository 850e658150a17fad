from collections.abc import AsyncIterator

import httpx
import pytest

from app.upstream.transport import network_transport
from tests.fakes.upstream import FakeUpstream
from tests.upstream.rig import KEYS, Rig, rig, upstream_settings


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as server:
        yield server


@pytest.fixture
async def transport() -> AsyncIterator[httpx.AsyncBaseTransport]:
    async with network_transport(100) as network:
        yield network


@pytest.fixture
def one(upstream: FakeUpstream, transport: httpx.AsyncBaseTransport) -> Rig:
    """One key."""
    return rig(transport, upstream_settings(upstream.url))


@pytest.fixture
def three(upstream: FakeUpstream, transport: httpx.AsyncBaseTransport) -> Rig:
    """Three keys of one upstream."""
    return rig(transport, upstream_settings(upstream.url, *KEYS))
