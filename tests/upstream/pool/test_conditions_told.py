"""What clients are told of accounts that are out, and what says nothing of them."""

from app.upstream.pool.cooldown import cooldown_seconds
from app.upstream.pool.pool import Pool
from tests.upstream.ailing import WISH, fail, names
from tests.upstream.rig import Clock


def test_content_that_an_account_cannot_read_says_nothing_against_it(pool: Pool) -> None:
    one, two, three = pool.accounts()
    fail(pool, one, "content")
    assert {pool.first(WISH).name for _ in range(60)} == names(one, two, three)


def test_a_pool_at_rest_tells_when_the_first_account_is_back(pool: Pool) -> None:
    for account, seconds in zip(pool.accounts(), (40.0, 4.25, 90.0), strict=True):
        fail(pool, account, "rate", seconds)
    assert pool.take(WISH) is None
    error = pool.exhausted(WISH)
    assert (error.status, error.code, error.type) == (429, "rate_limit_exceeded", "rate_limit_error")
    assert error.headers == {"retry-after": "5", "retry-after-ms": "4250"}


def test_a_rest_longer_than_an_sdk_waits_tells_it_not_to(pool: Pool) -> None:
    for account in pool.accounts():
        fail(pool, account, "rate", 61)
    assert pool.exhausted(WISH).headers["x-should-retry"] == "false"


def test_when_all_keys_are_dead_the_client_is_told_of_the_next_probe(pool: Pool, clock: Clock) -> None:
    for account in pool.accounts():
        fail(pool, account, "key")
        clock.now += 5
    error = pool.exhausted(WISH)
    assert (error.status, error.code) == (502, "upstream_authentication_error")
    assert 15 <= int(error.headers["retry-after"]) <= 19
    assert error.headers["x-should-retry"] == "false"


def test_a_model_that_every_account_lacks_does_not_exist(pool: Pool) -> None:
    for account in pool.accounts():
        pool.confirm_model_missing(account, "m", "HTTP 404")
    error = pool.exhausted(WISH)
    assert (error.status, error.code) == (400, "model_not_found")


def test_rests_have_an_end() -> None:
    assert [cooldown_seconds(state, 10_000) for state in ("dead", "parked", "open")] == [3600, 86_400, 600]
