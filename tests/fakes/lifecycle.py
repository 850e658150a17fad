"""What the clients of a gateway were told, and what its upstream was asked: for tests of any calls in any order."""

import base64
import itertools
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from tests.fakes.gateway import GatewayProcess

_STATE = {"previous_response_id", "conversation", "background"}


@dataclass
class World:
    """One gateway and its upstream for all runs, and what upstream has been asked, by its log."""

    gateway: GatewayProcess
    log: Path
    unfinished: set[str] = field(default_factory=set)
    _asked: list[list[str]] = field(default_factory=list)
    _read: int = 0
    words: Iterator[str] = field(default_factory=lambda: (f"word{number:06d}" for number in itertools.count()))

    def asked(self) -> list[list[str]]:
        """Of each generation so far, the words that the users of its history and then its own said."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            for line in log:
                self._read += len(line)
                call = orjson.loads(line)
                if call["method"] == "POST":
                    self._asked.append(_words(orjson.loads(base64.b64decode(call["body"]))))
        return self._asked


@dataclass
class Turn:
    """A response as its client knows it. `history` are the turns it builds on, oldest first; `body` its last word."""

    id: str
    word: str
    history: tuple["Turn | str", ...]
    body: dict[str, Any] | None = None
    deleted: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether it and all that it builds on are there."""
        return not self.deleted and all(isinstance(turn, str) or not turn.deleted for turn in self.history)

    @property
    def heard(self) -> list[str]:
        """What upstream is to be sent when this is continued: a failed turn is passed over."""
        said = [turn if isinstance(turn, str) else turn.own for turn in (*self.history, self)]
        return [word for word in said if word]

    @property
    def own(self) -> str:
        return "" if self.body is None or self.body["status"] == "failed" else self.word


@dataclass
class Conversation:
    id: str
    words: list[str] = field(default_factory=list)


def _words(body: dict[str, Any]) -> list[str]:
    """The words of all user messages in what upstream was sent; it is never told of any state."""
    assert body["store"] is False
    assert _STATE.isdisjoint(body)
    given = body["input"]
    if isinstance(given, str):
        return [given.split()[0]]
    return [_text(item["content"]).split()[0] for item in given if item.get("role") == "user"]


def _text(content: str | list[dict[str, str]]) -> str:
    return content if isinstance(content, str) else content[0]["text"]


@contextmanager
def running_world(folder: Path) -> Iterator[World]:
    """A gateway process on SQLite and the demo model as its upstream, in this folder."""
    log = folder / "upstream.log"
    command = [sys.executable, "-m", "tests.fakes.upstream", "--log", str(log)]
    upstream = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert upstream.stdout is not None
    url = upstream.stdout.readline().strip()
    gateway = GatewayProcess(folder, {"OPENAI_API_KEY": "sk-upstream", "OPENAI_BASE_URL": url}).start()
    log.touch()
    try:
        yield World(gateway, log)
    finally:
        gateway.stop()
        upstream.kill()
        upstream.wait()
        upstream.stdout.close()
