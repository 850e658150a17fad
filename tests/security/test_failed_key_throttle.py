"""Addresses that try API keys in vain have to wait, and nobody else has."""

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from app.errors import AuthenticationError, StorageError
from app.security import authentication, failed_key_throttle
from app.security.authentication import Authenticator, mint_key
from app.security.failed_key_throttle import Throttle, ThrottledError
from tests.builders import make_caller
from tests.fakes.key_store import ADDRESS, CACHE_SECONDS, HASHER, KEY, Clock, Keys, authenticator_of, bearer


async def fail(authenticator: Authenticator, address: str | None = ADDRESS, key: str = "") -> None:
    with pytest.raises(AuthenticationError):
        await authenticator.identify(bearer(key or mint_key()), address, "responses")


async def refusal(authenticator: Authenticator, address: str | None = ADDRESS, key: str = "") -> ThrottledError:
    with pytest.raises(ThrottledError) as caught:
        await authenticator.identify(bearer(key or mint_key()), address, "responses")
    return caught.value


def is_refused(throttle: Throttle, address: str | None) -> bool:
    try:
        throttle.check(address)
    except ThrottledError:
        return True
    return False


async def test_an_address_that_has_tried_too_many_keys_waits_without_a_query(keys: Keys, clock: Clock) -> None:
    authenticator = authenticator_of(keys, failed_keys_per_minute=6)
    for _ in range(6):
        await fail(authenticator)
    told = await refusal(authenticator)
    assert (told.status, told.code, told.type) == (429, "rate_limit_exceeded", "rate_limit_error")
    assert told.headers == {"retry-after": "10", "retry-after-ms": "10000"}
    assert "10s" in told.message
    # What is no key at all could be a master key that is guessed.
    await refusal(authenticator, key="nonsense")
    assert keys.queries == 6
    clock.now += 10
    await fail(authenticator)
    await refusal(authenticator)
    assert keys.queries == 7


async def test_a_good_key_of_that_address_serves_if_it_is_known_and_else_has_to_wait(keys: Keys, clock: Clock) -> None:
    other = mint_key()
    keys.found[HASHER.hash(other)] = make_caller()
    authenticator = authenticator_of(keys, failed_keys_per_minute=1)
    await authenticator.identify(bearer(), ADDRESS, "responses")
    await fail(authenticator)
    await refusal(authenticator, key=other)
    # It is known, also when it has to be read again.
    clock.now += CACHE_SECONDS
    assert await authenticator.identify(bearer(), ADDRESS, "responses")
    assert await authenticator.identify(bearer(other), "198.51.100.1", "responses")
    clock.now += 60
    assert await authenticator.identify(bearer(other), ADDRESS, "responses")


async def test_good_keys_cost_nothing_however_many_come_at_once(keys: Keys, clock: Clock) -> None:
    made = [mint_key() for _ in range(20)]
    keys.found |= {HASHER.hash(key): make_caller() for key in made}
    authenticator = authenticator_of(keys, failed_keys_per_minute=2)
    await fail(authenticator)
    for key in made:
        await authenticator.identify(bearer(key), ADDRESS, "responses")
    await fail(authenticator)


async def test_one_wrong_key_that_is_tried_again_and_again_is_no_flood(keys: Keys, clock: Clock) -> None:
    authenticator = authenticator_of(keys, failed_keys_per_minute=2)
    wrong = mint_key()
    for _ in range(20):
        await fail(authenticator, key=wrong)
    assert keys.queries == 1
    clock.now += CACHE_SECONDS
    await fail(authenticator, key=wrong)
    assert keys.queries == 2


async def test_a_revoked_key_is_no_guess(clock: Clock) -> None:
    authenticator = authenticator_of(Keys(replace(make_caller(), revoked_at=1)), failed_keys_per_minute=1)
    for _ in range(5):
        await fail(authenticator, key=KEY)
        clock.now += CACHE_SECONDS


async def test_a_database_that_is_down_is_nobodys_failure(keys: Keys, clock: Clock) -> None:
    authenticator = authenticator_of(keys, failed_keys_per_minute=1)
    keys.error = StorageError("Down.")
    for _ in range(5):
        with pytest.raises(StorageError):
            await authenticator.identify(bearer(mint_key()), ADDRESS, "responses")


async def test_keys_that_do_not_exist_take_no_place_from_keys_that_do(
    authenticator: Authenticator, keys: Keys, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "_CACHED_KEYS", 2)
    monkeypatch.setattr(authentication, "_CACHED_REFUSALS", 3)
    await authenticator.identify(bearer(), ADDRESS, "responses")
    for _ in range(10):
        await fail(authenticator)
    assert (len(authenticator._known), len(authenticator._refused)) == (1, 3)
    await authenticator.identify(bearer(), ADDRESS, "responses")
    assert keys.queries == 11


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        (None, "unix", True),
        (None, "192.0.2.1", False),
    ],
)
def test_an_ipv6_network_of_one_customer_counts_as_one(
    one: str | None, other: str, are_one: bool, clock: Clock
) -> None:
    throttled = Throttle(1)
    throttled.count(one)
    assert is_refused(throttled, one)
    assert is_refused(throttled, other) is are_one


def test_a_debt_is_a_minute_at_most(clock: Clock) -> None:
    throttled = Throttle(60)
    for _ in range(1000):
        throttled.count(ADDRESS)
    clock.now += 60
    assert is_refused(throttled, ADDRESS)
    clock.now += 1
    assert not is_refused(throttled, ADDRESS)


def test_the_memory_of_addresses_is_bounded_and_forgives_nobody(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed_key_throttle, "_MOST_ADDRESSES", 2)
    throttled = Throttle(1)
    for last in range(4):
        throttled.count(f"192.0.2.{last}")
    assert len(throttled._buckets) == 2
    assert [is_refused(throttled, f"192.0.2.{last}") for last in range(6)] == [True] * 6
    clock.now += 60
    throttled.count("192.0.2.9")
    assert len(throttled._buckets) == 2
    assert [is_refused(throttled, f"192.0.2.{last}") for last in (0, 1, 5, 9)] == [False, False, False, True]


def test_one_line_a_minute_tells_of_an_address_with_a_count(clock: Clock) -> None:
    throttled = Throttle(1)
    with capture_logs() as lines:
        for _ in range(4):
            for address in (ADDRESS, None):
                throttled.count(address)
                for _ in range(10):
                    assert is_refused(throttled, address)
            clock.now += 20
    assert [(line["address"], line["refused"]) for line in lines] == [
        (ADDRESS, 1),
        ("none", 1),
        (ADDRESS, 30),
        ("none", 30),
    ]
