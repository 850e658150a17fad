"""What clients ask of responses in the background: make one, let it be heard, end it. Must not know how one is made."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace

import orjson

from app import byte_budget
from app.byte_budget import Reserve
from app.errors import ApiError, InvalidRequestError, NotFoundError, OverloadedError
from app.observability.logging import note
from app.relay.archive import Archive
from app.relay.calls import upstream_call
from app.relay.client import Client, ClientGoneError, Connection, Send, ShutdownError
from app.relay.conductor import Conductor
from app.relay.context_room import ContextRoom
from app.relay.meter import MeteredCall
from app.relay.order import order_of, queued
from app.relay.prepare import prepare
from app.relay.registry import Place
from app.relay.reservation import Reservation
from app.relay.resume import LogReader
from app.relay.run_input import read_input
from app.relay.serve import Relay
from app.relay.stage import Stage
from app.state.records import ApiKey, Chain
from app.state.runs import ENDED, IN_FLIGHT, Order, Page, Run, RunState
from app.upstream.exhausted import PoolExhaustedError
from app.wire import wording
from app.wire.body import members
from app.wire.requests import CreateRequest

_JSON = ((b"content-type", b"application/json"),)
# How long a client waits for its response to be cancelled, and how often it is looked at meanwhile.
_CANCEL_SECONDS = 5.0
_LOOK_SECONDS = 0.05
# Within which a run is begun that need not wait.
_BEGUN_SECONDS = 600


class QueueFullError(ApiError):
    """A project has as many unfinished responses in the background as it may."""

    default_status = 429
    default_code = "rate_limit_exceeded"
    type = "rate_limit_error"


class Background:
    """Responses in the background, for their clients."""

    def __init__(
        self,
        stage: Stage,
        archive: Archive,
        conductor: Conductor,
        reader: LogReader,
        relay: Relay,
    ) -> None:
        self._relay = relay
        self._stage = stage
        self._archive = archive
        self._conductor = conductor
        self._reader = reader

    async def serve(
        self,
        request: CreateRequest,
        caller: ApiKey,
        headers: Mapping[str, str],
        send: Send,
        connection: Connection,
        *,
        place: Place,
        ordered: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """Answer a create call once its run is committed: with the queued response, or with what it says from then on.

        `ordered` hears of its id before. An upstream that keeps the state itself runs it, too. Raises ApiError while
        nothing has been sent.
        """
        order = order_of(request, caller, headers, self._stage.sealer)
        note(model=request.model[:200], stream=request.stream, background=True, response_id=order.id)
        client = self._client(send, connection)
        place.ends_by(client.stop)
        try:
            is_ours = await self._check(request, caller, order, place)
        except ApiError as error:
            await self._stage.meter.refuse(request, caller, error)
            raise
        if not is_ours:
            await self._relay.serve(request, caller, headers, send, connection, place=place)
            return
        if not request.stream:
            metered, run, body = await self._order(order, request, caller, ordered)
            del request, order, run
            place.bytes.shrink(0)
            await client.answer(200, metered.dressed(_JSON), body)
            return
        # Before there is a run: who cannot listen to it gets none. From then on there is a listener, and no call.
        with self._stage.registry.listen(caller.project_id, client.stop, is_admitted=True) as listener:
            metered, run, _ = await self._order(order, request, caller, ordered)
            key = run.key
            del request, order, run
            place.release()
            await self._listen(client, key, -1, listener, metered.reservation)

    async def _order(
        self, order: Order, request: CreateRequest, caller: ApiKey, ordered: Callable[[str], Awaitable[None]] | None
    ) -> tuple[MeteredCall, Run, bytes]:
        """Admit the call and commit its run, which has the prompt and the reservation from then on."""
        metered = await self._stage.meter.order(request, caller)
        try:
            body, page = queued(order, request)
            run = await self._create(replace(order, drawn=metered.reservation.drawn), body, page)
        except Exception as error:
            await metered.end(error)
            raise
        if ordered is not None:
            await ordered(order.id)
        return metered, run, body

    async def _create(self, order: Order, body: bytes, page: Page | None) -> Run:
        """The order as a run, performed here while there is room. Raises QueueFullError and StorageError."""
        limit = self._stage.background.background_queue
        with self._conductor.room_for(order) as owner:
            # A client that leaves meanwhile changes nothing: it is not looked for yet.
            run = await self._stage.runs.create(
                order, body, page, owner=owner, lease_seconds=self._conductor.lease_seconds, most=limit
            )
            if run is not None and owner is not None:
                self._conductor.take(run)
        if run is None:
            raise QueueFullError(
                f"Rate limit reached: {limit} responses of your project are unfinished in the background. "
                "Please try again later.",
                headers={"retry-after": "5"},
            )
        if owner is None:
            self._conductor.wake_for(order)
        return run

    async def follow(self, caller: ApiKey, key: int, after: int, send: Send, connection: Connection) -> None:
        """Answer with what this run says after event number `after`, to its end.

        Raises OverloadedError, and what the limiter raises, while nothing has been sent.
        """
        client = self._client(send, connection)
        with self._stage.registry.listen(caller.project_id, client.stop) as place:
            reservation = await self._stage.meter.limiter.listen(caller)
            await self._listen(client, key, after, place, reservation)

    async def find_log(self, project_id: str, response_id: str, reserve: Reserve) -> int:
        """The key of the run whose log this response has. Raises NotFoundError, and InvalidRequestError without one."""
        run = await self._stage.runs.find(project_id, response_id)
        if run is not None and run.is_streamed:
            return run.key
        if run is None and await self._archive.read_body(project_id, response_id, reserve) is None:
            raise not_found(response_id)
        raise InvalidRequestError(
            "This response cannot be streamed: it was not created with 'background' and 'stream' set to true, "
            "or its events are not kept any more.",
            param="stream",
        )

    async def read_input(self, caller: ApiKey, response_id: str, held: byte_budget.Reservation) -> Chain | None:
        """Read the input of an unfinished response of the caller's project, as the chain that it will be."""
        order = await self._stage.runs.read_order(caller.project_id, response_id, held.add)
        return None if order is None else await read_input(self._stage, order, caller, held)

    async def cancel(self, project_id: str, response_id: str, reserve: Reserve) -> bytes:
        """Have the response end where it is; returns it as it then stands.

        Raises NotFoundError, and InvalidRequestError for one that was not made in the background or ended otherwise.
        """
        run = await self._stage.runs.find(project_id, response_id)
        if run is None:
            return await self._cancelled_before(project_id, response_id, reserve)
        if run.status in IN_FLIGHT:
            await self._stage.runs.request_cancel(run.key)
            self._conductor.wake()
            run = await self._ended(project_id, response_id, run)
        if run.status in ENDED and run.status != "cancelled":
            raise wording.already_ended(run.status)
        return run.body

    async def _cancelled_before(self, project_id: str, response_id: str, reserve: Reserve) -> bytes:
        """The response of a run of which only that is kept."""
        body = await self._archive.read_body(project_id, response_id, reserve)
        if body is None:
            raise not_found(response_id)
        told = members(body)
        if bytes(told.get("background", b"")) != b"true":
            raise wording.synchronous_response()
        status = orjson.loads(bytes(told.get("status", b"null")))
        if status in IN_FLIGHT:
            return await self._archive.cancel_upstream(project_id, response_id, reserve)
        if status != "cancelled":
            raise wording.already_ended(status)
        return body

    async def _ended(self, project_id: str, response_id: str, run: RunState) -> RunState:
        """The run once it has ended, or as it is after a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CANCEL_SECONDS):
                while run.status in IN_FLIGHT:
                    await asyncio.sleep(_LOOK_SECONDS)
                    run = await self._stage.runs.find(project_id, response_id) or run
        return run

    async def _check(self, request: CreateRequest, caller: ApiKey, order: Order, place: Place) -> bool:
        """Raise what the call would be refused for, were it made now; returns whether the run is for us to make."""
        stage, conversation_id = self._stage, request.conversation_id
        room = ContextRoom(stage.max_context_bytes, place.bytes)
        if conversation_id is None:
            exchange = await prepare(
                request, caller, self._archive, keep=False, sealer=stage.sealer, room=room, offload=stage.offload
            )
            if exchange.chain is not None:
                # It may wait for as long as this before a process has it, and keeps alive what it continues.
                await self._archive.keep(exchange.chain, stage.background.background_wait_seconds + _BEGUN_SECONDS)
        else:
            opened = (
                stage.conversations.hold(order.project_id, conversation_id, self._archive, order.id)
                if order.is_stored
                else stage.conversations.open(order.project_id, conversation_id, self._archive)
            )
            conversation = await opened
            try:
                exchange = await prepare(
                    request, caller, conversation, keep=False, sealer=stage.sealer, room=room, offload=stage.offload
                )
            finally:
                # The run waits its turn, and holds it then.
                await conversation.release()
        # It would wait for an account that rests.
        with suppress(PoolExhaustedError):
            call = upstream_call(exchange, order.headers, stage.keeping_upstreams)
            return stage.upstream.first(call).upstream.state == "gateway"
        return True

    async def _listen(self, client: Client, key: int, after: int, place: Place, reservation: Reservation) -> None:
        """Let the client hear the run, as a stream that this reservation counts."""
        try:
            with client:
                await self._reader.send(key, after, client, place.bytes, reservation.headers)
        except ClientGoneError:
            note(client_gone=True)
        except ShutdownError:
            if not client.begun:
                raise OverloadedError("The gateway is shutting down. Please retry your request.") from None
            # It can go on listening at another replica, or here after the start.
            await client.end_stream()
        finally:
            await self._stage.meter.limiter.end_stream(reservation)

    def _client(self, send: Send, connection: Connection) -> Client:
        return Client(
            send,
            connection,
            self._stage.registry,
            keep_alive_seconds=self._stage.relay.keep_alive_seconds,
        )


def not_found(response_id: str) -> NotFoundError:
    """There is no such response in the caller's project."""
    return NotFoundError(f"Response with id '{response_id[:512]}' not found.")
