"""One response from accepted to settled: prepare → connect → pump → settle."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from app.byte_budget import Reservation
from app.errors import ApiError, OverloadedError, StorageError, UpstreamError
from app.ids import new_id
from app.observability.logging import note
from app.offload import Offload
from app.relay.blanking import blanked_answer
from app.relay.calls import upstream_call
from app.relay.client import Client, ClientGoneError, Connection, RawHeader, Send, ShutdownError
from app.relay.compaction import Compactor
from app.relay.context_room import ContextRoom
from app.relay.conversation import Conversations, OpenConversation
from app.relay.exchange import Exchange, OpenTurn
from app.relay.fold import Fold
from app.relay.journal import Unheard
from app.relay.memory import Memory
from app.relay.meter import Meter, MeteredCall
from app.relay.prepare import prepare
from app.relay.pump import Listener, Pump
from app.relay.registry import Place, Registry
from app.relay.settle import Settler, not_a_response
from app.sealing import Sealer
from app.settings import RelaySettings
from app.state.records import NO_ACCOUNT, ApiKey
from app.storage.response_store import DUPLICATE_RESPONSE
from app.upstream.answer import UpstreamAnswer
from app.upstream.connect import UpstreamClient
from app.wire import response, response_events, wording
from app.wire.body import LARGE_BYTES
from app.wire.requests import CreateRequest
from app.wire.sse import DONE

_STREAM_HEADERS = ((b"cache-control", b"no-cache, no-transform"), (b"x-accel-buffering", b"no"))
_CLIENT_LEFT = 499
# What is kept of a call is held as its items, and as the row that is written of them.
_KEPT_COPIES = 2
_LABEL, _JSON, _EVENT_STREAM = b"content-type", b"application/json", b"text/event-stream; charset=utf-8"
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
                if exchange.chain is not None:
                    place.continues = exchange.chain.key
                # A running stream holds what its settling needs, and not the prompt.
                del request
                serving = self._exchange(exchange, headers, client, metered, place.bytes)
                del exchange
                await serving
                place.response_id = metered.entry.response_id
            finally:
                if conversation is not None:
                    await conversation.release()

    async def warm_up(self, request: CreateRequest, caller: ApiKey, lane: Memory, place: Place) -> bytes:
        """Settle a turn that asks for no answer: its input can be continued, and no upstream is called.

        It is a call all the same: limited, and in the ledger. Returns its response object. Raises ApiError, also for a
        model that no upstream serves.
        """
        note(model=request.model[:_LONGEST_LOGGED])
        if request.conversation_id is not None:
            raise wording.unsupported("conversation", "without an answer for it to keep")
        async with self._meter.call(request, caller) as metered:
            made = response.warmed(request.fields)
            room = ContextRoom(self._max_context_bytes, place.bytes)
            exchange = await prepare(
                request, caller, lane, keep=True, sealer=self._sealer, room=room, offload=self._offload
            )
            # An account that rests may be back before the call that goes on from this.
            with suppress(UpstreamError):
                self._upstream.first(upstream_call(exchange, {}, self._keeping_upstreams))
            turn = exchange.turn
            turn.entry = metered.entry
            try:
                return await self._settler.settle(turn, exchange.prefer or NO_ACCOUNT, made) or made
            finally:
                # No model has answered to the name that the client gave, and nothing has a price.
                metered.entry.usage = None

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
        fields = exchange.request.fields
        try:
            with client:
                call = upstream_call(exchange, headers, self._keeping_upstreams, metered.entry)
                if "context_management" in exchange.request.members and not exchange.asks_compaction:
                    exchange = await self._compactor.relieve(exchange, call, held.add, metered)
                    call = replace(call, render=exchange.render)
                turn, wants_stream = exchange.turn, exchange.request.stream
                turn.entry = metered.entry
                if metered.reservation.taken:
                    await metered.asks(exchange)
                opening = self._compactor.open(exchange, call, held.add)
                del exchange, call
                answer = await opening
                del opening
                if held.held:
                    # What was sent is not held any more, but for the turn's own input and the row that it becomes.
                    held.shrink(turn.size * _KEPT_COPIES)
                note(account=answer.account.name)
                if answer.is_stream:
                    fold = metered.answer = Fold(fields, self._max_answer_bytes)
                    pump = self._pump(turn, fold, answer, client if wants_stream else Unheard(), held)
                del fields
                await self._relay(turn, answer, client, pump, wants_stream=wants_stream, metered=metered, held=held)
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

    def _pump(self, turn: OpenTurn, fold: Fold, answer: UpstreamAnswer, listener: Listener, held: Reservation) -> Pump:
        return Pump(
            answer,
            listener,
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
        wants_stream: bool,
        metered: MeteredCall,
        held: Reservation,
    ) -> None:
        """Give the client the form that it asked for, whichever upstream answers in."""
        headers = metered.dressed(answer.headers)
        try:
            if pump is not None and wants_stream:
                await client.begin_stream(answer.status, [*headers, *_STREAM_HEADERS])
                await pump.run()
            elif pump is not None:
                await pump.run()
                await client.answer(answer.status, _labelled(headers, _JSON), pump.whole())
            else:
                body = await self._settle_whole(turn, answer, held)
                if wants_stream:
                    await self._tell(body, client, answer.status, _labelled(headers, _EVENT_STREAM))
                else:
                    await client.answer(answer.status, headers, body)
        except ApiError as error:
            # Upstream has done its work: an SDK that tries again by itself would pay for it twice.
            error.headers, error.is_paid = {**error.headers, "x-should-retry": "false"}, True
            raise
        finally:
            await answer.aclose()

    async def _settle_whole(self, turn: OpenTurn, answer: UpstreamAnswer, held: Reservation) -> bytes:
        """The response of a whole answer, settled: under an id of ours where its own is another response's already."""
        account = answer.account
        raw = blanked_answer(account, await answer.read_whole(self._max_answer_bytes, held.add))
        try:
            body = await self._settler.settle(turn, account.name, raw)
        except StorageError as error:
            if error.code != DUPLICATE_RESPONSE:
                raise
            renamed = await self._offload.run(len(raw), response.renamed, raw, new_id("resp"))
            body = await self._settler.settle(turn, account.name, renamed)
        if body is None:
            raise not_a_response()
        return body

    async def _tell(self, body: bytes, client: Client, status: int, headers: Sequence[RawHeader]) -> None:
        """Send a whole response as the stream that the client asked for."""
        told = response_events.told
        frames = told(body) if len(body) < LARGE_BYTES else await self._offload.run(len(body), told, body)
        await client.begin_stream(status, [*headers, *_STREAM_HEADERS])
        for frame in [*frames, DONE]:
            await client.write(frame)
        await client.end_stream()


def _labelled(headers: Sequence[RawHeader], label: bytes) -> list[RawHeader]:
    """The headers with this media type."""
    return [(name, value) for name, value in headers if name != _LABEL] + [(_LABEL, label)]
