"""What the clients of a gateway were told, and what its upstream was asked: for tests of any calls in any order."""

import itertools
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx2
import orjson
from openai import OpenAI
from sqlalchemy import Engine, NullPool, bindparam, create_engine, make_url, update
from sqlalchemy.exc import OperationalError

from app.storage.idempotency.tables import idempotency_keys
from app.storage.tables import runs
from tests.fakes.commits import hold_commits
from tests.fakes.forked import ForkedGateway
from tests.fakes.upstream_thread import UpstreamThread

# What a write may take before its caller is told that it is late; what holds writers back lasts longer or not so long.
COMMIT_SECONDS = 1.2
_HELD_TABLES = ("responses", "runs", "conversations", "idempotency_keys")
# How often a call that is told 503 is made again, as it says.
_TRIES = 8


@dataclass
class Turn:
    """A response as its client knows it. `history` are the turns it builds on, oldest first; `body` its last word.

    One that was asked for under an idempotency key has that, what was asked, and its answer. A run that was ordered of
    one gateway is `at` that.
    """

    id: str
    word: str
    history: tuple["Turn | str", ...] = ()
    body: dict[str, Any] | None = None
    deleted: bool = False
    key: str = ""
    asked: dict[str, Any] = field(default_factory=dict)
    answer: bytes = b""
    is_streamed: bool = False
    log: bytes = b""
    at: ForkedGateway | None = None
    conversation: "Conversation | None" = None

    @property
    def is_whole(self) -> bool:
        """Whether it and all that it builds on are there."""
        return self.is_there and all(isinstance(turn, str) or turn.is_there for turn in self.history)

    @property
    def is_there(self) -> bool:
        """Whether it can be continued for its own part: what stood before it in a conversation goes with that."""
        return not self.deleted and (self.conversation is None or not self.conversation.deleted)

    @property
    def is_unfinished(self) -> bool:
        """Whether nobody has seen its end."""
        return self.body is None and not self.deleted

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
    deleted: bool = False


class World:
    """The gateways on one database and their upstream, for all runs, and what they were told.

    `unfinished` are runs that nobody has seen the end of, `refused` the words of orders that were refused, and `unsure`
    those of calls that may be paid for again: their process was killed, or their client was told to ask again. `rests`
    are keys, since when all gateways know that they are to rest, and until when.
    """

    def __init__(self, gateways: Sequence[ForkedGateway], upstream: UpstreamThread, database_url: str) -> None:
        self.gateways = gateways
        self.upstream = upstream
        self.database_url = database_url
        self.unfinished: set[str] = set()
        self.refused: set[str] = set()
        self.unsure: set[str] = set()
        self.rests: list[tuple[str, float, float]] = []
        self.words = (f"word{number:06d}" for number in itertools.count())
        self.paused: ForkedGateway | None = None
        self._turns = itertools.cycle(range(len(gateways)))
        url = make_url(database_url)
        driver = "postgresql+psycopg" if url.get_backend_name() == "postgresql" else url.drivername
        self._engine: Engine = create_engine(url.set(drivername=driver), poolclass=NullPool)
        transport = _Patient(self)
        self._clients = [
            OpenAI(
                base_url=f"{gateway.url}/v1",
                api_key=gateways[0].key,
                max_retries=0,
                http_client=httpx2.Client(transport=transport, timeout=60),
            )
            for gateway in gateways
        ]

    @property
    def gateway(self) -> ForkedGateway:
        """The next of those that are not paused: each call goes to another than the last."""
        while (gateway := self.gateways[next(self._turns)]) is self.paused:
            pass
        return gateway

    def client(self, gateway: ForkedGateway | None = None) -> OpenAI:
        """A client of this gateway, or of the next; one that does as a 503 says, and asks again."""
        return self._clients[self.gateways.index(gateway or self.gateway)]

    def post(
        self, path: str, body: dict[str, Any], key: str = "", gateway: ForkedGateway | None = None
    ) -> httpx2.Response:
        """Ask once, whatever is answered."""
        headers = {"authorization": f"Bearer {self.gateways[0].key}", **({"idempotency-key": key} if key else {})}
        url = f"{(gateway or self.gateway).url}/v1{path}"
        return httpx2.post(url, json=body, headers=headers, timeout=60)

    def asked(self) -> list[list[str]]:
        """Of each generation so far, the words that the users of its history and then its own said."""
        return self.upstream.generations

    def check_payments(self) -> None:
        """Have every generation be asked for once; nothing is that was refused."""
        counted = Counter(words[-1] for words in self.asked())
        twice = {word for word, count in counted.items() if count > 1}
        assert twice <= self.unsure, f"they were paid for again: {sorted(twice - self.unsure)}"
        late = self.refused & counted.keys()
        assert not late, f"they were refused, and made all the same: {sorted(late)}"

    def pause(self, gateway: ForkedGateway) -> None:
        """Have a process do nothing until it goes on."""
        assert self.paused is None
        self.paused = gateway
        gateway.send(signal.SIGSTOP)

    def go_on(self) -> None:
        if self.paused is not None:
            self.paused.send(signal.SIGCONT)
            self.paused = None

    def restart(self, gateway: ForkedGateway) -> None:
        """Kill it, paused or not, and have it serve again; the time of what its calls have leased goes by."""
        gateway.kill()
        if self.paused is gateway:
            self.paused = None
        gateway.start()
        keys = update(idempotency_keys).where(idempotency_keys.c.owner.is_not(None)).values(lease_until=0)
        with self._engine.begin() as connection:
            connection.execute(keys)

    def states(self, gateway: ForkedGateway) -> dict[str, str]:
        """What a gateway thinks of each account, by its name."""
        headers = {"authorization": f"Bearer {self.gateways[0].admin_key}"}
        told = httpx2.get(f"{gateway.url}/admin/v1/upstreams", headers=headers, timeout=60).json()
        return {account["name"]: account["state"] for each in told["data"] for account in each["accounts"]}

    def end_leases(self, run_ids: Sequence[str]) -> None:
        """Have the time go by for which these runs are their owner's."""
        ended = update(runs).where(runs.c.id.in_(bindparam("ids", expanding=True))).values(lease_until=0)
        with self._engine.begin() as connection:
            connection.execute(ended, {"ids": list(run_ids)})

    @contextmanager
    def held_writers(self) -> Iterator[None]:
        """Let nobody write what calls leave."""
        with ExitStack() as held:
            while True:
                try:
                    hold_commits(self.database_url, held, *_HELD_TABLES)
                    break
                except OperationalError:
                    # Somebody writes. To wait for one table with another in hand would be a deadlock.
                    held.close()
                    time.sleep(0.01)
            yield


class _Patient(httpx2.HTTPTransport):
    """Makes a call again that was told 503, and notes that it may be paid for again. A paused process may be why."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = super().handle_request(request)
        for _ in range(_TRIES):
            if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                break
            answer.read()
            self._world.go_on()
            if request.method == "POST" and (word := orjson.loads(request.content or b"{}").get("input")):
                self._world.unsure.add(word.split()[0])
            answer = super().handle_request(request)
        return answer


@contextmanager
def running_world(
    folder: Path, database_url: str | None = None, *, replicas: int = 1, keys: int = 1
) -> Iterator[World]:
    """Gateway processes on one database (without a URL their own, on SQLite) before an upstream that has these keys."""
    with UpstreamThread.running() as upstream, ExitStack() as stack:
        environment = {
            "OPENAI_API_KEY": ",".join(upstream.keys(keys)),
            "OPENAI_BASE_URL": upstream.url,
            "ANTIPHON_COMMIT_TIMEOUT_SECONDS": str(COMMIT_SECONDS),
        }
        if database_url is not None:
            environment["DATABASE_URL"] = database_url
        gateways = []
        for number in range(replicas):
            (folder / f"replica{number}").mkdir()
            gateway = ForkedGateway(folder / f"replica{number}", environment)
            stack.callback(gateway.kill)
            gateways.append(gateway.start())
        url = database_url or f"sqlite:///{gateways[0].data_dir / 'antiphon.db'}"
        world = World(gateways, upstream, url)
        stack.callback(world.go_on)
        yield world
