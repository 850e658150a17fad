"""The whole lifecycle in random order, with crashes: what clients were told stays true, and upstream is asked once."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx2
import openai
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.fakes.late_rules import HeldWriters
from tests.fakes.lifecycle import Turn, World, running_world
from tests.fakes.lifecycle_rules import SLOW, id_of
from tests.fakes.lifecycle_runs import FEW, MANY, check

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

# Until a process is killed that makes a call with a key.
_KILLED_AFTER_SECONDS = (0.0, 0.004, 0.008, 0.012, 0.02, 0.04, 0.2)


class Crashes(HeldWriters):
    """The calls, and once in a run a crash."""

    crashed = False

    @precondition(lambda self: not self.crashed)
    @rule()
    def crash(self) -> None:
        self._restart()

    @precondition(lambda self: not self.crashed)
    @rule()
    def crash_amid_a_stream(self) -> None:
        word = next(self.world.words)
        events = self.client.responses.create(model="demo", input=f"{word} {SLOW}", stream=True)
        created = next(event.response.id for event in events if event.type == "response.created")
        self._restart()
        with suppress(openai.APIError, httpx2.HTTPError):
            for event in events:
                assert event.type != "response.completed"
        with pytest.raises(openai.NotFoundError):
            self.client.responses.retrieve(created)

    @precondition(lambda self: not self.crashed)
    @rule(
        target=HeldWriters.named,
        seconds=st.sampled_from(_KILLED_AFTER_SECONDS),
        background=st.booleans(),
        streamed=st.booleans(),
    )
    def crash_amid_a_call_with_a_key(self, seconds: float, background: bool, streamed: bool) -> Turn:
        word = next(self.world.words)
        said = f"{word} [slow:5] [words:8]"
        asked = {"model": "demo", "input": said, "background": background, "stream": streamed}
        with ThreadPoolExecutor(1) as pool:
            answering = pool.submit(self.world.post, "/responses", asked, f"key-{word}")
            time.sleep(seconds)
            self._restart()
        told = None
        with suppress(httpx2.HTTPError):
            told = answering.result()
        again = self.world.post("/responses", asked, f"key-{word}")
        assert again.status_code == 200, again.text
        if told is None:
            # Nobody knows how far it came: its repeat may be a second call (ADR 36).
            self.world.unsure.add(word)
        else:
            assert id_of(told.content) == id_of(again.content)
        turn = Turn(id_of(again.content), word, key=f"key-{word}", asked=asked, answer=again.content)
        if background:
            turn.is_streamed = streamed
            self.took(turn)
            self.wait_until_ended(turn)
        else:
            assert self.look_at(turn) == "completed"
        return turn

    def _restart(self) -> None:
        self.crashed = True
        self.owned.clear()
        self.world.restart(self.world.gateway)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with running_world(tmp_path) as world:
        yield world


@pytest.mark.parametrize(("number", "runs"), [FEW, *MANY])
def test_what_clients_were_told_stays_true_whatever_happens(world: World, number: int, runs: int) -> None:
    check(Crashes, world, runs, number)
