from collections.abc import AsyncIterator

import httpx
import pytest

from app.upstream.transport import network_transport
from tests.fakes.upstream import FakeUpstream


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as server:
        yield server


@pytest.fixture
async def transport() -> AsyncIterator[httpx.AsyncBaseTransport]:
    async with network_transport(100) as network:
        yield network
