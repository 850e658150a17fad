"""Limits in random order over simulated time, wherever they are counted: no window grants more than its limit.

What is compared with is a book of each call's share in each window, which is not how anything counts.
"""

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    multiple,
    rule,
    run_state_machine_as_test,
)

from app.state.limit_windows import Claim, Correction, Counts, Limit
from app.storage.limits import database_counts, valkey_scripts
from app.storage.limits.database_counts import DatabaseCounts
from app.storage.limits.memory_counts import MemoryCounts
from app.storage.limits.split_counts import SplitCounts
from app.storage.limits.valkey_counts import ValkeyCounts
from tests.fakes.valkey import PATIENCE, ValkeyServer
from tests.storage.conftest import Replica

_KINDS = {"memory": "sqlite", "sqlite": "sqlite", "valkey": "sqlite", "postgresql": "postgresql"}
# How often, with what counts.
_FEW = [(kind, 10) for kind in ("memory", "sqlite")]
_MANY = [
    pytest.param((kind, runs), marks=mark)
    for runs, mark in ((40, pytest.mark.slow), (200, pytest.mark.faults))
    for kind in _KINDS
]
_MINUTE, _DAY = 60_000, 86_400_000
# Ahead of all real clocks: Valkey forgets by its own what is over.
_START = (int(time.time() * 1000) // _DAY + 40) * _DAY
# Steps of whole seconds, which floats hold exactly; some meet the end of a window.
_WAITS = (1, 19, 20, 40, 59, 60, 61, 3_600, 40_000, 86_400)
_STEPS = 30
_LONG_LEASE_SECONDS = 10.0**9


@dataclass
class Call:
    """A granted call: of each limit what it took, and in the window that began when."""

    name: str
    taken: dict[Limit, tuple[int, int]]


@dataclass
class Window:
    began_at: int
    ends_at: int
    shares: dict[str, int] = field(default_factory=dict)

    @property
    def used(self) -> int:
        return sum(self.shares.values())


class Book:
    """The windows of each limit, each with what calls have of it. `now` is what all clocks say."""

    def __init__(self) -> None:
        self.now = _START
        self.windows: dict[Limit, list[Window]] = {}

    def used(self, limit: Limit) -> int:
        window = self.current(limit)
        return 0 if window is None else window.used

    def current(self, limit: Limit) -> Window | None:
        *_, last = [None, *self.windows.get(limit, [])]
        return last if last is not None and self.now < last.ends_at else None

    def began(self, limit: Limit) -> Window:
        """The window of now, which begins now if there is none."""
        window = self.current(limit)
        if window is None:
            if limit.window == "day":
                window = Window(self.now // _DAY * _DAY, (self.now // _DAY + 1) * _DAY)
            else:
                window = Window(self.now, self.now + _MINUTE) if limit.window else Window(0, 1 << 62)
            self.windows.setdefault(limit, []).append(window)
        return window

    def exhausted(self, claims: Sequence[Claim]) -> set[Limit]:
        return {limit for limit, amount in claims if self.used(limit) + max(amount, 1) > limit.most}


class Limits(RuleBasedStateMachine):
    """Calls of two keys of one project, at two processes."""

    calls = Bundle("calls")

    book: ClassVar[Book]
    processes: ClassVar[Sequence[Counts]]
    is_split: ClassVar[bool]
    runner: ClassVar[asyncio.Runner]
    names: ClassVar[Iterator[str]]

    def __init__(self) -> None:
        super().__init__()
        self.book.now = _START
        project, keys = next(self.names), [next(self.names), next(self.names)]
        shared = (
            Limit(project, "project", "requests", "minute", 7),
            Limit(project, "project", "usd", "day", 3000),
            Limit(project, "project", "streams", None, 3),
        )
        self.limits = [
            (Limit(key, "API key", "requests", "minute", 5), Limit(key, "API key", "tokens", "minute", 1000), *shared)
            for key in keys
        ]

    @rule(
        target=calls,
        key=st.integers(0, 1),
        times=st.integers(1, 4),
        tokens=st.integers(0, 400),
        usd=st.integers(0, 700),
        streams=st.booleans(),
    )
    def draw(self, key: int, times: int, tokens: int, usd: int, streams: bool) -> MultipleResults[Call]:
        """So many at once, at both processes."""
        amounts = {"requests": 1, "tokens": tokens, "usd": usd, "streams": 1}
        claims = [Claim(limit, amounts[limit.unit]) for limit in self.limits[key] if limit.window or streams]
        names = [next(self.names) for _ in range(times)]
        places = itertools.cycle(self.processes)

        async def all_at_once() -> Any:
            return await asyncio.gather(*[place.draw(claims, name) for place, name in zip(places, names, strict=False)])

        verdicts = self.runner.run(all_at_once())
        granted = []
        for name, verdict in sorted(zip(names, verdicts, strict=True), key=lambda one: one[1].refused is not None):
            exhausted = self.book.exhausted(claims)
            if verdict.refused is not None:
                assert exhausted, f"{verdict.refused} refused what there was"
                # Of several at once one may meet what another takes, and gives back when its budget refuses.
                assert times > 1 or verdict.refused.limit in exhausted
                assert verdict.refused.rest_ms > 0 or verdict.refused.limit.window is None
                self._begin_what_was_given_back(claims, verdict.refused.limit)
                continue
            assert not exhausted, f"more was granted than {exhausted}"
            taken = {}
            for (limit, amount), standing in zip(claims, verdict.standings, strict=True):
                window = self.book.began(limit)
                window.shares[name] = amount
                assert window.used <= limit.most
                assert standing.began_at == window.began_at
                taken[limit] = amount, window.began_at
            granted.append(Call(name, taken))
        self._agree()
        return multiple(*granted)

    @rule(call=consumes(calls), tokens=st.integers(0, 1500), usd=st.integers(0, 3000), place=st.integers(0, 1))
    def reconcile(self, call: Call, tokens: int, usd: int, place: int) -> None:
        self._reconcile(call, {"requests": 1, "tokens": tokens, "usd": usd, "streams": 0}, place)

    @rule(call=consumes(calls), place=st.integers(0, 1))
    def give_back(self, call: Call, place: int) -> None:
        self._reconcile(call, {"requests": 0, "tokens": 0, "usd": 0, "streams": 0}, place)

    @rule(seconds=st.sampled_from(_WAITS))
    def wait(self, seconds: int) -> None:
        self.book.now += seconds * 1000
        self._agree()

    def teardown(self) -> None:
        """Nothing lasts for longer than its window."""
        self.book.now += 2 * _DAY
        streams = {limit for limits in self.limits for limit in limits if limit.window is None}
        for place in self.processes:
            for standing in self.runner.run(place.read(self._all)):
                assert standing.used == 0 or standing.limit in streams

    def _reconcile(self, call: Call, used: dict[str, int], place: int) -> None:
        corrections = []
        for limit, (amount, at) in call.taken.items():
            more = used[limit.unit] - amount
            corrections.append(Correction(limit, more, at))
            window = self.book.current(limit)
            if window is not None and window.began_at == at:
                window.shares[call.name] = used[limit.unit]
            elif more > 0:
                # Its own window is over: that one keeps what was taken, and what was used beyond it counts now.
                self.book.began(limit).shares[call.name] = more
        self.runner.run(self.processes[place].reconcile(corrections, call.name))
        self._agree()

    def _begin_what_was_given_back(self, claims: Sequence[Claim], refused_by: Limit) -> None:
        """Minutes that are counted apart from budgets are taken first: the call that a budget refuses begins them."""
        if self.is_split and refused_by.is_budget:
            for limit, _ in claims:
                if limit.window == "minute":
                    self.book.began(limit)

    @property
    def _all(self) -> list[Limit]:
        return list(dict.fromkeys(limit for limits in self.limits for limit in limits))

    def _agree(self) -> None:
        """All processes say what the book says."""
        for place in self.processes:
            told = {standing.limit: standing.used for standing in self.runner.run(place.read(self._all))}
            assert told == {limit: self.book.used(limit) for limit in told}


@pytest.fixture
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Limits]]:
    """The machine at two processes that count in the test's way; in memory it is the same one."""
    (kind, _), book = request.getfixturevalue("runs"), Book()
    url = request.getfixturevalue(f"{_KINDS[kind]}_url")
    monkeypatch.setattr(database_counts, "_now", lambda _: book.now)
    with asyncio.Runner() as runner:
        replicas = [runner.run(_replica(url)) for _ in range(1 if _KINDS[kind] == "sqlite" else 2)]
        stores = [DatabaseCounts(each.database, each.writer, _LONG_LEASE_SECONDS) for each in replicas]
        processes: list[Counts] = [stores[0], stores[-1]]
        valkeys = []
        if kind == "memory":
            local = MemoryCounts(lambda: book.now / 1000)
            local._epoch = 0.0
            processes = [SplitCounts(local, stores[0])] * 2
        elif kind == "valkey":
            server: ValkeyServer = request.getfixturevalue("valkey")
            for script in ("READ", "DRAW", "RECONCILE"):
                simulated = getattr(valkey_scripts, script).replace("'TIME'", "'HMGET', 'clock', 's', 'us'")
                monkeypatch.setattr(valkey_scripts, script, simulated)
            valkeys = [_SimulatedValkey(server.url, book) for _ in range(2)]
            processes = [SplitCounts(each, stores[0]) for each in valkeys]
        names = (f"name_{number}" for number in itertools.count())
        is_split = isinstance(processes[0], SplitCounts)
        here = {"book": book, "processes": processes, "runner": runner, "names": names, "is_split": is_split}
        yield type("Here", (Limits,), here)
        for closing in [each.aclose() for each in valkeys] + [each.aclose() for each in replicas]:
            runner.run(closing)


async def _replica(url: str) -> Replica:
    return Replica(url)


class _SimulatedValkey(ValkeyCounts):
    """One that is told what time it is before it is asked anything."""

    def __init__(self, url: str, book: Book) -> None:
        super().__init__(url, _LONG_LEASE_SECONDS, PATIENCE)
        self._book = book

    async def _run(self, *asked: Any) -> Any:
        await self._client.hset("clock", mapping={"s": self._book.now // 1000, "us": 0})
        return await super()._run(*asked)


@pytest.mark.parametrize("runs", [*_FEW, *_MANY], ids=lambda runs: f"{runs[0]}-{runs[1]}")
def test_no_window_grants_more_than_its_limit_and_what_calls_used_counts_once(
    machine: type[Limits], runs: tuple[str, int]
) -> None:
    # A shorter example would take minutes to be found.
    phases = [Phase.reuse, Phase.generate]
    run_state_machine_as_test(
        machine, settings=settings(max_examples=runs[1], stateful_step_count=_STEPS, phases=phases)
    )
