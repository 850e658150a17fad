"""A call that is stopped or left at each of its steps: what the client is told, and that it is told once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from app.errors import OverloadedError
from app.relay.call.prepare import Preparer
from app.relay.call.settle import Settler
from app.relay.call.stream_or_whole_answer import AnswerDelivery
from app.relay.context.compaction import Compactor
from app.relay.metering.limiter import Limiter
from app.relay.metering.meter import Meter
from app.relay.metering.usage_recorder import UsageRecorder
from app.relay.process.admission_and_drain import CallRegistry
from app.relay.serve import Relay
from app.runtime.compute_thread import ComputeThread
from app.security.encryption import Sealer
from app.security.key_ring import KeyRing
from app.settings.gateway import RelaySettings
from app.state.records import Chain
from app.upstream.call.answer import UpstreamAnswer
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
        self.registry = CallRegistry(1)
        self.connection = Connection()
        self.opening = asyncio.Event()
        self.answers = asyncio.Event()
        self.answers.set()
        self.closing: Callable[[], None] = lambda: None
        self.closed = False
        self.content_type = content_type
        self.body = body

    def stop(self) -> None:
        for admitted in list(self.registry._admitted):
            admitted.end()

    async def open(self, call: Any) -> UpstreamAnswer:
        self.opening.set()
        await self.answers.wait()
        return UpstreamAnswer(
            make_account(),
            200,
            {b"content-type": self.content_type.encode()},
            first=self.body,
            body=make_body(_nothing(), self._close),
            checkout=make_lease(),
        )

    def _close(self) -> None:
        self.closed = True
        self.closing()

    async def read_chain(self, *_: object) -> Chain:
        self.stop()
        return make_chain(make_turn([], []))

    async def serve(self, **fields: Any) -> None:
        itself: Any = self
        settings = RelaySettings()
        relay = Relay(
            history=itself,
            conversations=itself,
            registry=self.registry,
            preparer=Preparer(_SEALER, ComputeThread(), max_context_bytes=1 << 30),
            compactor=Compactor(itself, _SEALER, 1, ComputeThread()),
            meter=Meter(Limiter(itself, itself, ComputeThread()), UsageRecorder(itself, itself), ComputeThread()),
            delivery=AnswerDelivery(Settler(30, ComputeThread()), settings, ComputeThread()),
            keep_alive_seconds=settings.keep_alive_seconds,
        )
        request = make_request(store=False, **fields)
        try:
            with self.registry.admit_now("proj_a") as admitted:
                await relay.serve(request, make_caller(), {}, self.connection.send, self.connection, admitted=admitted)
        finally:
            await self.registry.aclose()


@pytest.fixture(params=[("application/json", _WHOLE), ("text/event-stream", _STREAM)], ids=["whole", "streamed"])
def call(request: pytest.FixtureRequest) -> Call:
    return Call(*request.param)


async def test_a_call_is_served_and_upstreams_answer_closed(call: Call) -> None:
    await call.serve()
    assert call.connection.is_finished
    assert call.closed
    assert not call.registry._admitted


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
