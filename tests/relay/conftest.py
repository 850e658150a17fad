from collections.abc import AsyncIterator

import pytest

from app.relay.process.admission_and_drain import CallRegistry
from tests.builders import Connection


@pytest.fixture
async def registry() -> AsyncIterator[CallRegistry]:
    registry = CallRegistry(10)
    yield registry
    await registry.aclose()


@pytest.fixture
def connection() -> Connection:
    return Connection()
