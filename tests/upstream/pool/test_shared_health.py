"""What other processes find out about an account, and what this one makes of it."""

import pytest

from app.state.account_conditions import Condition, Recovery
from app.upstream.pool.pool import Pool
from tests.upstream.ailing import fail, names, probe, usable
from tests.upstream.rig import KEYS, Clock, cooling, fault, upstream_settings


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def replica(clock: Clock) -> Pool:
    """A pool of another process, which has to be granted its probes."""
    return Pool([upstream_settings("http://a/v1", *KEYS)], 10.0, clock, is_alone=False)


def test_what_another_process_found_counts_here_and_is_probed_only_when_granted(replica: Pool, clock: Clock) -> None:
    one, two, three = replica.accounts()
    replica.apply([Condition(one.name, "", "dead", 30, 0, "HTTP 401"), cooling(two, 15)])
    replica.apply([Condition("main/unknown", "", "dead", 30, 0, "HTTP 401")])
    assert usable(replica) == names(three)
    clock.now += 31
    assert usable(replica) == names(two, three)
    replica.grant_probe(one.name, "")
    checkout = probe(replica)
    assert checkout.account is one
    replica.serve(checkout, {})
    assert usable(replica) == names(one, two, three)


def test_a_recovery_elsewhere_ends_an_illness_but_no_rate_limit(replica: Pool) -> None:
    one, two, three = replica.accounts()
    fail(replica, one, "key")
    fail(replica, two, "rate", 20)
    replica.apply([Condition(three.name, "m", "removed", 3600, 0, "HTTP 404")])
    replica.apply([Recovery(account.name, "") for account in (one, two, three)])
    assert usable(replica) == names(one)
    replica.apply([Recovery(three.name, "m")])
    assert usable(replica) == names(one, three)


def test_hearing_the_same_again_changes_nothing(replica: Pool, clock: Clock) -> None:
    one, *_ = replica.accounts()
    dead = Condition(one.name, "", "dead", 30, 0, "HTTP 401")
    replica.apply([dead])
    clock.now += 30
    replica.grant_probe(one.name, "")
    replica.apply([Condition(one.name, "", "dead", 0, 0, "HTTP 401")])
    checkout = probe(replica)
    replica.apply([Condition(one.name, "", "dead", 0, 0, "HTTP 401")])
    replica.fail(checkout, fault("key"))
    assert pytest.approx(replica.rest(one), abs=7) == 63


def test_a_grant_ends_no_rate_limit(replica: Pool) -> None:
    one, two, three = replica.accounts()
    fail(replica, one, "rate", 20)
    replica.grant_probe(one.name, "")
    assert usable(replica) == names(two, three)


def test_a_rate_limit_that_another_process_met_hides_nothing_worse(replica: Pool, clock: Clock) -> None:
    one, two, three = replica.accounts()
    fail(replica, one, "key")
    replica.apply([cooling(one, 5)])
    clock.now += 40
    assert usable(replica) == names(two, three)
    assert replica.report()[0].state == "dead"
    replica.grant_probe(one.name, "")
    assert probe(replica).account is one


def test_a_recovery_from_something_milder_leaves_what_is_worse(replica: Pool) -> None:
    one, two, three = replica.accounts()
    fail(replica, one, "key")
    replica.apply([Recovery(one.name, "", "open")])
    assert usable(replica) == names(two, three)
    replica.apply([Recovery(one.name, "", "dead")])
    assert usable(replica) == names(one, two, three)


def test_what_another_process_probed_in_the_meantime_is_taken_over(replica: Pool) -> None:
    one, *_ = replica.accounts()
    fail(replica, one, "key")
    replica.apply([Condition(one.name, "", "parked", 3600, 0, "HTTP 429")])
    assert (replica.report()[0].state, replica.rest(one)) == ("parked", 3600)


def test_what_was_granted_to_nobody_long_after_its_time_is_told_again_once_in_a_while(clock: Clock) -> None:
    told: list[Condition | Recovery] = []
    replica = Pool([upstream_settings("http://a/v1", *KEYS)], 10.0, clock, is_alone=False, on_change=told.append)
    one, two, _ = replica.accounts()
    fail(replica, one, "key")
    fail(replica, two, "rate", 20)
    told.clear()
    clock.now += 33
    replica.ask_again(3.0)
    assert told == []
    clock.now += 5
    for _ in range(3):
        replica.ask_again(3.0)
    assert told == [Condition(one.name, "", "dead", 3.0, 0, "HTTP 4xx")]
    clock.now += 9
    replica.grant_probe(one.name, "")
    replica.ask_again(3.0)
    assert len(told) == 1
