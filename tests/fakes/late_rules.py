"""Calls whose commits are held back: what was refused is not there later, what was acknowledged is."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.fakes.lifecycle import COMMIT_SECONDS, Conversation, Turn
from tests.fakes.lifecycle_rules import SLOW, Lifecycle, id_of, messages

_MOST_CALLS = 6
# Not so long that anything is late, about as long, and longer by more than a commit under way is waited for.
_HELD_SECONDS = (0.2, COMMIT_SECONDS, COMMIT_SECONDS + 0.7)
# Until a process is stopped, which then stands for longer than its writes may take.
_STOPPED_AFTER_SECONDS = (0.0, 0.003, 0.006, 0.012, 0.025)
# What is held for half a minute at once is let go sooner.
_UNDONE_SECONDS = 20.0
_ORDERS = ("order", "streamed order")
_KINDS = (*_ORDERS, "order under a key", "turn", "turn under a key", "conversation", "item", "turn in a conversation")


@dataclass
class Attempt:
    """A call of this kind, which says this word, in a conversation of its own if in any."""

    kind: str
    word: str
    conversation: Conversation | None
    path: str = "/responses"
    body: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind == "conversation":
            self.path, self.body = "/conversations", {"items": messages([self.word])}
        elif self.kind == "item":
            assert self.conversation is not None
            self.path = f"/conversations/{self.conversation.id}/items"
            self.body = {"items": messages([self.word])}
        else:
            self.body = {"model": "demo", "input": self.word}
            if "order" in self.kind:
                self.body |= {"input": f"{self.word} {SLOW}", "background": True, "stream": self.kind != "order"}
            if self.kind == "turn in a conversation" and self.conversation is not None:
                self.body["conversation"] = self.conversation.id

    @property
    def key(self) -> str:
        return f"key-{self.word}" if "key" in self.kind else ""


class HeldWriters(Lifecycle):
    """The calls, and once in a run some whose commits have to wait."""

    was_late = False

    @precondition(lambda self: not self.was_late and not self.is_paused)
    @rule(
        seconds=st.sampled_from(_HELD_SECONDS),
        kinds=st.lists(st.sampled_from(_KINDS), min_size=1, max_size=_MOST_CALLS),
    )
    def hold_back_writers(self, seconds: float, kinds: Sequence[str]) -> None:
        self.was_late = True
        attempts = self._attempts(kinds)
        with ThreadPoolExecutor(len(attempts)) as pool, self.world.held_writers():
            answers = [pool.submit(self._ask, attempt) for attempt in attempts]
            time.sleep(seconds)
        self._check(attempts, answers)

    @precondition(lambda self: not self.was_late and not self.is_paused)
    @rule(
        seconds=st.sampled_from(_STOPPED_AFTER_SECONDS),
        kinds=st.lists(st.sampled_from(_KINDS), min_size=1, max_size=_MOST_CALLS),
    )
    def stop_amid_writes(self, seconds: float, kinds: Sequence[str]) -> None:
        self.was_late = True
        attempts, gateway = self._attempts(kinds), self.world.gateway
        with ThreadPoolExecutor(len(attempts)) as pool:
            answers = [pool.submit(self._ask, attempt, gateway=gateway) for attempt in attempts]
            time.sleep(seconds)
            self.world.pause(gateway)
            time.sleep(COMMIT_SECONDS + 0.7)
            self.world.go_on()
        self._check(attempts, answers)

    def _attempts(self, kinds: Sequence[str]) -> Sequence[Attempt]:
        stand = {"item", "turn in a conversation"}
        return [Attempt(kind, next(self.world.words), self.converse_now() if kind in stand else None) for kind in kinds]

    def _ask(self, attempt: Attempt, **at: Any) -> httpx2.Response:
        return self.world.post(attempt.path, attempt.body, attempt.key, **at)

    def _check(self, attempts: Sequence[Attempt], answers: Sequence[Future[httpx2.Response]]) -> None:
        for attempt, answer in zip(attempts, answers, strict=True):
            self._is_true(attempt, answer.result())

    def _is_true(self, attempt: Attempt, answer: httpx2.Response) -> None:
        """Find that what was told is so."""
        assert answer.status_code in {200, 503}, answer.text
        is_made = answer.status_code == 200
        if attempt.key:
            # Who repeats it pays once, and gets it once it has been made.
            again = self._ask(attempt)
            assert again.status_code in {200, answer.status_code}, again.text
            assert not is_made or id_of(again.content) == id_of(answer.content)
            answer, is_made = again, again.status_code == 200
        if attempt.conversation is not None:
            attempt.conversation.words += [attempt.word] if is_made else []
            assert self.standing(attempt.conversation) == attempt.conversation.words
            self._say_soon(attempt.conversation)
        elif not is_made:
            if attempt.kind in _ORDERS:
                self.world.refused.add(attempt.word)
        elif attempt.kind == "conversation":
            assert self.standing(Conversation(id_of(answer.content))) == [attempt.word]
        else:
            turn = Turn(id_of(answer.content), attempt.word, is_streamed=bool(attempt.body.get("stream")))
            if "order" in attempt.kind:
                self.took(turn)
                self.wait_until_ended(turn)
            assert self.look_at(turn) == "completed"

    def _say_soon(self, conversation: Conversation) -> None:
        """Go on in it. Nobody holds it who is not there: what came too late is undone, and no lease is waited for."""
        deadline = time.monotonic() + _UNDONE_SECONDS
        while True:
            try:
                self.say_in(conversation)
            except openai.BadRequestError as refused:
                if refused.code != "conversation_locked" or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return
