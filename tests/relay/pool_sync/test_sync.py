"""Two processes on one database: what one pool finds out the other obeys, and a dead key is probed by one of them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from sqlalchemy import text

from app.errors import StorageError
from app.relay.pool_sync.served_upstreams import DEMO
from app.security.encryption import Vault
from app.security.key_ring import KeyRing
from app.state.upstreams import StoredKey, StoredUpstream
from app.storage.schema_migration import open_for_migration
from app.storage.upstreams.store import AddKey, ControlAccount, CreateUpstream, RemoveKey
from app.upstream.account import account_name
from app.upstream.pool.checkout import Checkout
from tests.fakes.kept_pool import MAIN, ONE, TWO, VAULT, Process, age, fault, process

pytestmark = pytest.mark.slow_on_postgresql


@pytest.fixture
async def two(database_url: str) -> AsyncIterator[tuple[Process, Process]]:
    async with AsyncExitStack() as stack:
        yield (
            await stack.enter_async_context(process(database_url, MAIN)),
            await stack.enter_async_context(process(database_url, MAIN)),
        )


async def test_a_rate_limit_is_obeyed_by_the_other_process(two: tuple[Process, Process]) -> None:
    here, there = two
    here.fail(ONE, "rate", 15.0)
    await there.until(lambda: there.state(ONE).state == "cooling")
    assert 13.0 <= there.state(ONE).rest <= 17.0
    assert there.state(ONE).reason == "scripted"
    assert there.state(TWO).state == "usable"
    # What comes back of one's own is no news.
    assert here.state(ONE).rest <= 15.0


async def test_who_refuses_to_be_asked_for_reasoning_is_known_to_both(two: tuple[Process, Process]) -> None:
    here, there = two
    here.pool.reasoning_refusals.add("main", "some-model")
    await there.until(lambda: there.pool.reasoning_refusals.has("main", "some-model"))


async def test_a_state_survives_a_restart(database_url: str) -> None:
    async with process(database_url, MAIN) as first:
        first.fail(ONE, "key")
        first.fail(TWO, "rate", 20.0)
        await first.until(lambda: len(first.pool_sync._marks) == 2)
    async with process(database_url, MAIN) as second:
        assert (second.state(ONE).state, second.state(TWO).state) == ("dead", "cooling")
        assert second.state(ONE).rest > 20.0


@pytest.mark.parametrize("is_alone", [True, False])
async def test_a_dead_key_is_probed_when_its_time_has_come(database_url: str, is_alone: bool) -> None:
    async with process(database_url, MAIN, is_alone=is_alone) as first:
        first.fail(ONE, "key")
        await first.until(lambda: bool(first.pool_sync._marks))
        assert first.probe() is None
    age(database_url)
    async with process(database_url, MAIN, is_alone=is_alone) as second:
        await second.until(lambda: second.probe() is not None)


@pytest.mark.slow
async def test_of_two_processes_one_may_probe_and_its_success_is_both_ones(
    two: tuple[Process, Process], database_url: str
) -> None:
    here, there = two
    here.fail(ONE, "key")
    await there.until(lambda: there.state(ONE).state == "dead")
    age(database_url, here, there)
    probes: dict[int, Checkout] = {}

    def is_granted() -> bool:
        probes.update({number: lease for number, one in enumerate(two) if (lease := one.probe()) is not None})
        return bool(probes)

    await here.until(is_granted)
    ((number, probe),) = probes.items()
    prober, other = two[number], two[1 - number]
    # It is told that it has to wait for the other's.
    await other.until(lambda: other.state(ONE).rest > 20.0)
    assert other.probe() is None
    assert prober.probe() is None
    prober.pool.serve(probe, {})
    probe.end()
    await other.until(lambda: other.state(ONE).state == "usable")
    assert prober.state(ONE).state == "usable"


@pytest.mark.slow
async def test_a_probe_that_fails_makes_the_rest_of_both_longer(
    two: tuple[Process, Process], database_url: str
) -> None:
    here, there = two
    here.fail(ONE, "key")
    await there.until(lambda: there.state(ONE).state == "dead")
    age(database_url, here, there)
    granted: list[tuple[Process, Checkout]] = []

    def is_granted() -> bool:
        # Either may have seen first that it is time.
        granted.extend((one, probe) for one in two if (probe := one.probe()) is not None)
        return bool(granted)

    await here.until(is_granted)
    ((prober, probe),) = granted
    prober.pool.fail(probe, fault("key"))
    other = there if prober is here else here
    await other.until(lambda: other.state(ONE).rest > 45.0)


@pytest.mark.slow
@pytest.mark.parametrize(("worse", "milder"), [("key", "rate"), ("key", "quota"), ("quota", "rate")])
async def test_what_both_find_at_once_is_the_worse_for_both_and_has_a_next_probe(
    two: tuple[Process, Process], database_url: str, worse: str, milder: str
) -> None:
    here, there = two
    here.fail(ONE, worse)
    there.fail(ONE, milder, 2.0)
    state = {"key": "dead", "quota": "parked"}[worse]
    await there.until(lambda: there.state(ONE).state == state)
    assert here.state(ONE).state == state
    age(database_url, here, there, minutes=70)
    await here.until(lambda: any(one.probe() for one in two))


@pytest.mark.slow
async def test_a_probe_is_for_the_process_that_has_a_call_for_it(
    two: tuple[Process, Process], database_url: str
) -> None:
    here, there = two
    here.fail(ONE, "key")
    await there.until(lambda: there.state(ONE).state == "dead")
    assert here.probe() is None
    # The other looks as often, and has nobody to ask for.
    with open_for_migration(database_url) as connection:
        connection.execute(text("UPDATE conditions SET until = until - 28"))
    here.clock.ahead += 34
    there.clock.ahead += 34
    await here.until(lambda: here.probe() is not None)
    assert not there.pool_sync._claims


@pytest.mark.slow
async def test_a_key_that_the_database_has_forgotten_is_probed_all_the_same(
    two: tuple[Process, Process], database_url: str
) -> None:
    here, _ = two
    here.fail(ONE, "key")
    await here.until(lambda: bool(here.pool_sync._marks))
    with open_for_migration(database_url) as connection:
        connection.execute(text("DELETE FROM conditions"))
    here.clock.ahead += 60
    await here.until(lambda: here.probe() is not None)


@pytest.mark.slow
async def test_a_probe_that_nobody_made_is_given_back(database_url: str) -> None:
    async with process(database_url, MAIN, claim_seconds=4) as here:
        here.fail(ONE, "key")
        await here.until(lambda: bool(here.pool_sync._marks))
        age(database_url, here)
        await here.until(lambda: bool(here.pool_sync._claims))
        await here.until(lambda: not here.pool_sync._claims)
        assert here.probe() is None
        # Until it is this process that may again.
        await here.until(lambda: here.probe() is not None)


async def test_what_administrators_make_is_served_and_what_they_remove_is_not(two: tuple[Process, Process]) -> None:
    here, there = two
    made = StoredUpstream("team", 1, 1, b'{"base_url":"https://llm.example/v1","models":["team-*"]}')
    await here.writer.submit(CreateUpstream(made))
    for key_id, upstream in (("ukey_1", "team"), ("ukey_2", "main")):
        secret = f"sk-canary-{key_id}"
        row = StoredKey(
            key_id, upstream, account_name(upstream, secret), None, "", 1, VAULT.seal(key_id, secret), b'{"weight":2.0}'
        )
        await here.writer.submit(AddKey(row))
    both = {account_name("team", "sk-canary-ukey_1"), account_name("main", "sk-canary-ukey_2")}
    for one in two:
        await one.until(lambda one=one: both < {account.name for account in one.pool.accounts()})  # type: ignore[misc]
        assert [upstream.name for upstream in one.pool.upstreams] == ["main", "team"]
        assert one.state(account_name("main", "sk-canary-ukey_2")).weight == 2.0
    await here.writer.submit(RemoveKey("main", "ukey_2"))
    await there.until(lambda: account_name("main", "sk-canary-ukey_2") not in {a.name for a in there.pool.accounts()})


async def test_what_is_switched_off_is_so_everywhere_and_after_a_restart(
    two: tuple[Process, Process], database_url: str
) -> None:
    here, there = two
    await here.writer.submit(ControlAccount(ONE, "disabled"))
    await there.until(lambda: there.state(ONE).state == "disabled")
    async with process(database_url, MAIN) as third:
        assert third.state(ONE).state == "disabled"
    await here.writer.submit(ControlAccount(ONE, "enabled"))
    await there.until(lambda: there.state(ONE).state == "usable")


async def test_another_configuration_keeps_the_health_of_what_stays(two: tuple[Process, Process]) -> None:
    here, there = two
    here.fail(ONE, "rate", 30.0)
    await there.until(lambda: there.state(ONE).state == "cooling")
    there.pool_sync.configure([])
    assert there.pool.upstreams == (DEMO,)
    there.pool_sync.configure([MAIN])
    # It was forgotten with the account, and is known again from the database.
    await there.until(lambda: there.state(ONE).state == "cooling")
    assert there.state(ONE).rest > 20.0


async def test_a_key_that_cannot_be_opened_leaves_the_others_alone(two: tuple[Process, Process]) -> None:
    here, there = two
    sealed = Vault(KeyRing(b"x" * 16)).seal("ukey_1", "sk")
    row = StoredKey("ukey_1", "main", "main/x", None, "", 1, sealed, b"{}")
    await here.writer.submit(AddKey(row))
    await here.writer.submit(ControlAccount(TWO, "draining"))
    await there.until(lambda: there.state(TWO).state == "draining")
    assert {account.name for account in there.pool.accounts()} == {ONE, TWO}


async def test_changes_wait_for_a_database_that_is_down(
    two: tuple[Process, Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = two
    is_down = True
    keep = here.conditions.keep

    async def fail_or_keep(changes: Any) -> Any:
        if is_down:
            raise StorageError("down")
        return await keep(changes)

    monkeypatch.setattr(here.conditions, "keep", fail_or_keep)
    here.fail(ONE, "rate", 30.0)
    await here.until(lambda: here.pool_sync._is_down)
    assert here.state(ONE).state == "cooling"
    is_down = False
    await there.until(lambda: there.state(ONE).state == "cooling")
    assert there.state(ONE).rest <= 32.0
    # The other may see it before this one hears that it is kept.
    await here.until(lambda: not here.pool_sync._is_down)
