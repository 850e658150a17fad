"""Two replicas in random order, paused and killed, on one pool of keys: what clients were told stays true.

A paused owner of a run loses it to the other, and changes nothing when it goes on. A key that one was told to leave
alone, both do.
"""

import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from app.upstream.account import account_name
from tests.fakes.forked import ForkedGateway
from tests.fakes.late_rules import HeldWriters
from tests.fakes.lifecycle import Conversation, Turn, World, running_world
from tests.fakes.lifecycle_runs import MANY, check
from tests.fakes.replies import Reply

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

# Each run takes one away at most, and a world has so many runs at most.
_KEYS = 60
# From a run's order until its owner is paused: from before it is begun to amid its answer.
_PAUSED_AFTER_SECONDS = (0.0, 0.002, 0.005, 0.03, 0.1)
_REFUSALS = {
    "dead": (Reply.error(401, "invalid_api_key"), 28.0),
    "cooling": (Reply.error(429, "rate_limit_exceeded", {"retry-after": "4"}), 4.0),
}
_TOLD_SECONDS = 20.0
_RESUMED_SECONDS = 0.3


class Replicas(HeldWriters):
    """The calls, and once in a run each: a pause, a crash, and a key that is refused."""

    was_paused = went_on = crashed = has_refused = False

    def __init__(self) -> None:
        super().__init__()
        self._freed: set[str] = set()
        self._watched: list[Turn] = []
        self._locked: tuple[Conversation, Turn] | None = None

    @property
    def is_paused(self) -> bool:
        return self.was_paused and not self.went_on

    def lives(self, run: Turn) -> bool:
        """Nor is its owner paused."""
        paused = self.world.paused
        return super().lives(run) and (paused is None or run.id in self._freed or run.at not in (None, paused))

    def teardown(self) -> None:
        if self.is_paused:
            self.outlast_its_leases(waits=True)
        self._go_on()

    @precondition(lambda self: not self.was_paused)
    @rule(
        target=HeldWriters.runs,
        seconds=st.sampled_from(_PAUSED_AFTER_SECONDS),
        streamed=st.booleans(),
        converses=st.booleans(),
    )
    def pause_an_owner(self, seconds: float, streamed: bool, converses: bool) -> Turn:
        self.was_paused = True
        gateway = self.world.gateway
        conversation = self.converse_now() if converses else None
        more = {} if conversation is None else {"conversation": conversation.id}
        run = self.order(streamed=streamed, gateway=gateway, **more)
        if conversation is not None:
            # Whoever is first takes it.
            run.at, self._locked = None, (conversation, run)
        time.sleep(seconds)
        self.world.pause(gateway)
        self._watched.append(run)
        return run

    @precondition(lambda self: self.is_paused)
    @rule(waits=st.booleans())
    def outlast_its_leases(self, waits: bool) -> None:
        """Have the other take over what the paused one had, which may go on amid that."""
        stuck = [run for run in self._watched if not (run.deleted or self.lives(run))]
        self._freed |= {run.id for run in stuck}
        self.world.end_leases([run.id for run in stuck])
        for run in stuck if waits else ():
            self.wait_until_ended(run)
            if run.is_streamed:
                self.hear_all_of(run)

    @precondition(lambda self: self.is_paused)
    @rule()
    def go_on_with_it(self) -> None:
        self._go_on()

    @precondition(lambda self: not self.crashed)
    @rule(number=st.integers(0, 1))
    def crash(self, number: int) -> None:
        self.crashed = True
        gateway = self.world.gateways[number]
        self.world.restart(gateway)
        self.world.end_leases([run for run in self.owned if run in self.world.unfinished])

    @precondition(lambda self: not self.has_refused and not self.is_paused)
    @rule(turn=HeldWriters.turns, kind=st.sampled_from(sorted(_REFUSALS)))
    def refuse_a_key(self, turn: Turn, kind: str) -> None:
        self.has_refused = True
        if not turn.is_whole or turn.body is None or turn.body["status"] != "completed":
            return
        upstream, (reply, seconds) = self.world.upstream, _REFUSALS[kind]
        key = upstream.key_of(turn.word)
        upstream.refuse(key, reply, seconds if kind == "cooling" else math.inf)
        until = time.monotonic() + seconds
        # It is asked for with the key that served the turn before, and not lost.
        word = self._go_on_from(turn, self.world.gateway)
        assert next(call.key for call in upstream.calls if call.words[-1] == word) == key
        for gateway in self.world.gateways:
            self._until_known(gateway, key, kind, until)
        self.world.rests.append((key, time.monotonic(), until))
        for gateway in self.world.gateways:
            self._go_on_from(turn, gateway)

    def _go_on_from(self, turn: Turn, gateway: ForkedGateway) -> str:
        word = next(self.world.words)
        said = self.say(word, streamed=False, gateway=gateway, previous_response_id=turn.id)
        assert said.status == "completed"
        return word

    def _until_known(self, gateway: ForkedGateway, key: str, kind: str, until: float) -> None:
        name = account_name("openai", key)
        deadline = time.monotonic() + _TOLD_SECONDS
        while self.world.states(gateway)[name] != kind and time.monotonic() < until:
            assert time.monotonic() < deadline, "it never heard of it"
            time.sleep(0.02)

    def _go_on(self) -> None:
        """Let the paused one go on: it answers calls, and what its runs came to stays as it is."""
        resumed = self.world.paused
        self.went_on = True
        self.world.go_on()
        there = [run for run in self._watched if not run.deleted]
        ended = [run for run in there if run.body is not None]
        if resumed is not None:
            assert self.say(next(self.world.words), streamed=False, gateway=resumed).status == "completed"
            # To wait for: what it writes and may not.
            time.sleep(_RESUMED_SECONDS)
        for run in there:
            self.wait_until_ended(run)
        for run in ended * len(self.world.gateways):
            self.look_at(run)
            if run.is_streamed:
                self.hear_all_of(run)
        if self._locked is not None:
            conversation, run = self._locked
            self._locked = None
            assert run.body is not None
            if run.body["status"] == "completed":
                conversation.words.append(run.word)
            self.say_in(conversation)


@pytest.fixture
def world(tmp_path: Path, postgresql_url: str) -> Iterator[World]:
    with running_world(tmp_path, postgresql_url, replicas=2, keys=_KEYS) as world:
        yield world


@pytest.mark.parametrize(("number", "runs"), MANY)
def test_two_replicas_keep_what_clients_were_told_whatever_happens(world: World, number: int, runs: int) -> None:
    check(Replicas, world, runs, number)
    for key, known, until in world.rests:
        early = [at for at in world.upstream.times(key) if known < at < until]
        assert not early, "a key was used that both knew to rest"
