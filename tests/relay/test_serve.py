"""A call that is stopped or left at each of its steps: what the client is told, and that it is told once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from app.errors import OverloadedError
from app.offload import Offload
from app.relay.compaction import Compactor
from app.relay.ledger import Ledger
from app.relay.limiter import Limiter
from app.relay.meter import Meter
from app.relay.registry import Registry
from app.relay.serve import Relay
from app.relay.settle import Settler
from app.sealing import KeyRing, Sealer
from app.settings import RelaySettings
from app.state.records import Chain
from app.upstream.answer import UpstreamAnswer
from tests.builders import (
    Connection,
    make_account,
    make_body,
    make_caller,
    make_chain,
    make_lease,
    make_request,
    make_turn,
)
from tests.fakes.streams import response, story

_STREAM = b"".join(story("resp_1"))
_WHOLE = orjson.dumps(response("resp_1", "completed"))
_SEALER = Sealer(KeyRing(b"secret of sixteen"))


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


class Call:
    """One create call through a relay, and what the relay works with.

    Reading a chain stops the call; `closing` is done while upstream's answer is being closed.
    """

    def __init__(self, content_type: str, body: bytes) -> None:
        self.registry = Registry(1)
        self.connection = Connection()
        self.opening = asyncio.Event()
        self.answers = asyncio.Event()
        self.answers.set()
        self.closing: Callable[[], None] = lambda: None
        self.closed = False
        self.content_type = content_type
        self.body = body

    def stop(self) -> None:
        for place in list(self.registry._places):
            place.end()

    async def open(self, call: Any) -> UpstreamAnswer:
        self.opening.set()
        await self.answers.wait()
        return UpstreamAnswer(
            make_account(),
            200,
            {b"content-type": self.content_type.encode()},
            first=self.body,
            body=make_body(_nothing(), self._close),
            lease=make_lease(),
        )

    def _close(self) -> None:
        self.closed = True
        self.closing()

    async def read_chain(self, *_: object) -> Chain:
        self.stop()
        return make_chain(make_turn([], []))

    async def serve(self, **fields: Any) -> None:
        itself: Any = self
        relay = Relay(
            upstream=itself,
            memory=itself,
            conversations=itself,
            registry=self.registry,
            settler=Settler(30, Offload()),
            settings=RelaySettings(),
            keeping_upstreams=(),
            sealer=_SEALER,
            compactor=Compactor(itself, _SEALER, 1, Offload()),
            meter=Meter(Limiter(itself, itself, Offload()), Ledger(itself, itself), Offload()),
            max_context_bytes=1 << 30,
            offload=Offload(),
        )
        request = make_request(store=False, **fields)
        try:
            with self.registry.place("proj_a") as place:
                await relay.serve(request, make_caller(), {}, self.connection.send, self.connection, place=place)
        finally:
            await self.registry.aclose()


@pytest.fixture(params=[("application/json", _WHOLE), ("text/event-stream", _STREAM)], ids=["whole", "streamed"])
def call(request: pytest.FixtureRequest) -> Call:
    return Call(*request.param)


async def test_a_call_is_served_and_upstreams_answer_closed(call: Call) -> None:
    await call.serve()
    assert call.connection.is_finished
    assert call.closed
    assert not call.registry._places


async def test_a_call_that_is_stopped_while_upstream_thinks_may_be_tried_elsewhere(call: Call) -> None:
    call.answers.clear()
    serving = asyncio.create_task(call.serve())
    await call.opening.wait()
    call.stop()
    with pytest.raises(OverloadedError, match="shutting down"):
        await serving
    assert call.connection.sent == []


async def test_a_call_that_is_stopped_while_its_chain_is_read_asks_no_upstream(call: Call) -> None:
    with pytest.raises(OverloadedError, match="shutting down"):
        await call.serve(previous_response_id="resp_0")
    assert not call.opening.is_set()
    assert call.connection.sent == []


async def test_a_stop_after_the_answers_last_byte_adds_nothing(call: Call) -> None:
    await call.serve()
    stopped = Call(call.content_type, call.body)
    stopped.closing = stopped.stop
    await stopped.serve()
    assert stopped.closed
    assert stopped.connection.sent == call.connection.sent


async def test_a_client_that_leaves_while_upstream_thinks_is_answered_by_nobody(call: Call) -> None:
    call.answers.clear()
    serving = asyncio.create_task(call.serve())
    await call.opening.wait()
    call.connection.leave()
    await serving
    assert call.connection.sent == []


async def test_for_a_client_that_left_before_its_call_began_no_upstream_is_asked(call: Call) -> None:
    call.connection.leave()
    await call.serve()
    assert not call.opening.is_set()
    assert call.connection.sent == []
