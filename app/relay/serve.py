"""One response from accepted to settled: prepare → connect → pump → settle."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from app.byte_budget import Reservation
from app.errors import ApiError, OverloadedError
from app.ids import new_id
from app.observability.logging import note
from app.offload import Offload
from app.relay.blanking import blanked_answer
from app.relay.calls import upstream_call
from app.relay.client import Client, ClientGoneError, Connection, RawHeader, Send, ShutdownError
from app.relay.compaction import Compactor
from app.relay.context_room import ContextRoom
from app.relay.conversation import Conversations, OpenConversation
from app.relay.fold import Fold
from app.relay.memory import Memory
from app.relay.meter import Meter, MeteredCall
from app.relay.prepare import Exchange, OpenTurn, prepare
from app.relay.pump import Pump
from app.relay.registry import Place, Registry
from app.relay.settle import Settler, not_a_response
from app.sealing import Sealer
from app.settings import RelaySettings
from app.state.records import NO_ACCOUNT, ApiKey
from app.upstream.answer import UpstreamAnswer
from app.upstream.connect import UpstreamClient
from app.wire import response, wording
from app.wire.requests import CreateRequest

_STREAM_HEADERS = ((b"cache-control", b"no-cache, no-transform"), (b"x-accel-buffering", b"no"))
_CLIENT_LEFT = 499
# What is kept of a call is held as its items, and as the row that is written of them.
_KEPT_COPIES = 2
_EVENT_STREAM = "text/event-stream"
# Of what a client calls its model, as much as a line of the log shows.
_LONGEST_LOGGED = 200


class Relay:
    """Serves create calls. Streamed and whole answers differ only in who reads upstream's bytes.

    `memory` has what is stored. `keeping_upstreams` are the names of those that keep chains themselves.
    """

    def __init__(
        self,
        *,
        upstream: UpstreamClient,
        memory: Memory,
        conversations: Conversations,
        registry: Registry,
        settler: Settler,
        settings: RelaySettings,
        keeping_upstreams: Collection[str],
        sealer: Sealer,
        compactor: Compactor,
        meter: Meter,
        offload: Offload,
        max_context_bytes: int,
    ) -> None:
        self._offload = offload
        self._max_context_bytes = max_context_bytes
        self._meter = meter
        self._sealer = sealer
        self._compactor = compactor
        self._keeping_upstreams = keeping_upstreams
        self._upstream = upstream
        self._memory = memory
        self._conversations = conversations
        self._registry = registry
        self._settler = settler
        self._keep_alive_seconds = settings.keep_alive_seconds
        self._max_answer_bytes = settings.max_answer_bytes
        self._max_event_bytes = settings.max_event_bytes

    async def serve(
        self,
        request: CreateRequest,
        caller: ApiKey,
        headers: Mapping[str, str],
        send: Send,
        connection: Connection,
        *,
        place: Place,
        lane: Memory | None = None,
    ) -> None:
        """Answer one create call. Raises ApiError while nothing has been sent; after that an error is an event.

        A call on a `lane` is remembered there, also where the client has nothing stored; but for one in a conversation.
        """
        note(model=request.model[:_LONGEST_LOGGED], stream=request.stream)
        client = Client(
            send,
            connection,
            self._registry,
            keep_alive_seconds=self._keep_alive_seconds,
        )
        place.ends_by(client.stop)
        async with self._meter.call(request, caller) as metered:
            conversation = None if request.conversation_id is None else await self._join(request, caller)
            keep = request.store or (lane is not None and conversation is None)
            try:
                memory = conversation or lane or self._memory
                room = ContextRoom(self._max_context_bytes, place.bytes)
                exchange = await prepare(
                    request, caller, memory, keep=keep, sealer=self._sealer, room=room, offload=self._offload
                )
                # A running stream holds what its settling needs, and not the prompt.
                del request
                serving = self._exchange(exchange, headers, client, metered, place.bytes)
                del exchange
                await serving
            finally:
                if conversation is not None:
                    await conversation.release()

    async def warm_up(self, request: CreateRequest, caller: ApiKey, lane: Memory, place: Place) -> bytes:
        """Settle a turn that asks for no answer: its input can be continued, and no upstream is called.

        Returns its response object. Raises ApiError.
        """
        note(model=request.model[:_LONGEST_LOGGED])
        if request.conversation_id is not None:
            raise wording.unsupported("conversation", "without an answer for it to keep")
        made = response.warmed(request.fields)
        room = ContextRoom(self._max_context_bytes, place.bytes)
        exchange = await prepare(
            request, caller, lane, keep=True, sealer=self._sealer, room=room, offload=self._offload
        )
        return await self._settler.settle(exchange.turn, exchange.prefer or NO_ACCOUNT, made) or made

    async def _join(self, request: CreateRequest, caller: ApiKey) -> OpenConversation:
        """The conversation that the request names: held, unless the turn leaves nothing in it."""
        project_id, conversation_id = caller.project_id, request.conversation_id or ""
        if not request.store:
            return await self._conversations.open(project_id, conversation_id, self._memory)
        return await self._conversations.hold(project_id, conversation_id, self._memory, new_id("call"))

    async def _exchange(
        self,
        exchange: Exchange,
        headers: Mapping[str, str],
        client: Client,
        metered: MeteredCall,
        held: Reservation,
    ) -> None:
        """Ask upstream and relay its answer, to its end or the client's."""
        pump: Pump | None = None
        fold = Fold(exchange.request.fields, self._max_answer_bytes)
        try:
            with client:
                call = upstream_call(exchange, headers, self._keeping_upstreams, metered.entry)
                if "context_management" in exchange.request.members:
                    exchange = await self._compactor.relieve(exchange, call, held.add)
                    call = replace(call, render=exchange.render)
                turn = exchange.turn
                turn.entry = metered.entry
                del exchange
                answer = await self._upstream.open(call)
                del call
                if held.held:
                    # What was sent is not held any more, but for the turn's own input and the row that it becomes.
                    held.shrink(turn.size * _KEPT_COPIES)
                note(account=answer.account.name)
                if answer.content_type == _EVENT_STREAM:
                    pump = self._pump(turn, fold, answer, client, held)
                await self._relay(turn, answer, client, pump, metered=metered, held=held)
        except ClientGoneError:
            note(client_gone=True)
            metered.entry.status = _CLIENT_LEFT
            if pump is not None:
                await pump.abandon()
        except ShutdownError:
            if not client.begun:
                raise OverloadedError("The gateway is shutting down. Please retry your request.") from None
            if pump is not None:
                await pump.fail("gateway_shutdown", "The gateway was stopped before the response was finished.")
                await client.end_stream()

    def _pump(self, turn: OpenTurn, fold: Fold, answer: UpstreamAnswer, client: Client, held: Reservation) -> Pump:
        return Pump(
            answer,
            client,
            fold,
            partial(self._settler.settle, turn, answer.account.name),
            max_event_bytes=self._max_event_bytes,
            held=held,
            offload=self._offload,
        )

    async def _relay(
        self,
        turn: OpenTurn,
        answer: UpstreamAnswer,
        client: Client,
        pump: Pump | None,
        *,
        metered: MeteredCall,
        held: Reservation,
    ) -> None:
        headers = metered.dressed(answer.headers)
        try:
            if pump is None:
                await self._relay_whole(turn, answer, client, headers, held)
            else:
                await client.begin_stream(answer.status, [*headers, *_STREAM_HEADERS])
                await pump.run()
        except ApiError as error:
            # Upstream has done its work: an SDK that tries again by itself would pay for it twice.
            error.headers = {**error.headers, "x-should-retry": "false"}
            raise
        finally:
            await answer.aclose()

    async def _relay_whole(
        self,
        turn: OpenTurn,
        answer: UpstreamAnswer,
        client: Client,
        headers: Sequence[RawHeader],
        held: Reservation,
    ) -> None:
        raw = blanked_answer(answer.account, await answer.read_whole(self._max_answer_bytes, held.add))
        body = await self._settler.settle(turn, answer.account.name, raw)
        if body is None:
            raise not_a_response()
        await client.answer(answer.status, headers, body)
