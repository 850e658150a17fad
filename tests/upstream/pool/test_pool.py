"""Which account is next: tiers, weights, what is left of limits, caps, affinity."""

from collections import Counter
from typing import Any

import pytest

from app.errors import InvalidRequestError, UpstreamError
from app.upstream.faults.pool_exhausted import PoolExhaustedError
from app.upstream.pool.checkout import Checkout
from app.upstream.pool.pool import Pool
from app.upstream.pool.selection import PoolRequest
from tests.upstream.rig import KEYS, Clock, fault, key_settings, upstream_settings


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pool(clock: Clock) -> Pool:
    return Pool(
        [
            upstream_settings("http://a/v1", *KEYS, name="first", models=("gpt-*",)),
            upstream_settings("http://b/v1", KEYS[0], name="second", models=("*",)),
        ],
        10.0,
        clock,
    )


def pool_of(clock: Clock, *keys: dict[str, Any]) -> Pool:
    """One upstream with these keys."""
    settings = tuple(key_settings(f"sk-{number}", **key) for number, key in enumerate(keys))
    return Pool([upstream_settings(keys=settings)], 10.0, clock)


def take(pool: Pool, tried: set[str] | None = None, **wish: Any) -> Checkout:
    checkout = pool.take(PoolRequest(**{"model": "gpt-5", **wish}), tried or set())
    assert checkout is not None
    return checkout


def place(pool: Pool, checkout: Checkout) -> int:
    return [account.name for account in pool.accounts()].index(checkout.account.name)


def order(pool: Pool, **wish: Any) -> list[int]:
    """The places of the accounts that a call would try, in order; those of equals by their place."""
    tried: set[str] = set()
    found = []
    while (checkout := pool.take(PoolRequest(**{"model": "gpt-5", **wish}), tried)) is not None:
        tried.add(checkout.account.name)
        found.append(place(pool, checkout))
        checkout.end()
    return found


def shares(pool: Pool, calls: int = 300, **wish: Any) -> Counter[int]:
    """How often each account is next, when no call ends."""
    leases = [take(pool, **wish) for _ in range(calls)]
    found = Counter(place(pool, checkout) for checkout in leases)
    for checkout in leases:
        checkout.end()
    return found


def test_a_later_upstream_comes_after_the_accounts_of_the_earlier_one(pool: Pool) -> None:
    assert sorted(order(pool)[:3]) == [0, 1, 2]
    assert order(pool)[3:] == [3]
    assert order(pool, model="llama") == [3]


def test_a_tier_that_is_said_wins_over_the_place_in_the_file(clock: Clock) -> None:
    upstreams = [
        upstream_settings("http://a/v1", name="backup", tier=7),
        upstream_settings("http://b/v1", name="one", tier=2),
        upstream_settings("http://c/v1", name="two"),
    ]
    pool = Pool(upstreams, 10.0, clock)
    assert sorted(order(pool)[:2]) == [1, 2]
    assert order(pool)[2:] == [0]


def test_a_key_may_have_a_tier_of_its_own(clock: Clock) -> None:
    assert order(pool_of(clock, {"tier": 1}, {}, {"tier": 2})) == [1, 0, 2]


def test_equals_are_chosen_at_random(pool: Pool) -> None:
    found: Counter[int] = Counter()
    for _ in range(300):
        checkout = take(pool)
        found[place(pool, checkout)] += 1
        checkout.end()
    assert found.keys() == {0, 1, 2}
    assert min(found.values()) > 50


def test_the_least_busy_account_comes_first(pool: Pool) -> None:
    one, two, three, _ = pool.accounts()
    leases = [pool.checkout(account) for account in (one, one, two, three, three, three)]
    assert order(pool)[:3] == [1, 0, 2]
    assert [pool.in_flight(account) for account in (one, two, three)] == [2, 1, 3]
    for checkout in leases:
        checkout.end()
    assert [pool.in_flight(account) for account in (one, two, three)] == [0, 0, 0]


def test_a_lease_that_is_ended_twice_is_returned_once(pool: Pool) -> None:
    account = pool.accounts()[0]
    checkout = pool.checkout(account)
    pool.checkout(account)
    checkout.end()
    checkout.end()
    assert pool.in_flight(account) == 1


def test_calls_are_shared_out_by_weight(clock: Clock) -> None:
    found = shares(pool_of(clock, {"weight": 1}, {"weight": 2}, {"weight": 3}))
    assert [found[number] for number in range(3)] == [pytest.approx(share, abs=3) for share in (50, 100, 150)]


def test_a_key_with_little_left_of_its_limit_gets_less_until_that_is_old(clock: Clock) -> None:
    pool = pool_of(clock, {}, {})
    one, _ = pool.accounts()
    checkout = pool.checkout(one)
    told = {b"x-ratelimit-limit-requests": b"1000", b"x-ratelimit-remaining-requests": b"250"}
    pool.serve(checkout, {**told, b"x-ratelimit-limit-tokens": b"100", b"x-ratelimit-remaining-tokens": b"90"})
    checkout.end()
    assert shares(pool)[0] == pytest.approx(60, abs=3)
    assert (pool.report()[0].remaining_requests, pool.report()[0].remaining_tokens) == (250, 90)
    clock.now += 61
    assert shares(pool)[0] == pytest.approx(150, abs=3)


@pytest.mark.parametrize("left", [b"0", b"-3", b"", b"many", b"9" * 30, b"5"])
def test_headers_that_say_nothing_sensible_leave_every_key_in_use(clock: Clock, left: bytes) -> None:
    pool = pool_of(clock, {}, {})
    told = {b"x-ratelimit-limit-requests": b"0", b"x-ratelimit-remaining-requests": left}
    pool.serve(pool.checkout(pool.accounts()[0]), told)
    pool.serve(pool.checkout(pool.accounts()[0]), {b"x-ratelimit-remaining-tokens": left})
    assert shares(pool)[0] > 10


def test_the_preferred_account_comes_first_even_when_it_is_busy(pool: Pool) -> None:
    preferred = pool.accounts()[3]
    pool.checkout(preferred)
    checkout = take(pool, prefer=preferred.name)
    assert (checkout.account, checkout.wanted) == (preferred, preferred.name)
    assert take(pool, prefer="first/gone").account.upstream.name == "first"


def test_a_prompt_cache_stays_where_it_is_and_the_others_stay_when_one_is_lost(clock: Clock) -> None:
    pool = pool_of(clock, *[{}] * 8)
    keys = [f"cache-{number}" for number in range(200)]
    homes = {key: take(pool, cache_key=key).account.name for key in keys}
    assert homes == {key: take(pool, cache_key=key).account.name for key in keys}
    assert min(Counter(homes.values()).values()) > 8
    lost = pool.accounts()[3]
    pool.fail(pool.checkout(lost), fault("key"))
    moved = {key: take(pool, cache_key=key).account.name for key in keys}
    assert {key for key in keys if moved[key] != homes[key]} == {key for key in keys if homes[key] == lost.name}
    # They do not all go to the same.
    assert len({moved[key] for key in keys if homes[key] == lost.name}) > 2


def test_an_account_that_was_tried_is_not_tried_again(pool: Pool) -> None:
    one = pool.accounts()[0].name
    assert take(pool, {one}, prefer=one).account.name != one
    assert pool.take(PoolRequest(model="gpt-5", only=one), {one}) is None


def test_a_call_bound_to_an_account_gets_no_other(pool: Pool) -> None:
    one = pool.accounts()[1]
    assert order(pool, only=one.name) == [1]
    pool.fail(pool.checkout(one), fault("rate", 5))
    assert pool.take(PoolRequest(model="gpt-5", only=one.name)) is None
    with pytest.raises(PoolExhaustedError):
        pool.first(PoolRequest(model="gpt-5", only=one.name))


def test_a_call_bound_to_an_account_that_is_gone_says_so(pool: Pool) -> None:
    with pytest.raises(UpstreamError) as caught:
        pool.take(PoolRequest(model="gpt-5", only="first/0123456789ab"))
    assert (caught.value.status, caught.value.code) == (502, "upstream_account_gone")


def test_a_model_that_no_upstream_serves_does_not_exist(clock: Clock) -> None:
    pool = Pool([upstream_settings(models=("gpt-*",))], 10.0, clock)
    with pytest.raises(InvalidRequestError) as caught:
        pool.take(PoolRequest(model="llama"))
    error = caught.value
    assert (error.status, error.code, error.param) == (400, "model_not_found", "model")
    assert error.message == "The requested model 'llama' does not exist."


def test_names_of_models_that_clients_invent_take_no_memory(clock: Clock) -> None:
    pool = Pool([upstream_settings()], 10.0, clock)
    for number in range(2000):
        take(pool, model=f"m-{number}").end()
    take(pool, model="m" * 10_000).end()
    assert len(pool._members._candidates) <= 256
    assert len(pool._members._serving) <= 256


def test_no_more_calls_are_in_flight_than_the_cap(clock: Clock) -> None:
    pool = pool_of(clock, {"concurrency": 2}, {"concurrency": 1, "tier": 1})
    one, two, three = take(pool), take(pool), take(pool)
    assert [place(pool, checkout) for checkout in (one, two, three)] == [0, 0, 1]
    wish = PoolRequest(model="gpt-5")
    assert pool.take(wish) is None
    with pytest.raises(PoolExhaustedError):
        pool.first(wish)
    two.end()
    assert place(pool, take(pool)) == 0


def test_no_more_calls_begin_in_a_minute_than_the_cap(clock: Clock) -> None:
    pool = pool_of(clock, {"requests_per_minute": 3})
    for second in (0, 10, 20):
        clock.now = 1000.0 + second
        take(pool).end()
    wish = PoolRequest(model="gpt-5")
    assert pool.take(wish) is None
    assert pool.exhausted(wish).headers["retry-after"] == "40"
    clock.now = 1060.0
    take(pool).end()
    assert pool.take(wish) is None
    assert pool.exhausted(wish).headers["retry-after"] == "10"


def test_a_preferred_account_at_its_cap_is_left(clock: Clock) -> None:
    pool = pool_of(clock, {"concurrency": 1}, {})
    name = pool.accounts()[0].name
    assert [place(pool, take(pool, prefer=name)) for _ in range(2)] == [0, 1]


def test_an_administrator_takes_accounts_out_of_service_and_back(pool: Pool) -> None:
    one, two, three, four = pool.accounts()
    pool.control(one.name, "disabled")
    pool.control(two.name, "draining")
    assert order(pool) == [2, 3]
    assert order(pool, prefer=two.name) == [2, 3]
    assert order(pool, only=two.name) == [1]
    assert order(pool, only=one.name) == []
    assert [state.state for state in pool.report()] == ["disabled", "draining", "usable", "usable"]
    pool.control(three.name, "disabled")
    pool.control(four.name, "disabled")
    error = pool.exhausted(PoolRequest(model="gpt-5"))
    assert (error.status, error.code) == (503, "upstream_disabled")
    pool.control(one.name, "enabled")
    assert order(pool) == [0]


def test_accounts_come_and_go_and_those_that_stay_keep_what_is_known_of_them(pool: Pool, clock: Clock) -> None:
    one, two, *_ = pool.accounts()
    checkout = pool.checkout(one)
    gone = pool.checkout(two)
    pool.fail(pool.checkout(one), fault("rate", 30))
    again = Pool([upstream_settings("http://new/v1", *KEYS[::2], name="first", tier=3)], 10.0, clock).accounts()
    pool.configure(again)
    assert [account.name for account in pool.accounts()] == [account.name for account in again]
    assert pool.upstreams[0].base_url == "http://new/v1"
    assert (pool.in_flight(one), pool.rest(one), pool.report()[0].tier) == (2, 30, 3)
    gone.end()
    checkout.end()
    assert pool.in_flight(one) == 1
    assert pool.account(two.name) is None
    assert place(pool, take(pool)) == 1
