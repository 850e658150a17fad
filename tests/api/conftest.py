"""Keys without a database, and an administrator of a gateway on each kind of one."""

from collections.abc import AsyncIterator

import pytest

from app.security import authentication, failed_key_throttle
from app.security.authentication import Authenticator
from tests.builders import make_caller
from tests.fakes.administrator import Administrator, administering
from tests.fakes.key_store import Clock, Keys, authenticator_of


@pytest.fixture
async def admin(database_url: str) -> AsyncIterator[Administrator]:
    async with administering(database_url) as admin:
        yield admin


@pytest.fixture
async def sqlite_admin(sqlite_url: str) -> AsyncIterator[Administrator]:
    """The same on SQLite alone, where the kind of database adds nothing."""
    async with administering(sqlite_url) as admin:
        yield admin


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(authentication, "time", clock)
    monkeypatch.setattr(failed_key_throttle, "time", clock)
    return clock


@pytest.fixture
def keys() -> Keys:
    return Keys(make_caller())


@pytest.fixture
def authenticator(keys: Keys, clock: Clock) -> Authenticator:
    return authenticator_of(keys)
