"""Connections of which nothing is left over."""

from collections.abc import AsyncIterator

import pytest

from tests.fakes.connected import AppFake, Connected


@pytest.fixture
async def app() -> AppFake:
    return AppFake()


@pytest.fixture
async def connected(app: AppFake) -> AsyncIterator[Connected]:
    made = Connected(app)
    yield made
    made.protocol.connection_lost(None)
    await app.answer(20)
    assert not made.state.connections
    assert not made.state.tasks
