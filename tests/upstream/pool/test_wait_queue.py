"""Calls for which there is no account now: who waits, in which order they are served, and who is sent away."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from app.errors import ApiError
from app.upstream.faults.pool_exhausted import PoolExhaustedError
from app.upstream.pool.checkout import Checkout
from app.upstream.pool.pool import Pool
from app.upstream.pool.selection import PoolRequest
from tests.upstream.rig import cooling, fault, key_settings, upstream_settings

WISH = PoolRequest(model="m")
LONG = 20.0


def pool_of(*keys: dict[str, Any], most: int = 1000) -> Pool:
    settings = tuple(key_settings(f"sk-{number}", **key) for number, key in enumerate(keys))
    return Pool([upstream_settings(keys=settings)], 10.0, wait_seconds=LONG, most_waiting=most)


def held(pool: Pool) -> Checkout:
    checkout = pool.enter(WISH)
    assert checkout is not None
    return checkout


class Callers:
    """Calls that wait; `served` has the names of those that got a lease, in order."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.served: list[str] = []
        self.leases: list[Checkout] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, projects: Iterable[str]) -> None:
        for number, project in enumerate(projects):
            self.tasks[f"{project}{number}"] = asyncio.create_task(self._wait(f"{project}{number}", project))
            await asyncio.sleep(0)

    async def _wait(self, name: str, project: str) -> None:
        self.leases.append(await self.pool.wait(PoolRequest(model="m", project_id=project), LONG))
        self.served.append(name)

    async def serve_all(self) -> None:
        """Each call ends when it has been served, until all are."""
        async with asyncio.timeout(10):
            while not all(task.done() for task in self.tasks.values()):
                while self.leases:
                    self.leases.pop().end()
                await asyncio.sleep(0)


async def test_projects_take_turns_and_within_one_the_first_is_served_first() -> None:
    pool = pool_of({"concurrency": 1})
    checkout = held(pool)
    callers = Callers(pool)
    await callers.come("aaaabbc")
    assert callers.served == []
    checkout.end()
    await callers.serve_all()
    assert callers.served == ["a0", "b4", "c6", "a1", "b5", "a2", "a3"]
    assert pool.in_flight(pool.accounts()[0]) == 1 or not callers.leases


async def test_a_call_that_comes_later_does_not_overtake_those_that_wait() -> None:
    pool = pool_of({})
    pool.apply([cooling(pool.accounts()[0], 0.05)])
    callers = Callers(pool)
    await callers.come("ab")
    async with asyncio.timeout(10):
        await callers.tasks["a0"]
    # The account is free, but somebody was here before.
    assert pool.enter(WISH) is None
    await callers.serve_all()
    assert pool.enter(WISH) is not None


async def test_those_that_waited_for_the_end_of_a_rest_do_not_all_come_at_once() -> None:
    pool = pool_of({})
    pool.apply([cooling(pool.accounts()[0], 0.05)])
    callers = Callers(pool)
    await callers.come("a" * 20)
    async with asyncio.timeout(10):
        await callers.tasks["a0"]
    assert len(callers.served) == 1
    pool.serve(callers.leases[0], {})
    await asyncio.sleep(0)
    assert len(callers.served) == 3
    await callers.serve_all()
    assert len(callers.served) == 20


async def test_a_client_that_leaves_gives_its_place_up() -> None:
    pool = pool_of({"concurrency": 1})
    checkout = held(pool)
    callers = Callers(pool)
    await callers.come("aab")
    callers.tasks["a0"].cancel()
    await asyncio.sleep(0)
    checkout.end()
    await asyncio.gather(callers.tasks["a1"], return_exceptions=True)
    assert callers.served == ["a1"]
    await callers.serve_all()
    assert callers.served == ["a1", "b2"]
    assert not pool._waiting.count


async def test_a_client_that_leaves_as_its_turn_comes_gives_the_lease_back() -> None:
    pool = pool_of({"concurrency": 1})
    checkout = held(pool)
    callers = Callers(pool)
    await callers.come("ab")
    checkout.end()
    callers.tasks["a0"].cancel()
    async with asyncio.timeout(10):
        await callers.tasks["b1"]
    assert callers.served == ["b1"]
    await callers.serve_all()
    for rest in callers.leases:
        rest.end()
    assert pool.in_flight(pool.accounts()[0]) == 0


@pytest.mark.parametrize("change", ["control", "configure", "rest"])
async def test_what_changes_wakes_those_that_wait(change: str) -> None:
    pool = pool_of({}, {"concurrency": 1})
    one, two = pool.accounts()
    pool.apply([cooling(one, 0.1 if change == "rest" else 15)])
    checkout = held(pool)
    assert checkout.account is two
    if change == "control":
        pool.control(two.name, "draining")
    callers = Callers(pool)
    await callers.come("a")
    if change == "control":
        checkout.end()
        pool.control(two.name, "enabled")
    if change == "configure":
        pool.configure([one, two, *pool_of({}, {}, {}).accounts()[2:]])
    async with asyncio.timeout(10):
        await callers.tasks["a0"]


async def test_nobody_waits_for_longer_than_is_of_use() -> None:
    pool = pool_of({}, most=1)
    account = pool.accounts()[0]
    pool.apply([cooling(account, 8)])
    for seconds in (0.0, 7.9):
        with pytest.raises(PoolExhaustedError) as caught:
            await pool.wait(WISH, seconds)
        assert caught.value.headers["retry-after"] == "8"
    callers = Callers(pool)
    await callers.come("a")
    with pytest.raises(PoolExhaustedError):
        await pool.wait(WISH, LONG)
    callers.tasks["a0"].cancel()


async def test_a_wait_that_was_in_vain_ends_with_the_truth() -> None:
    pool = pool_of({"concurrency": 1})
    held(pool)
    with pytest.raises(PoolExhaustedError) as caught:
        await pool.wait(WISH, 1.05)
    assert caught.value.headers["retry-after"] == "1"
    assert not pool._waiting.count


async def test_those_whom_nobody_will_serve_are_sent_away_at_once() -> None:
    pool = pool_of({"concurrency": 1})
    checkout = held(pool)
    callers = Callers(pool)
    await callers.come("ab")
    pool.fail(checkout, fault("key"))
    results = await asyncio.gather(*callers.tasks.values(), return_exceptions=True)
    assert [isinstance(error, ApiError) and error.code for error in results] == ["upstream_authentication_error"] * 2


async def test_a_call_that_an_upstream_cannot_take_holds_up_none_that_it_can() -> None:
    """Each waits for the accounts that may serve it, in a queue of its own."""
    names = ("native", "chat")
    keys = tuple(key_settings(f"sk-{name}", concurrency=1) for name in names)
    upstreams = [upstream_settings(keys=(key,), name=name) for name, key in zip(names, keys, strict=True)]
    pool = Pool(upstreams, 10.0, wait_seconds=LONG)
    busy = {checkout.account.upstream.name: checkout for checkout in (held(pool), held(pool))}
    elsewhere = asyncio.create_task(pool.wait(WISH.without("chat"), LONG))
    await asyncio.sleep(0)
    anywhere = asyncio.create_task(pool.wait(WISH, LONG))
    await asyncio.sleep(0)
    busy["chat"].end()
    async with asyncio.timeout(10):
        assert (await anywhere).account.upstream.name == "chat"
        assert not elsewhere.done()
        busy["native"].end()
        assert (await elsewhere).account.upstream.name == "native"
