"""The `responses` endpoint over WebSocket: many turns on one connection, in lanes."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TypeVar

import structlog
from starlette.types import Receive, Scope, Send

from app import allowance
from app.api.channel import Channel, Ending, Peer
from app.api.intake import headers_of
from app.api.queries import is_beta
from app.api.services import Services
from app.byte_budget import Reservation
from app.errors import ApiError, InvalidRequestError, forget_frames
from app.observability.logging import begin_request, note, request_id
from app.relay.lane import Lanes
from app.state import policy
from app.state.records import ApiKey
from app.wire import messages
from app.wire.body import is_large
from app.wire.messages import ClientMessage, CreateCall

_MOST_LANES = 32
_MOST_RUNNING = 16
_MOST_WAITING = 64
# A message is held as it came, as what it was decoded to, and as what is sent on.
_COPIES = 3
_GOING_AWAY, _INTERNAL_ERROR, _RESTART = 1001, 1011, 1012
_FIRST_SERVER_ERROR = 500
_ROUTE = "/v1/responses"
# Said of this connection, and not of the calls upstream, but for a beta: clients name the protocol they speak in it.
_OWN_HEADERS = frozenset({"openai-beta"})

_T = TypeVar("_T")


class ResponsesSocket:
    """Responses over one connection: a text message for each `response.create`, and for each event of an answer."""

    def __init__(self, services: Services, needed: policy.Scope) -> None:
        self._services = services
        self._needed = needed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection to its end. Raises ApiError while the upgrade can be refused."""
        services = self._services
        beta = is_beta(scope)
        headers = {name: value for name, value in headers_of(scope).items() if beta or name not in _OWN_HEADERS}
        read = partial(messages.read_call, is_strict=services.is_strict, is_beta=beta)
        address = services.addresses.of(scope)

        async def identify() -> ApiKey:
            return await services.authenticator.identify(headers, address, self._needed)

        project_id = (await identify()).project_id
        await receive()
        connection = scope["extensions"]["antiphon"]["connection"]
        budget = services.registry.budget
        with budget.reservation(project_id) as arriving, budget.reservation(project_id) as remembered:
            connection.hold(arriving)
            await send({"type": "websocket.accept"})
            peer = Peer(send, connection)
            memory = Lanes(services.archive, services.limits.max_body_bytes, remembered)
            await Session(services, identify, headers, receive, peer, read=read, memory=memory, arriving=arriving).run()


class Session:
    """One connection: its messages are turns, in order within a lane, some at once across lanes.

    Invariant: nothing of it runs once `run` has returned. Invariant: what waits is bounded, by not reading on.
    """

    def __init__(
        self,
        services: Services,
        identify: Callable[[], Awaitable[ApiKey]],
        headers: Mapping[str, str],
        receive: Receive,
        peer: Peer,
        *,
        read: Callable[[bytes, int], CreateCall],
        memory: Lanes,
        arriving: Reservation,
    ) -> None:
        self._services = services
        self._identify = identify
        self._limits = services.limits
        self._headers = headers
        self._receive = receive
        self._peer = peer
        self._read_call = read
        self._request_id = request_id()
        self._memory = memory
        self._arriving = arriving
        # Of each message that waits, or has its turn and not yet its place.
        self._held: dict[ClientMessage, Reservation] = {}
        self._log = structlog.get_logger("antiphon.access").bind()
        self._loop = asyncio.get_running_loop()
        self._ending: asyncio.Future[Ending] = self._loop.create_future()
        self._waiting: deque[ClientMessage] = deque()
        self._running: set[str | None] = set()
        self._lanes: set[str] = set()
        self._room, self._quiet = asyncio.Event(), asyncio.Event()
        self._room.set()
        self._quiet.set()
        self._last_active = self._loop.time()
        self._refusal: ApiError | None = None

    async def run(self) -> None:
        """Serve until the client leaves, a limit is reached or the process stops; then see the turns off."""
        limits, registry = self._limits, self._services.registry
        self._peer.watch(self, lambda: self._end(Ending(_GOING_AWAY)))
        reading = registry.spawn(self._read())
        timer = self._loop.call_later(limits.websocket_seconds, self._reach_limit)
        idling = registry.spawn(self._watch_idleness())
        try:
            with registry.telling(lambda: self._end(Ending(_RESTART))):
                ending = await self._ending
                with suppress(TimeoutError):
                    async with asyncio.timeout(ending.grace):
                        await self._quiet.wait()
                if ending.error is not None:
                    await self._peer.say(messages.of_error(ending.error, None))
                await self._peer.close(ending.code)
                await self._quiet.wait()
        finally:
            timer.cancel()
            idling.cancel()
            reading.cancel()
            self._waiting.clear()
            for message in [*self._held]:
                self._let_go(message)
            self._peer.leave()

    def _end(self, ending: Ending) -> None:
        if not self._ending.done():
            self._ending.set_result(ending)
        if self._peer.is_gone:
            self._waiting.clear()

    def _let_go(self, message: ClientMessage) -> None:
        """Give back what is held for the message, unless its call has taken that over."""
        held = self._held.pop(message, None)
        if held is not None:
            held.shrink(0)

    def _reach_limit(self) -> None:
        self._refusal = InvalidRequestError(
            "This WebSocket connection has reached its time limit. Open a new one to continue.",
            code="websocket_connection_limit_reached",
        )
        self._end(Ending(_GOING_AWAY, self._refusal, self._limits.drain_seconds))

    async def _watch_idleness(self) -> None:
        patience = self._limits.websocket_idle_seconds
        while True:
            await self._quiet.wait()
            left = self._last_active + patience - self._loop.time()
            if left <= 0:
                self._end(Ending(_GOING_AWAY))
                return
            await asyncio.sleep(left)

    async def _read(self) -> None:
        """Take messages in, while there is room for them."""
        try:
            while (message := await self._receive())["type"] != "websocket.disconnect":
                self._last_active = self._loop.time()
                try:
                    await self._take(message.get("text"))
                except ApiError as error:
                    await self._peer.say(messages.of_error(error, None))
                # Many may be here already, and others are to be served as well.
                await asyncio.sleep(0)
                await self._room.wait()
            self._peer.leave()
        except Exception:  # noqa: BLE001 - nobody awaits this task; the operator gets the trace, the client a close
            self._log.exception("unhandled error", path=_ROUTE)
            self._end(Ending(_INTERNAL_ERROR, grace=0))

    async def _take(self, text: str | None) -> None:
        if text is None:
            raise InvalidRequestError(
                "Binary messages are not supported: send each event as JSON in a text message.",
                code="unsupported_message_type",
            )
        message = await self._parsed(messages.read_message, text.encode())
        if message.is_receipt:
            return
        if refusal := messages.refusal(message):
            await self._peer.say(refusal)
            return
        self._enter(message.stream_id)
        self._held[message] = held = self._services.registry.budget.reservation(self._arriving.project_id)
        held.take_over(self._arriving)
        held.shrink(len(message.raw))
        self._waiting.append(message)
        self._start_turns()

    def _enter(self, stream_id: str | None) -> None:
        if stream_id is None or stream_id in self._lanes:
            return
        if len(self._lanes) >= _MOST_LANES:
            raise InvalidRequestError(
                f"A WebSocket connection has at most {_MOST_LANES} lanes, each named by a 'stream_id'.",
                code="websocket_stream_limit_reached",
                param="stream_id",
            )
        self._lanes.add(stream_id)

    def _start_turns(self) -> None:
        """Start what waits and may run: a lane's next turn when its last one has ended."""
        for message in list(self._waiting):
            if len(self._running) >= _MOST_RUNNING:
                break
            if message.stream_id not in self._running:
                self._waiting.remove(message)
                self._running.add(message.stream_id)
                self._services.registry.spawn(self._turn(message))
        size = sum(len(message.raw) for message in self._waiting)
        if len(self._waiting) >= _MOST_WAITING or size >= self._limits.max_body_bytes:
            self._room.clear()
        else:
            self._room.set()
        if self._running:
            self._quiet.clear()
        else:
            self._quiet.set()

    async def _turn(self, message: ClientMessage) -> None:
        """Serve one turn, and log it."""
        begin_request(self._request_id)
        allowance.begin_call()
        started = time.monotonic()
        fault: ApiError | None = None
        try:
            await self._serve(message)
        except ApiError as error:
            fault = error
        except Exception:  # noqa: BLE001 - one turn's fault is not the connection's; the operator gets the trace
            self._log.exception("unhandled error", path=_ROUTE)
            fault = ApiError("The server had an error while processing your request. Please retry it.")
        try:
            if fault is not None:
                forget_frames(fault)
                if fault.status >= _FIRST_SERVER_ERROR:
                    note(code=fault.code, reason=fault.message)
                self._memory.fail(message.stream_id, message.previous_response_id)
                await self._peer.say(messages.of_error(fault, message.stream_id))
        finally:
            self._last_active = self._loop.time()
            self._let_go(message)
            self._running.discard(message.stream_id)
            self._start_turns()
            elapsed = round((time.monotonic() - started) * 1000, 1)
            self._log.info("turn", route=_ROUTE, status=fault.status if fault else 200, ms=elapsed)

    async def _serve(self, message: ClientMessage) -> None:
        if self._refusal is not None:
            raise self._refusal
        services, lane = self._services, message.stream_id
        # Asked anew for each turn: a key may be revoked while its connection lasts.
        caller = await self._identify()
        channel = Channel(self._peer, lane)
        with await services.registry.admit(caller.project_id) as place:
            place.bytes.take_over(self._held.pop(message))
            await place.bytes.add(len(message.raw) * (_COPIES - 1))
            call = await self._parsed(self._read_call, message.raw)
            memory = self._memory.memory(lane, message.previous_response_id, store=call.request.store)
            if not call.generates:
                for frame in messages.warm_up(await services.relay.warm_up(call.request, caller, memory, place)):
                    await channel.frames(frame)
                return
            serving = services.relay.serve(
                call.request, caller, self._headers, channel.send, channel, place=place, lane=memory
            )
            # The prompt is not to be held while the answer streams.
            message.raw = b""
            del call
            await serving
        if not channel.has_ended:
            # It left, or reads nothing: what it was not told it cannot be told any more.
            self._peer.leave()

    async def _parsed(self, read: Callable[[bytes, int], _T], raw: bytes) -> _T:
        """What `read` makes of a message."""
        depth = self._limits.max_json_depth
        return await self._services.offload.run(len(raw), read, raw, depth) if is_large(raw) else read(raw, depth)
