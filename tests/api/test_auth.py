"""Who is calling: the form of keys, what carries them, and what is remembered of them."""

import string
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import auth
from app.auth import Authenticator, KeyHasher, is_well_formed, mint_key
from app.errors import AuthenticationError, StorageError
from app.state.records import ApiKey
from tests.builders import NOW, make_caller

_KEY = "sk-aph_Ep10Lfej9i4IWVSwLF5W7RXM7llcUMDo49Yt9X"
_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_HASHER = KeyHasher(b"a secret of sixteen characters and more")
_CACHE_SECONDS = 5.0

_keys = st.text(_BASE62, min_size=32, max_size=32).map(lambda secret: f"sk-aph_{secret}{auth._checksum(secret)}")


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Keys:
    """The keys there are, by hash, behind a database that may fail."""

    def __init__(self, found: ApiKey | None = None) -> None:
        self.found: dict[bytes, ApiKey | None] = {_HASHER.hash(_KEY): found}
        self.error: Exception | None = None
        self.queries = 0

    async def find(self, key_hash: bytes) -> ApiKey | None:
        self.queries += 1
        if self.error is not None:
            raise self.error
        return self.found.get(key_hash)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(auth, "time", clock)
    return clock


@pytest.fixture
def keys() -> Keys:
    return Keys(make_caller())


@pytest.fixture
def authenticator(keys: Keys, clock: Clock) -> Authenticator:
    store: Any = keys
    return Authenticator(store, _HASHER, _CACHE_SECONDS)


def bearer(key: str = _KEY) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_a_minted_key_is_well_formed_and_like_no_other() -> None:
    minted = {mint_key() for _ in range(100)}
    assert len(minted) == 100
    assert all(is_well_formed(key) and len(key) == 45 and key.startswith("sk-aph_") for key in minted)


@settings(deadline=None)
@given(_keys)
def test_every_key_of_our_making_is_well_formed(key: str) -> None:
    assert is_well_formed(key)


@settings(deadline=None)
@given(_keys, st.integers(0, 44), st.characters(codec="utf-8"))
def test_a_key_with_one_character_changed_is_refused(key: str, place: int, character: str) -> None:
    changed = key[:place] + character + key[place + 1 :]
    assert is_well_formed(changed) is (changed == key)


@settings(deadline=None)
@given(_keys, st.integers(0, 45), st.sampled_from(_BASE62))
def test_a_key_with_a_character_more_or_less_is_refused(key: str, place: int, character: str) -> None:
    assert not is_well_formed(key[:place] + character + key[place:])
    if place < len(key):
        assert not is_well_formed(key[:place] + key[place + 1 :])


@settings(deadline=None)
@given(st.text())
def test_no_text_makes_the_check_fail(text: str) -> None:
    assert not is_well_formed(text)
    assert not is_well_formed(f"sk-aph_{text}")


def test_hashes_depend_on_the_key_and_on_the_secret() -> None:
    other = KeyHasher(b"another secret of sixteen characters")
    assert len(_HASHER.hash(_KEY)) == 32
    assert len({_HASHER.hash(_KEY), _HASHER.hash(mint_key()), other.hash(_KEY)}) == 3
    assert _HASHER.hash(_KEY) == KeyHasher(b"a secret of sixteen characters and more").hash(_KEY)
    assert _HASHER.fingerprint != other.fingerprint
    assert _HASHER.fingerprint not in _HASHER.hash(_KEY).hex()


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {_KEY}"},
        {"authorization": f"bearer   {_KEY} "},
        {"x-api-key": _KEY},
        {"api-key": _KEY},
        {"authorization": f"Bearer {_KEY}", "x-api-key": "another"},
        {"x-api-key": "", "api-key": _KEY},
    ],
)
async def test_each_carrier_of_a_key_is_read(authenticator: Authenticator, headers: Mapping[str, str]) -> None:
    assert (await authenticator.identify(headers)).id == "key_1"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, None),
        ({"authorization": ""}, None),
        ({"authorization": "Bearer"}, None),
        ({"authorization": "Bearer  "}, None),
        ({"authorization": f"Basic {_KEY}"}, None),
        ({"authorization": _KEY}, None),
        # What the bearer header says is not mended by another.
        ({"authorization": "Basic eDp5", "x-api-key": _KEY}, None),
        ({"authorization": "Bearer sk-other", "x-api-key": _KEY}, "invalid_api_key"),
        ({"x-api-key": "", "api-key": ""}, None),
        ({"x-api-key": "sk-other"}, "invalid_api_key"),
        (bearer(_KEY[:-1]), "invalid_api_key"),
        (bearer(f"{_KEY} {_KEY}"), "invalid_api_key"),
        (bearer("\u00e9" * 45), "invalid_api_key"),
    ],
)
async def test_what_is_no_key_is_refused_without_a_query(
    authenticator: Authenticator, keys: Keys, headers: Mapping[str, str], code: str | None
) -> None:
    with pytest.raises(AuthenticationError) as caught:
        await authenticator.identify(headers)
    assert (caught.value.status, caught.value.code, caught.value.type) == (401, code, "invalid_request_error")
    assert keys.queries == 0
    assert _KEY not in caught.value.message


async def test_a_key_nobody_made_and_a_revoked_one_get_the_same_answer(clock: Clock) -> None:
    refusals = []
    for found in (None, make_caller(revoked_at=NOW)):
        store: Any = Keys(found)
        with pytest.raises(AuthenticationError) as caught:
            await Authenticator(store, _HASHER, _CACHE_SECONDS).identify(bearer())
        refusals.append(caught.value.body())
    assert refusals[0] == refusals[1]


async def test_a_known_key_is_not_asked_for_again_until_its_time(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    for _ in range(3):
        await authenticator.identify(bearer())
    clock.now += _CACHE_SECONDS - 0.1
    await authenticator.identify(bearer())
    assert keys.queries == 1
    clock.now += 0.1
    await authenticator.identify(bearer())
    assert keys.queries == 2


async def test_a_revocation_is_seen_when_the_cache_runs_out(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    await authenticator.identify(bearer())
    keys.found[_HASHER.hash(_KEY)] = make_caller(revoked_at=NOW)
    clock.now += _CACHE_SECONDS
    with pytest.raises(AuthenticationError):
        await authenticator.identify(bearer())


async def test_a_key_that_is_made_later_is_found_when_the_cache_runs_out(clock: Clock) -> None:
    keys = Keys()
    store: Any = keys
    authenticator = Authenticator(store, _HASHER, _CACHE_SECONDS)
    with pytest.raises(AuthenticationError):
        await authenticator.identify(bearer())
    keys.found[_HASHER.hash(_KEY)] = make_caller()
    clock.now += _CACHE_SECONDS
    assert (await authenticator.identify(bearer())).id == "key_1"


async def test_a_known_key_serves_for_a_minute_while_the_database_is_down(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    await authenticator.identify(bearer())
    keys.error = StorageError("The database is down.")
    clock.now += 59.9
    assert (await authenticator.identify(bearer())).id == "key_1"
    clock.now += 0.1
    with pytest.raises(StorageError):
        await authenticator.identify(bearer())
    keys.error = None
    assert (await authenticator.identify(bearer())).id == "key_1"


async def test_a_refused_key_stays_refused_while_the_database_is_down(clock: Clock) -> None:
    keys = Keys(make_caller(revoked_at=NOW))
    store: Any = keys
    authenticator = Authenticator(store, _HASHER, _CACHE_SECONDS)
    for _ in range(2):
        with pytest.raises(AuthenticationError):
            await authenticator.identify(bearer())
        keys.error = StorageError("The database is down.")
        clock.now += 30


@pytest.mark.parametrize(
    "error", [StorageError("Down."), RuntimeError("a bug"), TimeoutError(), KeyError("x"), MemoryError(), OSError()]
)
async def test_no_failure_of_the_store_is_an_identity(
    authenticator: Authenticator, keys: Keys, error: Exception
) -> None:
    keys.error = error
    for _ in range(2):
        with pytest.raises(StorageError):
            await authenticator.identify(bearer())
    # Nor does it leave one behind.
    keys.error = None
    keys.found.clear()
    with pytest.raises(AuthenticationError):
        await authenticator.identify(bearer())


async def test_the_memory_of_keys_is_bounded(
    authenticator: Authenticator, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "_CACHED_KEYS", 2)
    made = [mint_key() for _ in range(3)]
    keys.found |= {_HASHER.hash(key): make_caller() for key in made}
    for key in made:
        await authenticator.identify(bearer(key))
    assert len(authenticator._known) == 2
    await authenticator.identify(bearer(made[2]))
    assert keys.queries == 3
    await authenticator.identify(bearer(made[0]))
    assert keys.queries == 4
