"""What other processes find out about an account, and what this one makes of it."""

import pytest

from app.state.health import Condition, Recovery
from app.upstream.pool import Pool
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
    lease = probe(replica)
    assert lease.account is one
    replica.serve(lease, {})
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
    lease = probe(replica)
    replica.apply([Condition(one.name, "", "dead", 0, 0, "HTTP 401")])
    replica.fail(lease, fault("key"))
    assert pytest.approx(replica.rest(one), abs=7) == 63


def test_a_grant_ends_no_rate_limit(replica: Pool) -> None:
    one, two, three = replica.accounts()
    fail(replica, one, "rate", 20)
    replica.grant_probe(one.name, "")
    assert usable(replica) == names(two, three)
