"""What faults make of an account, for how long, and how it comes back."""

import pytest

from app.state.account_conditions import Condition, Recovery
from app.upstream.faults.classification import Blame
from app.upstream.pool.pool import Pool
from app.upstream.pool.selection import PoolRequest
from tests.upstream.ailing import WISH, fail, names, probe, serve, usable
from tests.upstream.rig import KEYS, Clock, cooling, fault, key_settings, upstream_settings


def test_a_rate_limited_account_is_left_out_for_as_long_as_it_was_told_and_not_a_moment_less(
    pool: Pool, clock: Clock, news: list[Condition | Recovery]
) -> None:
    one, two, three = pool.accounts()
    fail(pool, one, "rate", 15)
    assert news == [Condition(one.name, "", "cooling", 15, 0, "HTTP 4xx")]
    clock.now += 14.999
    assert usable(pool, prefer=one.name) == names(two, three)
    clock.now += 0.001
    assert usable(pool) == names(one, two, three)
    # Nobody has to be told: it was over by itself.
    assert len(news) == 1


def test_a_limit_that_is_said_to_end_at_once_is_left_alone_twice_as_long_each_time(pool: Pool, clock: Clock) -> None:
    one, *_ = pool.accounts()
    for least in (1, 2, 4, 8, 8):
        # What was in flight when the limit was met is not another one.
        for _ in range(3):
            fail(pool, one, "rate", 0)
        assert least <= pool.rest(one) <= 1.1 * least
        clock.now += pool.rest(one)
    serve(pool, one)
    fail(pool, one, "rate", 0)
    assert 1 <= pool.rest(one) <= 1.1


def test_a_longer_rest_is_kept_to_the_moment_however_often_it_is_asked_for(pool: Pool, clock: Clock) -> None:
    one, *_ = pool.accounts()
    for _ in range(6):
        fail(pool, one, "rate", 15)
        assert pool.rest(one) == 15
        clock.now += 15


def test_a_rate_limit_without_a_time_lasts_one_cool_down(pool: Pool) -> None:
    one, *_ = pool.accounts()
    fail(pool, one, "rate")
    assert pool.rest(one) == 10


def test_a_shorter_rest_does_not_end_a_longer_one(pool: Pool, news: list[Condition | Recovery]) -> None:
    one, *_ = pool.accounts()
    fail(pool, one, "rate", 300)
    fail(pool, one, "rate", 1)
    pool.apply([cooling(one, 2)])
    assert pool.rest(one) == 300
    assert len(news) == 1


@pytest.mark.parametrize("blame", ["rate", "quota"])
def test_keys_that_share_a_limit_rest_together(blame: Blame, clock: Clock) -> None:
    told: list[Condition | Recovery] = []
    keys = [key_settings(f"sk-{number}", quota_group="org" if number < 2 else None) for number in range(3)]
    pool = Pool([upstream_settings(keys=tuple(keys))], 10.0, clock, on_change=told.append)
    one, two, three = pool.accounts()
    fail(pool, one, blame, 20)
    assert usable(pool) == names(three)
    assert {change.account for change in told} == names(one, two)


def test_a_refused_key_is_dead_until_a_probe_succeeds_and_is_probed_once_per_step(
    pool: Pool, clock: Clock, news: list[Condition | Recovery]
) -> None:
    one, two, three = pool.accounts()
    fail(pool, one, "key")
    fail(pool, one, "key")
    assert [(change.state, change.step) for change in news if isinstance(change, Condition)] == [("dead", 0)]
    for step in range(9):
        rest = pool.rest(one)
        assert min(30 * 2**step, 3600) <= rest <= 1.1 * min(30 * 2**step, 3600)
        assert usable(pool) == names(two, three)
        clock.now += rest
        checkout = probe(pool)
        assert checkout.account is one
        # While it is under way nobody else finds out.
        assert usable(pool) == names(two, three)
        pool.fail(checkout, fault("key"))
        checkout.end()
    clock.now += pool.rest(one)
    checkout = probe(pool)
    pool.serve(checkout, {})
    assert news[-1] == Recovery(one.name, "")
    assert usable(pool) == names(one, two, three)
    assert pool.report()[0].state == "usable"


def test_a_probe_that_found_out_nothing_is_made_by_the_next_call(pool: Pool, clock: Clock) -> None:
    one, *_ = pool.accounts()
    fail(pool, one, "key")
    clock.now += 40
    probe(pool).end()
    assert probe(pool).account is one


def test_a_call_that_prefers_a_healthy_account_makes_no_probe(pool: Pool, clock: Clock) -> None:
    one, two, _ = pool.accounts()
    fail(pool, one, "key")
    clock.now += 40
    checkout = pool.take(PoolRequest(model="m", prefer=two.name))
    assert checkout is not None
    assert checkout.account is two


def test_a_dead_key_that_is_rate_limited_lives(pool: Pool, clock: Clock, news: list[Condition | Recovery]) -> None:
    one, *_ = pool.accounts()
    fail(pool, one, "key")
    clock.now += 40
    checkout = probe(pool)
    pool.fail(checkout, fault("rate", 5))
    checkout.end()
    assert (pool.report()[0].state, pool.rest(one)) == ("cooling", 5)
    # The others hear of both.
    assert Recovery(one.name, "", "dead") in news


@pytest.mark.parametrize("blame", ["key", "quota"])
def test_a_rate_limit_of_a_call_that_was_under_way_makes_no_refused_key_usable(
    pool: Pool, clock: Clock, news: list[Condition | Recovery], blame: Blame
) -> None:
    one, two, three = pool.accounts()
    fail(pool, one, blame)
    fail(pool, one, "rate", 5000)
    assert [change.state for change in news if isinstance(change, Condition)][1:] == ["cooling"]
    assert pool.report()[0].state in {"dead", "parked"}
    # It is probed once both are over: until then upstream is left alone.
    assert pool.rest(one) == 5000
    clock.now += 4999
    assert usable(pool) == names(two, three)
    clock.now += 1
    assert probe(pool).account is one


def test_an_open_breaker_is_no_last_resort_while_its_account_is_limited(pool: Pool, clock: Clock) -> None:
    one, two, three = pool.accounts()
    for account in (one, two, three):
        for _ in range(5):
            fail(pool, account, "server")
    fail(pool, one, "rate", 20)
    assert usable(pool) == names(two, three)
    # An answer closes the breaker, and ends no limit.
    serve(pool, one)
    assert (pool.report()[0].state, pool.rest(one)) == ("cooling", 20)
    clock.now += 20
    assert usable(pool) == names(one)


def test_a_spent_quota_is_parked_for_an_hour_and_then_longer(pool: Pool, clock: Clock) -> None:
    one, two, three = pool.accounts()
    fail(pool, one, "quota")
    for hours in (1, 2, 4, 8, 16, 24, 24):
        assert 3600 * hours <= pool.rest(one) <= 1.1 * 3600 * hours
        assert usable(pool) == names(two, three)
        clock.now += pool.rest(one)
        checkout = probe(pool)
        pool.fail(checkout, fault("quota"))
        checkout.end()


def test_an_account_in_doubt_comes_last_until_it_serves_or_time_has_passed(pool: Pool, clock: Clock) -> None:
    one, two, three = pool.accounts()
    fail(pool, one, "server")
    fail(pool, two, "server")
    assert {pool.first(WISH).name for _ in range(20)} == names(three)
    serve(pool, two)
    assert {pool.first(WISH).name for _ in range(60)} == names(two, three)
    clock.now += 10
    assert {pool.first(WISH).name for _ in range(60)} == names(one, two, three)


def test_five_failures_in_a_row_open_the_breaker_and_a_probe_closes_it(
    pool: Pool, clock: Clock, news: list[Condition | Recovery]
) -> None:
    one, two, three = pool.accounts()
    for _ in range(4):
        fail(pool, one, "server")
    serve(pool, one)
    for _ in range(4):
        fail(pool, one, "server")
    assert news == []
    fail(pool, one, "server")
    for step in range(3):
        rest = pool.rest(one)
        assert 30 * (step + 1) <= rest <= 33 * (step + 1)
        assert usable(pool) == names(two, three)
        clock.now += rest
        checkout = probe(pool)
        pool.fail(checkout, fault("server"))
        checkout.end()
    clock.now += pool.rest(one)
    pool.serve(probe(pool), {})
    assert news[-1] == Recovery(one.name, "", "open")
    assert usable(pool) == names(one, two, three)


def test_an_open_breaker_never_leaves_a_model_without_an_account(pool: Pool) -> None:
    one, two, three = pool.accounts()
    for account in (one, two, three):
        for _ in range(5):
            fail(pool, account, "server")
    assert usable(pool) == names(one, two, three)
    serve(pool, two)
    assert usable(pool) == names(two)
    fail(pool, two, "rate", 20)
    assert usable(pool) == names(one, three)


def test_an_upstream_that_cannot_be_reached_is_in_doubt_with_all_its_keys(clock: Clock) -> None:
    upstreams = [
        upstream_settings("http://a/v1", *KEYS, name="down"),
        upstream_settings("http://b/v1", KEYS[0], name="up"),
    ]
    pool = Pool(upstreams, 10.0, clock)
    fail(pool, pool.accounts()[0], "unreachable")
    assert {pool.first(WISH).upstream.name for _ in range(10)} == {"up"}


def test_a_model_that_an_account_lacks_is_removed_from_that_account_only(
    pool: Pool, clock: Clock, news: list[Condition | Recovery]
) -> None:
    one, two, three = pool.accounts()
    checkout = pool.checkout(one)
    checkout.model = "m"
    pool.fail(checkout, fault("model"))
    checkout.end()
    assert usable(pool) == names(two, three)
    assert usable(pool, model="other") == names(one, two, three)
    # Nobody is told before it is known that there is such a model.
    assert news == []
    pool.confirm_model_missing(one, "m", "HTTP 404")
    assert news == [Condition(one.name, "m", "removed", 3600, 0, "HTTP 404")]
    assert [condition.model for condition in pool.report()[0].conditions] == ["m"]
    clock.now += 3599
    assert usable(pool) == names(two, three)
    clock.now += 1
    assert usable(pool) == names(one, two, three)


def test_models_that_clients_invent_take_no_memory(pool: Pool) -> None:
    one, *_ = pool.accounts()
    for number in range(1000):
        checkout = pool.checkout(one)
        checkout.model = f"m-{number}"
        pool.fail(checkout, fault("model"))
        checkout.end()
    assert len(pool.report()[0].conditions) <= 256
