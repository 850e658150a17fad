from collections.abc import AsyncIterator

import pytest

from app.relay.registry import Registry
from tests.builders import Connection


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    registry = Registry(10)
    yield registry
    await registry.aclose()


@pytest.fixture
def connection() -> Connection:
    return Connection()
