"""Calls in any order, each compared with what the calls before it imply: the rules that hold before any gateways."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, cast

import openai
import orjson
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    rule,
)
from openai.types.responses import Response

from tests.fakes.forked import ForkedGateway
from tests.fakes.lifecycle import Conversation, Turn, World
from tests.fakes.streams import events

ENDED = {"completed", "failed", "incomplete", "cancelled"}

ORPHAN_SECONDS = 40.0
"""A run whose owner died ends within its lease and ten seconds more."""

SLOW = "[slow:20] [words:15]"
"""Makes an answer long enough to be cancelled, or to be cut short by a crash."""

_DONE = b"data: [DONE]\n\n"


class Lifecycle(RuleBasedStateMachine):
    """The calls. `owned` are the runs whose owner lives; the others take their lease's time to end.

    What a rule adds to a bundle, and whether it may be applied, depends on the rules before it and never on what time
    it is: Hypothesis would call that flaky.
    """

    turns = Bundle("turns")
    conversations = Bundle("conversations")
    runs = Bundle("runs")
    named = Bundle("named")

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.owned: set[str] = set()

    @property
    def client(self) -> openai.OpenAI:
        return self.world.client()

    @rule(target=turns, streamed=st.booleans())
    def begin(self, streamed: bool) -> Turn:
        word = next(self.world.words)
        return self.finished(word, (), self.say(word, streamed=streamed))

    @rule(target=turns, parent=turns, streamed=st.booleans())
    def go_on(self, parent: Turn, streamed: bool) -> Turn:
        if parent.is_unfinished:
            return parent
        word = next(self.world.words)
        if parent.is_whole:
            said = self.say(word, streamed=streamed, previous_response_id=parent.id)
            assert [*parent.heard, word] in self.world.asked()
            return self.finished(word, (*parent.history, parent), said)
        with pytest.raises(openai.BadRequestError) as refused:
            self.say(word, streamed=streamed, previous_response_id=parent.id)
        assert refused.value.code == "previous_response_not_found"
        return parent

    @rule(target=conversations, words=st.integers(0, 2))
    def converse(self, words: int) -> Conversation:
        return self.converse_now(words)

    @rule(target=turns, conversation=conversations, streamed=st.booleans())
    def go_on_in_a_conversation(self, conversation: Conversation, streamed: bool) -> Turn:
        return self.say_in(conversation, streamed=streamed)

    @rule(conversation=consumes(conversations))
    def forget_a_conversation(self, conversation: Conversation) -> None:
        assert self.client.conversations.delete(conversation.id).deleted
        conversation.deleted = True
        with pytest.raises(openai.NotFoundError):
            self.client.conversations.retrieve(conversation.id)

    @rule(target=runs, streamed=st.booleans())
    def begin_in_the_background(self, streamed: bool) -> Turn:
        return self.order(streamed=streamed)

    @rule(run=runs)
    def cancel(self, run: Turn) -> None:
        if run.deleted or not self.lives(run):
            return
        before = self.look_at(run)
        if before == "completed":
            with pytest.raises(openai.BadRequestError):
                self.client.responses.cancel(run.id)
            return
        try:
            self.client.responses.cancel(run.id)
        except openai.BadRequestError:
            # It ended meanwhile.
            assert self.look_at(run) in ENDED
        else:
            self.look_at(run)

    @rule(target=turns, run=runs)
    def wait_for(self, run: Turn) -> Turn:
        if not run.deleted and self.lives(run):
            self.wait_until_ended(run)
        return run

    @rule(turn=st.one_of(turns, runs))
    def look(self, turn: Turn) -> None:
        self.look_at(turn)

    @rule(run=runs)
    def hear(self, run: Turn) -> None:
        if run.is_streamed and not run.deleted and self.lives(run):
            self.hear_all_of(run)

    @rule(turn=turns)
    def delete(self, turn: Turn) -> None:
        if turn.is_unfinished:
            return
        if turn.deleted:
            with pytest.raises(openai.NotFoundError):
                self.client.responses.delete(turn.id)
        else:
            self.client.responses.delete(turn.id)
            turn.deleted = True

    @rule(targets=(turns, named), streamed=st.booleans(), times=st.integers(1, 3))
    def begin_under_a_key(self, streamed: bool, times: int) -> Turn:
        turn = self.ask_under_a_key("", times, stream=streamed)
        assert self.look_at(turn) == "completed"
        return turn

    @rule(targets=(runs, named), streamed=st.booleans(), times=st.integers(1, 3))
    def order_under_a_key(self, streamed: bool, times: int) -> Turn:
        turn = self.ask_under_a_key(SLOW, times, background=True, stream=streamed)
        turn.is_streamed = streamed
        self.took(turn)
        return turn

    @rule(turn=named)
    def repeat(self, turn: Turn) -> None:
        if turn.is_streamed and not self.lives(turn):
            return
        again = self.world.post("/responses", turn.asked, turn.key)
        if turn.deleted:
            assert (again.status_code, again.json()["error"]["code"]) == (409, "idempotency_answer_not_kept")
            return
        assert again.status_code == 200, again.text
        if turn.is_streamed:
            # The log is its answer, also where it was cut short since.
            assert id_of(again.content) == turn.id
        else:
            assert again.headers["idempotent-replayed"] == "true"
            assert again.content == turn.answer

    @rule(turn=named)
    def ask_otherwise_under_its_key(self, turn: Turn) -> None:
        refused = self.world.post("/responses", {**turn.asked, "temperature": 0.5}, turn.key)
        assert refused.status_code == 409, refused.text
        assert refused.json()["error"]["code"] == "idempotency_key_reused"

    @property
    def is_paused(self) -> bool:
        """Whether a gateway was stopped, and not let go on."""
        return False

    def lives(self, run: Turn) -> bool:
        """Whether the run goes on, or has ended."""
        return run.id in self.owned

    def ask_under_a_key(self, more: str, times: int, **members: Any) -> Turn:
        """Ask so often at once, at all gateways: all get the one answer."""
        while True:
            word = next(self.world.words)
            key, asked = f"key-{word}", {"model": "demo", "input": f"{word} {more}", **members}
            with ThreadPoolExecutor(times) as pool:
                posts = [pool.submit(self.world.post, "/responses", asked, key) for _ in range(times)]
            answers = [post.result() for post in posts]
            if all(answer.status_code != 503 for answer in answers):
                break
            # A busy machine was too late, and says so.
            self.world.unsure.add(word)
        assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
        assert len({answer.content for answer in answers}) == 1
        return Turn(id_of(answers[0].content), word, key=key, asked=asked, answer=answers[0].content)

    def order(self, *, streamed: bool, gateway: ForkedGateway | None = None, **more: Any) -> Turn:
        word = next(self.world.words)
        asked: Any = {"model": "demo", "input": f"{word} {SLOW}", "background": True, **more}
        gateway = gateway or self.world.gateway
        client = self.world.client(gateway)
        if streamed:
            with client.responses.create(**asked, stream=True) as told:
                run_id = next(event.response.id for event in told if event.type == "response.created")
        else:
            run_id = client.responses.create(**asked).id
        turn = Turn(run_id, word, is_streamed=streamed, at=gateway)
        self.took(turn)
        return turn

    def took(self, run: Turn) -> None:
        self.owned.add(run.id)
        self.world.unfinished.add(run.id)

    def say(self, word: str, *, streamed: bool, gateway: ForkedGateway | None = None, **asked: Any) -> Response:
        client = self.world.client(gateway)
        if not streamed:
            said: Response = client.responses.create(model="demo", input=word, **asked)
            return said
        with client.responses.stream(model="demo", input=word, **asked) as told:
            return cast("Response", told.get_final_response())

    def converse_now(self, words: int = 0) -> Conversation:
        said = [next(self.world.words) for _ in range(words)]
        return Conversation(self.client.conversations.create(items=messages(said)).id, said)

    def say_in(self, conversation: Conversation, *, streamed: bool = False) -> Turn:
        word = next(self.world.words)
        before = tuple(conversation.words)
        said = self.say(word, streamed=streamed, conversation=conversation.id)
        assert [*before, word] in self.world.asked()
        conversation.words.append(word)
        assert self.standing(conversation) == conversation.words
        turn = self.finished(word, before, said)
        turn.conversation = conversation
        return turn

    def finished(self, word: str, history: Sequence[Turn | str], said: Response) -> Turn:
        turn = Turn(said.id, word, tuple(history))
        assert said.status == "completed"
        assert self.look_at(turn) == "completed"
        return turn

    def look_at(self, turn: Turn) -> str:
        """Its status. What has ended never changes, and what was deleted is not there."""
        if turn.deleted:
            with pytest.raises(openai.NotFoundError):
                self.client.responses.retrieve(turn.id)
            return "deleted"
        body = orjson.loads(self.client.responses.with_raw_response.retrieve(turn.id).content)
        assert turn.body in (None, body)
        if body["status"] in ENDED:
            turn.body = body
            self.world.unfinished.discard(turn.id)
        return str(body["status"])

    def wait_until_ended(self, run: Turn) -> None:
        deadline = time.monotonic() + ORPHAN_SECONDS
        while self.look_at(run) not in ENDED:
            assert time.monotonic() < deadline, "it never ended"
            time.sleep(0.02)

    def hear_all_of(self, run: Turn) -> None:
        """Hear the run to its end: the same bytes each time, and no event twice."""
        with self.client.responses.with_streaming_response.retrieve(run.id, stream=True) as told:
            log = told.read()
        assert run.log in (b"", log)
        run.log = log
        heard = events(log.removesuffix(_DONE))
        assert [event["sequence_number"] for event in heard] == list(range(len(heard)))
        assert self.look_at(run) == heard[-1]["response"]["status"]
        assert heard[-1]["response"] == run.body

    def standing(self, conversation: Conversation) -> list[str]:
        """What users said in it."""
        listed: Any = self.client.conversations.items.list(conversation.id, order="asc", limit=100)
        return [item.content[0].text.split()[0] for item in listed if item.type == "message" and item.role == "user"]


def messages(words: Sequence[str]) -> Any:
    """What users say, as items."""
    return [{"type": "message", "role": "user", "content": word} for word in words]


def id_of(answer: bytes) -> str:
    """The id of the response, or of the conversation, that an answer shows: whole, or as a stream's first event."""
    return answer.partition(b'"id":"')[2].partition(b'"')[0].decode()
