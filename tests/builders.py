"""What the unit tests build again and again: items, turns, chains, requests, who sends them, streams on their way."""

import asyncio
from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from typing import Any

import orjson

from app.relay.call.exchange import Exchange
from app.relay.call.prepare import Preparer, asks_for_reasoning, served_by
from app.relay.process.admission_and_drain import CallRegistry
from app.relay.stream.accumulator import StreamAccumulator
from app.relay.stream.client import Client
from app.relay.stream.pump import Pump
from app.runtime.byte_budget import ByteBudget
from app.runtime.compute_thread import ComputeThread
from app.security.encryption import Sealer
from app.security.key_ring import KeyRing
from app.settings.upstreams import UpstreamSettings
from app.state.items.stored_form import input_items, output_items
from app.state.items.turn_packing import pack
from app.state.records import ApiKey, Chain, Item, Turn
from app.upstream.account import Account
from app.upstream.call.answer import UpstreamAnswer
from app.upstream.pool.checkout import Checkout
from app.upstream.pool.pool import Pool
from app.upstream.transport import Chunks
from app.wire.requests.create import CreateRequest, parse_create_request
from tests.fakes.streams import events

ACCOUNT = "main/one"
OTHER = "main/other"
NOW = 1_800_000_000


def make_item(
    value: dict[str, Any], *, is_output: bool = False, account: str = ACCOUNT, status: str = "completed"
) -> Item:
    """The item as it is kept of this JSON, as the input or the output of a turn that this account served."""
    raw = orjson.dumps(value)
    if is_output:
        return output_items([raw], account, status)[0]
    return input_items([value], b"[" + raw + b"]", {})[0]


def make_turn(
    given: list[dict[str, Any]], said: list[dict[str, Any]], *, status: str = "completed", account: str = ACCOUNT
) -> Turn:
    items = [make_item(value) for value in given]
    items += [make_item(value, is_output=True, account=account, status=status) for value in said]
    return pack(status, account, items)


def make_chain(*turns: Turn) -> Chain:
    return Chain(len(turns), turns)


def make_request(**fields: Any) -> CreateRequest:
    """A valid create request; a member that is given as None is left out."""
    members = {"model": "demo", "input": "Hello!", **fields}
    raw = orjson.dumps({name: value for name, value in members.items() if value is not None})
    return parse_create_request(raw, 64)


def make_caller(*, retention_days: int | None = None, revoked_at: int | None = None, **members: Any) -> ApiKey:
    return ApiKey("key_1", "proj_a", "test", "wxyz", NOW, revoked_at, retention_days, **members)


def make_exchange(
    request: CreateRequest,
    caller: ApiKey | None = None,
    *,
    chain: Chain | None = None,
    items: tuple[Item, ...] = (),
    refers: bool = False,
    memory: Any = None,
) -> Exchange:
    """An exchange as `Preparer.prepare` leaves it, of a context that is here."""
    made = Exchange(request, caller or make_caller())
    made.chain, made.items, made.refers, made.history, made.is_kept = chain, items, refers, memory, memory is not None
    made.parent_key = None if chain is None else chain.key
    made.prefer = served_by(made)
    made.without_reasoning = set() if asks_for_reasoning(made) else None
    return made


async def make_prepared(
    request: CreateRequest, memory: Any, *, caller: ApiKey | None = None, keep: bool = True, max_bytes: int = 1 << 20
) -> Exchange:
    """The exchange of a request that builds on what this memory has, and is kept there."""
    made = Exchange(request, caller or make_caller())
    sealer = Sealer(KeyRing(b"secret of sixteen"))
    held = ByteBudget(1 << 30).reservation(made.project_id)
    await Preparer(sealer, ComputeThread(), max_context_bytes=max_bytes).prepare(made, memory, held, keep=keep)
    return made


def make_account(name: str = ACCOUNT, **upstream: Any) -> Account:
    return Account(name, UpstreamSettings(**{"name": "main", "base_url": "http://127.0.0.1:9", **upstream}), None)


def make_lease() -> Checkout:
    """A lease on an account of a pool of its own."""
    pool = Pool([UpstreamSettings(name="main", base_url="http://127.0.0.1:9")], 1)
    return pool.checkout(pool.accounts()[0])


def user(text: str, item_id: str | None = None) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": text} | ({"id": item_id} if item_id else {})


def says(text: str, item_id: str = "msg_1", status: str = "completed") -> dict[str, Any]:
    """A message as upstream returns it."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"id": item_id, "type": "message", "role": "assistant", "status": status, "content": content}


def thinks(item_id: str = "rs_1", **members: Any) -> dict[str, Any]:
    return {"id": item_id, "type": "reasoning", "summary": [], "encrypted_content": "sealed", **members}


def calls(call_id: str = "call_1", item_id: str = "fc_1", **members: Any) -> dict[str, Any]:
    call = {"id": item_id, "type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}"}
    return {**call, "status": "completed", **members}


def answers(call_id: str = "call_1") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": "42"}


class Connection:
    """What a server gives an app. While `reading` is not set, the client reads nothing."""

    def __init__(self) -> None:
        self.sent: list[MutableMapping[str, Any]] = []
        self.is_left = False
        self.reading = asyncio.Event()
        self.reading.set()
        self.wrote = asyncio.Condition()
        self._on_lost: Callable[[], None] | None = None

    async def receive(self) -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    def watch(self, gone: Callable[[], None] | None) -> None:
        self._on_lost = gone
        if gone is not None and self.is_left:
            gone()

    def push(self, body: bytes) -> bool:
        if not self.reading.is_set():
            return False
        self.sent.append({"type": "http.response.body", "body": body, "more_body": True})
        return True

    def leave(self) -> None:
        """The client closes the connection."""
        self.is_left = True
        if self._on_lost is not None:
            self._on_lost()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await self.reading.wait()
        assert not self.is_finished, "sent after the end"
        self.sent.append(message)
        async with self.wrote:
            self.wrote.notify_all()
        if self.is_finished:
            # Nothing keeps a client that has its answer. The loop tells so, and not whoever writes.
            asyncio.get_running_loop().call_soon(self.leave)

    async def body_of(self, length: int) -> bytes:
        """The body once it is so long."""
        async with asyncio.timeout(20), self.wrote:
            await self.wrote.wait_for(lambda: len(self.body) >= length)
        return self.body

    @property
    def body(self) -> bytes:
        return b"".join([message.get("body", b"") for message in self.sent])

    @property
    def is_finished(self) -> bool:
        # The message that begins an answer brings all of its body, or none.
        return bool(self.sent) and self.sent[-1].get("more_body", "body" not in self.sent[-1]) is False

    def client(self, registry: CallRegistry, *, keep_alive: float = 0) -> Client:
        return Client(self.send, self, registry, keep_alive_seconds=keep_alive)


class Settling:
    """A settle that notes what it was given; it answers when `go` is set, with `errors` in turn."""

    def __init__(self) -> None:
        self.given: list[bytes | None] = []
        self.ends: list[str | None] = []
        self.delivered: list[Sequence[bytes]] = []
        self.errors: list[Exception] = []
        self.began = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, raw: bytes | None, status: str | None = None, delivered: Sequence[bytes] = (), /) -> bytes:
        self.given.append(raw)
        self.ends.append(status)
        self.delivered.append(delivered)
        self.began.set()
        await self.go.wait()
        if self.errors:
            raise self.errors.pop(0)
        return raw or b""

    @property
    def statuses(self) -> list[str]:
        return [orjson.loads(raw or b"{}").get("status") for raw in self.given]


def make_body(chunks: AsyncIterator[bytes], closing: Callable[[], None] = lambda: None) -> Chunks:
    """The body of upstream's answer; `closing` is done while it is being closed."""

    async def close() -> None:
        closing()
        await asyncio.sleep(0)

    return Chunks(chunks, close)


class StreamRun:
    """A pump from these chunks to a connection. An exception among the chunks is raised there; None waits for ever."""

    def __init__(self, chunks: Sequence[bytes | Exception | None], max_event_bytes: int = 1 << 20) -> None:
        self.connection = Connection()
        self.settling = Settling()
        self.registry = CallRegistry(1)
        self.client: Client = self.connection.client(self.registry)
        first, *rest = chunks
        assert isinstance(first, bytes)
        self.answer = UpstreamAnswer(
            make_account(),
            200,
            {},
            first=first,
            body=make_body(self._play(rest)),
            checkout=make_lease(),
        )
        accumulator = StreamAccumulator({"model": "demo"}, 1 << 20)
        held = self.registry.budget.reservation("proj_a")
        self.pump = Pump(
            self.answer,
            self.client,
            accumulator,
            self.settling,
            max_event_bytes=max_event_bytes,
            held=held,
            compute_thread=ComputeThread(),
        )

    @staticmethod
    async def _play(chunks: Sequence[bytes | Exception | None]) -> AsyncIterator[bytes]:
        for chunk in chunks:
            if chunk is None:
                await asyncio.Event().wait()
            elif isinstance(chunk, bytes):
                yield chunk
            else:
                raise chunk

    async def serve(self) -> None:
        try:
            with self.client:
                await self.client.begin_stream(200, [])
                await self.pump.run()
        finally:
            await self.answer.aclose()
            await self.registry.aclose()

    async def body(self) -> bytes:
        await self.serve()
        assert self.connection.is_finished
        return self.connection.body

    async def ending(self, sent: bytes) -> list[dict[str, Any]]:
        """The events after these bytes."""
        body = await self.body()
        assert body.startswith(sent)
        return events(body[len(sent) :])
