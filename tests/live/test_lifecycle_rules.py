"""The whole lifecycle in random order, with crashes: what clients were told stays true, and upstream is asked once."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, cast

import httpx
import openai
import orjson
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from openai.types.responses import Response

from tests.fakes.lifecycle import Conversation, Turn, World, running_world

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

_STEPS = 12
# A run whose owner died ends within its lease and ten seconds more.
_ORPHAN_SECONDS = 40.0
_ENDED = {"completed", "failed", "incomplete", "cancelled"}
# Long enough to be cancelled, or to be cut short by a crash.
_SLOW = "[slow:20] [words:30]"


class Lifecycle(RuleBasedStateMachine):
    """Calls in any order. Every answer is compared with what the calls before it imply."""

    turns = Bundle("turns")
    conversations = Bundle("conversations")
    runs = Bundle("runs")

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self._crashed = False
        # Runs whose owner lives: the others take their lease's time to end, and are looked at after all.
        self._owned: set[str] = set()
        self._client = self.world.gateway.client()

    def teardown(self) -> None:
        self._client.close()

    @rule(target=turns, streamed=st.booleans())
    def begin(self, streamed: bool) -> Turn:
        word = next(self.world.words)
        return self._finished(word, (), self._say(word, streamed=streamed))

    @rule(target=turns, parent=turns, streamed=st.booleans())
    def go_on(self, parent: Turn, streamed: bool) -> Turn:
        word = next(self.world.words)
        if parent.is_whole:
            said = self._say(word, streamed=streamed, previous_response_id=parent.id)
            assert [*parent.heard, word] in self.world.asked()
            return self._finished(word, (*parent.history, parent), said)
        with pytest.raises(openai.BadRequestError) as refused:
            self._say(word, streamed=streamed, previous_response_id=parent.id)
        assert refused.value.code == "previous_response_not_found"
        return parent

    @rule(target=conversations, words=st.integers(0, 2))
    def converse(self, words: int) -> Conversation:
        said = [next(self.world.words) for _ in range(words)]
        items: Any = [{"type": "message", "role": "user", "content": word} for word in said]
        return Conversation(self._client.conversations.create(items=items).id, said)

    @rule(target=turns, conversation=conversations, streamed=st.booleans())
    def go_on_in_a_conversation(self, conversation: Conversation, streamed: bool) -> Turn:
        word = next(self.world.words)
        before = tuple(conversation.words)
        said = self._say(word, streamed=streamed, conversation=conversation.id)
        assert [*before, word] in self.world.asked()
        conversation.words.append(word)
        listed = self._client.conversations.items.list(conversation.id, order="asc", limit=100)
        assert _users(listed) == conversation.words
        return self._finished(word, before, said)

    @rule(conversation=consumes(conversations))
    def forget_a_conversation(self, conversation: Conversation) -> None:
        assert self._client.conversations.delete(conversation.id).deleted
        with pytest.raises(openai.NotFoundError):
            self._client.conversations.retrieve(conversation.id)

    @rule(target=runs, streamed=st.booleans())
    def begin_in_the_background(self, streamed: bool) -> Turn:
        word = next(self.world.words)
        asked: Any = {"model": "demo", "input": f"{word} {_SLOW}", "background": True}
        if streamed:
            with self._client.responses.create(**asked, stream=True) as events:
                run_id = next(event.response.id for event in events if event.type == "response.created")
        else:
            run_id = self._client.responses.create(**asked).id
        self._owned.add(run_id)
        self.world.unfinished.add(run_id)
        return Turn(run_id, word, ())

    @rule(run=runs)
    def cancel(self, run: Turn) -> None:
        if run.deleted or run.id not in self._owned:
            return
        before = self._look_at(run)
        if before == "completed":
            with pytest.raises(openai.BadRequestError):
                self._client.responses.cancel(run.id)
            return
        try:
            self._client.responses.cancel(run.id)
        except openai.BadRequestError:
            # It ended meanwhile.
            assert self._look_at(run) in _ENDED
        else:
            self._look_at(run)

    @rule(target=turns, run=runs)
    def wait_for(self, run: Turn) -> Turn | MultipleResults[Turn]:
        if run.id not in self._owned:
            return multiple()
        if not run.deleted:
            deadline = time.monotonic() + _ORPHAN_SECONDS
            while self._look_at(run) not in _ENDED:
                assert time.monotonic() < deadline, "it never ended"
                time.sleep(0.02)
        return run

    @rule(turn=st.one_of(turns, runs))
    def look(self, turn: Turn) -> None:
        self._look_at(turn)

    @rule(turn=turns)
    def delete(self, turn: Turn) -> None:
        if turn.deleted:
            with pytest.raises(openai.NotFoundError):
                self._client.responses.delete(turn.id)
        else:
            self._client.responses.delete(turn.id)
            turn.deleted = True

    @precondition(lambda self: not self._crashed)
    @rule()
    def crash(self) -> None:
        self._restart()

    @precondition(lambda self: not self._crashed)
    @rule()
    def crash_amid_a_stream(self) -> None:
        word = next(self.world.words)
        events = self._client.responses.create(model="demo", input=f"{word} {_SLOW}", stream=True)
        created = next(event.response.id for event in events if event.type == "response.created")
        self._restart()
        with suppress(openai.APIError, httpx.HTTPError):
            for event in events:
                assert event.type != "response.completed"
        with pytest.raises(openai.NotFoundError):
            self._client.responses.retrieve(created)

    def _restart(self) -> None:
        self._crashed = True
        self._owned.clear()
        self.world.gateway.kill()
        self.world.gateway.start()

    def _say(self, word: str, *, streamed: bool, **asked: Any) -> Response:
        if not streamed:
            said: Response = self._client.responses.create(model="demo", input=word, **asked)
            return said
        with self._client.responses.stream(model="demo", input=word, **asked) as events:
            return cast("Response", events.get_final_response())

    def _finished(self, word: str, history: Sequence[Turn | str], said: Response) -> Turn:
        turn = Turn(said.id, word, tuple(history))
        assert said.status == "completed"
        assert self._look_at(turn) == "completed"
        return turn

    def _look_at(self, turn: Turn) -> str:
        """Its status. What has ended never changes, and what was deleted is not there."""
        if turn.deleted:
            with pytest.raises(openai.NotFoundError):
                self._client.responses.retrieve(turn.id)
            return "deleted"
        body = orjson.loads(self._client.responses.with_raw_response.retrieve(turn.id).content)
        assert turn.body in (None, body)
        if body["status"] in _ENDED:
            turn.body = body
            self.world.unfinished.discard(turn.id)
        return str(body["status"])


def _users(listed: Any) -> list[str]:
    return [item.content[0].text for item in listed if item.type == "message" and item.role == "user"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with running_world(tmp_path) as world:
        yield world


def _all_ended(client: openai.OpenAI, runs: set[str]) -> bool:
    return all(client.responses.retrieve(run).status in _ENDED for run in runs)


def _within(seconds: float, is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.parametrize("runs", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_what_clients_were_told_stays_true_whatever_happens(world: World, runs: int) -> None:
    class Here(Lifecycle):
        """The calls, in this world."""

    Here.world = world
    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=runs,
            stateful_step_count=_STEPS,
            deadline=None,
            derandomize=True,
            # What happens is not the same twice (a run ends when it ends), so that nothing can be shrunk.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    with world.gateway.client() as client:
        # One that was begun, but deleted by nobody, also ends where its owner crashed.
        assert _within(_ORPHAN_SECONDS, lambda: _all_ended(client, world.unfinished))
    generations = Counter(words[-1] for words in world.asked())
    assert set(generations.values()) == {1}, "every generation is asked for once"
