"""Serve /v1/responses over WebSocket: many turns on one connection, in lanes."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TypeVar

import structlog
from starlette.types import Receive, Scope, Send

from app.api.request_body import connection_of, headers_of
from app.api.services import Services
from app.api.v1.query_parameters import is_beta
from app.api.v1.websocket_turn import SocketClient, SocketClose, WebSocketTurn
from app.errors import ApiError, InvalidRequestError, forget_frames
from app.observability.logging import begin_request, note, request_id
from app.relay.history.lane import Lanes
from app.runtime import storage_time
from app.runtime.byte_budget import Reservation
from app.state import policies
from app.state.records import ApiKey
from app.wire import websocket_messages
from app.wire.json_body import is_large
from app.wire.websocket_messages import ClientMessage, CreateCall

_MOST_LANES = 32
_MOST_RUNNING = 16
_MOST_WAITING = 64
# A message is held as it came, decoded, and rendered for upstream.
_COPIES = 3
_GOING_AWAY, _INTERNAL_ERROR, _RESTART = 1001, 1011, 1012
_FIRST_SERVER_ERROR = 500
_ROUTE = "/v1/responses"
# Describes this connection and not the calls to upstream, unless they are beta: clients name their protocol in it.
_OWN_HEADERS = frozenset({"openai-beta"})

_T = TypeVar("_T")


class ResponsesWebSocket:
    """Serve responses over one connection: a text message for each `response.create` and for each event."""

    def __init__(self, services: Services, needed: policies.Scope) -> None:
        self._services = services
        self._needed = needed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection to its end. Raises ApiError while the upgrade can be refused."""
        services = self._services
        beta = is_beta(scope)
        headers = {name: value for name, value in headers_of(scope).items() if beta or name not in _OWN_HEADERS}
        read = partial(websocket_messages.read_call, is_strict=services.is_strict, is_beta=beta)
        address = services.addresses.of(scope)

        async def identify() -> ApiKey:
            return await services.authenticator.identify(headers, address, self._needed)

        project_id = (await identify()).project_id
        await receive()
        connection = connection_of(scope)
        budget = services.registry.budget
        with budget.reservation(project_id) as arriving, budget.reservation(project_id) as remembered:
            connection.hold(arriving)
            await send({"type": "websocket.accept"})
            peer = SocketClient(send, connection)
            memory = Lanes(services.stored_history, services.limits.max_body_bytes, remembered)
            await Session(services, identify, headers, receive, peer, read=read, memory=memory, arriving=arriving).run()


class Session:
    """Run the turns of one connection: in order within a lane, some at once across lanes.

    Invariants: no task of the session outlives `run`; waiting messages are bounded, by not reading on.
    """

    def __init__(
        self,
        services: Services,
        identify: Callable[[], Awaitable[ApiKey]],
        headers: Mapping[str, str],
        receive: Receive,
        peer: SocketClient,
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
        # By message, from its arrival until its call is admitted.
        self._held: dict[ClientMessage, Reservation] = {}
        self._log = structlog.get_logger("antiphon.access").bind()
        self._loop = asyncio.get_running_loop()
        self._close: asyncio.Future[SocketClose] = self._loop.create_future()
        self._waiting: deque[ClientMessage] = deque()
        self._running: set[str | None] = set()
        self._lanes: set[str] = set()
        self._capacity, self._idle = asyncio.Event(), asyncio.Event()
        self._capacity.set()
        self._idle.set()
        self._last_active = self._loop.time()
        self._limit_error: ApiError | None = None

    async def run(self) -> None:
        """Serve until the client leaves, a limit is reached or the process stops; then wait for the turns to end."""
        limits, registry = self._limits, self._services.registry
        self._peer.watch(self, lambda: self._end(SocketClose(_GOING_AWAY)))
        reading = registry.spawn(self._read())
        timer = self._loop.call_later(limits.websocket_seconds, self._reach_limit)
        idling = registry.spawn(self._watch_idleness())
        try:
            with registry.when_closing(lambda: self._end(SocketClose(_RESTART))):
                close = await self._close
                with suppress(TimeoutError):
                    async with asyncio.timeout(close.grace):
                        await self._idle.wait()
                if close.error is not None:
                    await self._peer.send_text(websocket_messages.of_error(close.error, None))
                await self._peer.close(close.code)
                await self._idle.wait()
        finally:
            timer.cancel()
            idling.cancel()
            reading.cancel()
            self._waiting.clear()
            for message in [*self._held]:
                self._release(message)
            self._peer.leave()

    def _end(self, close: SocketClose) -> None:
        if not self._close.done():
            self._close.set_result(close)
        if self._peer.is_gone:
            self._waiting.clear()

    def _release(self, message: ClientMessage) -> None:
        """Release the message's reservation, unless its call has taken it over."""
        held = self._held.pop(message, None)
        if held is not None:
            held.shrink(0)

    def _reach_limit(self) -> None:
        self._limit_error = InvalidRequestError(
            "This WebSocket connection has reached its time limit. Open a new one to continue.",
            code="websocket_connection_limit_reached",
        )
        self._end(SocketClose(_GOING_AWAY, self._limit_error, self._limits.drain_seconds))

    async def _watch_idleness(self) -> None:
        patience = self._limits.websocket_idle_seconds
        while True:
            await self._idle.wait()
            left = self._last_active + patience - self._loop.time()
            if left <= 0:
                self._end(SocketClose(_GOING_AWAY))
                return
            await asyncio.sleep(left)

    async def _read(self) -> None:
        """Read messages while there is room for them."""
        try:
            while (message := await self._receive())["type"] != "websocket.disconnect":
                self._last_active = self._loop.time()
                try:
                    await self._take(message.get("text"))
                except ApiError as error:
                    await self._peer.send_text(websocket_messages.of_error(error, None))
                # Many messages may have arrived already; yield to other connections.
                await asyncio.sleep(0)
                await self._capacity.wait()
            self._peer.leave()
        except Exception:  # noqa: BLE001 - nobody awaits this task: the operator gets the trace, the client a close
            self._log.exception("unhandled error", path=_ROUTE)
            self._end(SocketClose(_INTERNAL_ERROR, grace=0))

    async def _take(self, text: str | None) -> None:
        if text is None:
            raise InvalidRequestError(
                "Binary messages are not supported: send each event as JSON in a text message.",
                code="unsupported_message_type",
            )
        message = await self._parsed(websocket_messages.read_message, text.encode())
        if message.is_receipt:
            return
        if refusal := websocket_messages.unexpected_message_error(message):
            await self._peer.send_text(refusal)
            return
        self._open_lane(message.stream_id)
        self._held[message] = held = self._services.registry.budget.reservation(self._arriving.project_id)
        held.take_over(self._arriving)
        held.shrink(len(message.raw))
        self._waiting.append(message)
        self._start_turns()

    def _open_lane(self, stream_id: str | None) -> None:
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
        """Start each waiting turn that may run: a lane's next turn once its last one has ended."""
        for message in list(self._waiting):
            if len(self._running) >= _MOST_RUNNING:
                break
            if message.stream_id not in self._running:
                self._waiting.remove(message)
                self._running.add(message.stream_id)
                self._services.registry.spawn(self._turn(message))
        size = sum(len(message.raw) for message in self._waiting)
        if len(self._waiting) >= _MOST_WAITING or size >= self._limits.max_body_bytes:
            self._capacity.clear()
        else:
            self._capacity.set()
        if self._running:
            self._idle.clear()
        else:
            self._idle.set()

    async def _turn(self, message: ClientMessage) -> None:
        """Serve one turn and write its log line."""
        begin_request(self._request_id)
        storage_time.begin_call()
        started = time.monotonic()
        fault: ApiError | None = None
        try:
            await self._serve(message)
        except ApiError as error:
            fault = error
        except Exception:  # noqa: BLE001 - a turn's fault does not end the connection; the operator gets the trace
            self._log.exception("unhandled error", path=_ROUTE)
            fault = ApiError("The server had an error while processing your request. Please retry it.")
        try:
            if fault is not None:
                forget_frames(fault)
                if fault.status >= _FIRST_SERVER_ERROR:
                    note(code=fault.code, reason=fault.message)
                self._memory.fail(message.stream_id, message.previous_response_id)
                await self._peer.send_text(websocket_messages.of_error(fault, message.stream_id))
        finally:
            self._last_active = self._loop.time()
            self._release(message)
            self._running.discard(message.stream_id)
            self._start_turns()
            elapsed = round((time.monotonic() - started) * 1000, 1)
            self._log.info("turn", route=_ROUTE, status=fault.status if fault else 200, ms=elapsed)

    async def _serve(self, message: ClientMessage) -> None:
        if self._limit_error is not None:
            raise self._limit_error
        services, lane = self._services, message.stream_id
        # Authenticated again for each turn: a key may be revoked while its connection lasts.
        caller = await self._identify()
        turn = WebSocketTurn(self._peer, lane)
        with await services.registry.admit(caller.project_id) as admitted:
            admitted.bytes.take_over(self._held.pop(message))
            await admitted.bytes.add(len(message.raw) * (_COPIES - 1))
            call = await self._parsed(self._read_call, message.raw)
            memory = self._memory.history(lane, message.previous_response_id, store=call.request.store)
            if not call.generates:
                made = await services.warm_ups.make(call.request, caller, memory, admitted)
                for frame in websocket_messages.warm_up(made):
                    await turn.frames(frame)
                return
            serving = services.relay.serve(
                call.request, caller, self._headers, turn.send, turn, admitted=admitted, lane=memory
            )
            # The prompt is not to be held while the answer streams.
            message.raw = b""
            del call
            await serving
        if not turn.has_ended:
            # The client left, or reads nothing: the rest of its events cannot be sent any more.
            self._peer.leave()

    async def _parsed(self, read: Callable[[bytes, int], _T], raw: bytes) -> _T:
        """Parse a message by `read`, off the event loop if it is large."""
        depth = self._limits.max_json_depth
        return (
            await self._services.compute_thread.run(len(raw), read, raw, depth) if is_large(raw) else read(raw, depth)
        )
