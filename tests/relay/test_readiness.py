"""What proxies and early callers are told of a process that starts or ends."""

from app.relay.readiness import Readiness


def test_a_process_serves_from_its_opening_on_and_says_when_it_leaves() -> None:
    readiness = Readiness()
    assert (readiness.obstacle, readiness.is_leaving) == ("starting", False)
    readiness.serves()
    assert (readiness.obstacle, readiness.is_leaving) == (None, False)
    readiness.leaves()
    assert (readiness.obstacle, readiness.is_leaving) == (None, True)


def test_what_is_waited_for_is_told_until_it_is_there() -> None:
    readiness = Readiness()
    assert not readiness.is_waiting
    readiness.waits("the database cannot be reached")
    assert readiness.is_waiting
    refusal = readiness.refusal()
    assert "the database cannot be reached" in refusal.message
    assert (refusal.status, int(refusal.headers["retry-after"]) >= 1) == (503, True)
    readiness.serves()
    assert not readiness.is_waiting
