"""Who is calling: the form of keys, what carries them, and what is remembered of them."""

import asyncio
import string
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import AuthenticationError, StorageError
from app.security import authentication
from app.security.authentication import Authenticator, KeyHasher, is_well_formed, mint_key
from app.security.key_ring import KeyRing, SecretKeys
from tests.builders import NOW, make_caller
from tests.fakes.key_store import ADDRESS, CACHE_SECONDS, HASHER, KEY, Clock, Keys, authenticator_of, bearer

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase

_keys = st.text(_BASE62, min_size=32, max_size=32).map(
    lambda secret: f"sk-aph_{secret}{authentication._checksum(secret)}"
)


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
    other = KeyHasher(KeyRing(b"another secret of sixteen characters"))
    assert len(HASHER.hash(KEY)) == 32
    assert len({HASHER.hash(KEY), HASHER.hash(mint_key()), other.hash(KEY)}) == 3
    assert HASHER.hash(KEY) == KeyHasher(KeyRing(b"a secret of sixteen characters and more")).hash(KEY)
    assert SecretKeys.of(b"one secret").fingerprint != SecretKeys.of(b"another").fingerprint


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer   {KEY} "},
        {"x-api-key": KEY},
        {"api-key": KEY},
        {"authorization": f"Bearer {KEY}", "x-api-key": "another"},
        {"x-api-key": "", "api-key": KEY},
    ],
)
async def test_each_carrier_of_a_key_is_read(authenticator: Authenticator, headers: Mapping[str, str]) -> None:
    assert (await authenticator.identify(headers, ADDRESS, "responses")).id == "key_1"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, None),
        ({"authorization": ""}, None),
        ({"authorization": "Bearer"}, None),
        ({"authorization": "Bearer  "}, None),
        ({"authorization": f"Basic {KEY}"}, None),
        ({"authorization": KEY}, None),
        # What the bearer header says is not mended by another.
        ({"authorization": "Basic eDp5", "x-api-key": KEY}, None),
        ({"authorization": "Bearer sk-other", "x-api-key": KEY}, "invalid_api_key"),
        ({"x-api-key": "", "api-key": ""}, None),
        ({"x-api-key": "sk-other"}, "invalid_api_key"),
        (bearer(KEY[:-1]), "invalid_api_key"),
        (bearer(f"{KEY} {KEY}"), "invalid_api_key"),
        (bearer("\u00e9" * 45), "invalid_api_key"),
    ],
)
async def test_what_is_no_key_is_refused_without_a_query(
    authenticator: Authenticator, keys: Keys, headers: Mapping[str, str], code: str | None
) -> None:
    with pytest.raises(AuthenticationError) as caught:
        await authenticator.identify(headers, ADDRESS, "responses")
    assert (caught.value.status, caught.value.code, caught.value.type) == (401, code, "invalid_request_error")
    assert keys.queries == 0
    assert KEY not in caught.value.message


async def test_a_key_nobody_made_and_a_revoked_one_get_the_same_answer(clock: Clock) -> None:
    refusals = []
    for found in (None, make_caller(revoked_at=NOW)):
        with pytest.raises(AuthenticationError) as caught:
            await authenticator_of(Keys(found)).identify(bearer(), ADDRESS, "responses")
        refusals.append(caught.value.body())
    assert refusals[0] == refusals[1]


async def test_a_known_key_is_not_asked_for_again_until_its_time(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    for _ in range(3):
        await authenticator.identify(bearer(), ADDRESS, "responses")
    clock.now += CACHE_SECONDS - 0.1
    await authenticator.identify(bearer(), ADDRESS, "responses")
    assert keys.queries == 1
    clock.now += 0.1
    await authenticator.identify(bearer(), ADDRESS, "responses")
    assert keys.queries == 2


async def test_a_revocation_is_seen_when_the_cache_runs_out(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    await authenticator.identify(bearer(), ADDRESS, "responses")
    keys.found[HASHER.hash(KEY)] = make_caller(revoked_at=NOW)
    clock.now += CACHE_SECONDS
    with pytest.raises(AuthenticationError):
        await authenticator.identify(bearer(), ADDRESS, "responses")


async def test_a_key_that_is_made_later_is_found_when_the_cache_runs_out(clock: Clock) -> None:
    keys = Keys()
    authenticator = authenticator_of(keys)
    with pytest.raises(AuthenticationError):
        await authenticator.identify(bearer(), ADDRESS, "responses")
    keys.found[HASHER.hash(KEY)] = make_caller()
    clock.now += CACHE_SECONDS
    assert (await authenticator.identify(bearer(), ADDRESS, "responses")).id == "key_1"


async def test_a_known_key_serves_for_a_minute_while_the_database_is_down(
    authenticator: Authenticator, keys: Keys, clock: Clock
) -> None:
    await authenticator.identify(bearer(), ADDRESS, "responses")
    keys.error = StorageError("The database is down.")
    clock.now += 59.9
    assert (await authenticator.identify(bearer(), ADDRESS, "responses")).id == "key_1"
    clock.now += 0.1
    with pytest.raises(StorageError):
        await authenticator.identify(bearer(), ADDRESS, "responses")
    keys.error = None
    assert (await authenticator.identify(bearer(), ADDRESS, "responses")).id == "key_1"


async def test_a_known_key_serves_soon_while_the_database_does_not_answer(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "_PATIENCE_SECONDS", 0.01)
    keys = Keys(make_caller())
    authenticator = authenticator_of(keys)
    await authenticator.identify(bearer(), ADDRESS, "responses")

    async def hang(_: bytes) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(keys, "find", hang)
    clock.now += CACHE_SECONDS
    async with asyncio.timeout(20):
        assert (await authenticator.identify(bearer(), ADDRESS, "responses")).id == make_caller().id


async def test_a_refused_key_stays_refused_while_the_database_is_down(clock: Clock) -> None:
    keys = Keys(make_caller(revoked_at=NOW))
    authenticator = authenticator_of(keys)
    for _ in range(2):
        with pytest.raises(AuthenticationError):
            await authenticator.identify(bearer(), ADDRESS, "responses")
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
            await authenticator.identify(bearer(), ADDRESS, "responses")
    # Nor does it leave one behind.
    keys.error = None
    keys.found.clear()
    with pytest.raises(AuthenticationError):
        await authenticator.identify(bearer(), ADDRESS, "responses")


async def test_the_memory_of_keys_is_bounded(
    authenticator: Authenticator, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "_CACHED_KEYS", 2)
    made = [mint_key() for _ in range(3)]
    keys.found |= {HASHER.hash(key): make_caller() for key in made}
    for key in made:
        await authenticator.identify(bearer(key), ADDRESS, "responses")
    assert len(authenticator._known) == 2
    await authenticator.identify(bearer(made[2]), ADDRESS, "responses")
    assert keys.queries == 3
    await authenticator.identify(bearer(made[0]), ADDRESS, "responses")
    assert keys.queries == 4
