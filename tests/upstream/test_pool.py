import pytest

from app.errors import InvalidRequestError, UpstreamError
from app.upstream.pool import Pool, PoolExhaustedError
from tests.upstream.rig import KEYS, upstream_settings


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


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


def names(pool: Pool, model: str = "gpt-5", **how: str | None) -> list[int]:
    places = [account.name for account in pool.accounts()]
    return [places.index(account.name) for account in pool.candidates(model, **how)]


def test_a_later_upstream_comes_after_the_accounts_of_the_earlier_one(pool: Pool) -> None:
    assert names(pool) == [0, 1, 2, 3]
    assert names(pool, "llama") == [3]


def test_equals_take_turns(pool: Pool) -> None:
    firsts = []
    for _ in range(6):
        account = pool.candidates("gpt-5")[0]
        firsts.append(pool.accounts().index(account))
        pool.lease(account).end()
    assert firsts == [0, 1, 2, 0, 1, 2]


def test_the_least_busy_account_comes_first(pool: Pool) -> None:
    one, two, three, _ = pool.accounts()
    leases = [pool.lease(account) for account in (one, one, two, three, three)]
    assert names(pool)[:3] == [1, 0, 2]
    assert [pool.in_flight(account) for account in (one, two, three)] == [2, 1, 2]
    for lease in leases:
        lease.end()
    assert [pool.in_flight(account) for account in (one, two, three)] == [0, 0, 0]


def test_a_lease_that_is_ended_twice_is_returned_once(pool: Pool) -> None:
    account = pool.accounts()[0]
    lease = pool.lease(account)
    pool.lease(account)
    lease.end()
    lease.end()
    assert pool.in_flight(account) == 1


def test_the_preferred_account_comes_first_even_when_it_is_busy(pool: Pool) -> None:
    preferred = pool.accounts()[3]
    pool.lease(preferred)
    assert names(pool, prefer=preferred.name) == [3, 0, 1, 2]
    assert names(pool, prefer="first/gone") == names(pool)


def test_a_cooling_account_is_left_out_until_its_time(pool: Pool, clock: Clock) -> None:
    account = pool.accounts()[0]
    pool.cool(account, 30)
    assert names(pool, prefer=account.name) == [1, 2, 3]
    assert pool.rest(account) == 30
    clock.now += 30
    assert names(pool, prefer=account.name) == [0, 1, 2, 3]
    assert pool.rest(account) == 0


def test_a_shorter_rest_does_not_end_a_longer_one(pool: Pool) -> None:
    account = pool.accounts()[0]
    pool.cool(account, 300)
    pool.cool(account, 1)
    assert pool.rest(account) == 300


def test_an_account_in_doubt_comes_last_until_it_serves_or_time_has_passed(pool: Pool, clock: Clock) -> None:
    one, two, *_ = pool.accounts()
    pool.doubt(one)
    pool.doubt(two)
    assert names(pool) == [2, 3, 0, 1]
    pool.trust(two)
    assert names(pool) == [1, 2, 3, 0]
    clock.now += 10
    assert names(pool) == [0, 1, 2, 3]


def test_an_only_account_in_doubt_is_still_used(pool: Pool) -> None:
    pool.doubt(pool.accounts()[3])
    assert names(pool, "llama") == [3]


def test_a_call_bound_to_an_account_gets_no_other(pool: Pool) -> None:
    assert names(pool, only=pool.accounts()[1].name) == [1]
    pool.cool(pool.accounts()[1], 5)
    with pytest.raises(PoolExhaustedError):
        pool.candidates("gpt-5", only=pool.accounts()[1].name)


def test_a_call_bound_to_an_account_that_is_gone_says_so(pool: Pool) -> None:
    with pytest.raises(UpstreamError) as caught:
        pool.candidates("gpt-5", only="first/0123456789ab")
    assert (caught.value.status, caught.value.code) == (502, "upstream_account_gone")


def test_a_model_that_no_upstream_serves_does_not_exist() -> None:
    pool = Pool([upstream_settings(models=("gpt-*",))], 10.0)
    with pytest.raises(InvalidRequestError) as caught:
        pool.candidates("llama")
    error = caught.value
    assert (error.status, error.code, error.param) == (400, "model_not_found", "model")
    assert error.message == "The requested model 'llama' does not exist."


def test_a_pool_that_rests_tells_when_the_first_account_is_back(pool: Pool) -> None:
    for account, seconds in zip(pool.accounts(), (40.0, 4.25, 90.0, 50.0), strict=True):
        pool.cool(account, seconds)
    assert pool.shortest_rest("gpt-5") == pytest.approx(4.25)
    with pytest.raises(PoolExhaustedError) as caught:
        pool.candidates("gpt-5")
    error = caught.value
    assert (error.status, error.code, error.type) == (429, "rate_limit_exceeded", "rate_limit_error")
    assert error.headers == {"retry-after": "5", "retry-after-ms": "4250"}


def test_a_rest_longer_than_an_sdk_waits_tells_it_not_to(pool: Pool) -> None:
    pool.cool(pool.accounts()[3], 61)
    with pytest.raises(PoolExhaustedError) as caught:
        pool.candidates("llama")
    assert caught.value.headers["x-should-retry"] == "false"
