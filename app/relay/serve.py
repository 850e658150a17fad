"""Serve one response from accepted to settled: prepare, ask upstream, pump, settle."""

from collections.abc import Mapping

from app.errors import CLIENT_LEFT
from app.ids import new_id
from app.observability.logging import note
from app.relay.call.exchange import Exchange
from app.relay.call.prepare import Preparer
from app.relay.call.stream_or_whole_answer import AnswerDelivery
from app.relay.context.compaction import Compactor
from app.relay.history.base import History
from app.relay.history.conversation import Conversations, ReadConversation
from app.relay.metering.meter import Meter
from app.relay.process.admission_and_drain import AdmittedCall, CallRegistry, shutting_down
from app.relay.stream.client import Client, ClientGoneError, Connection, Send, ShutdownError
from app.relay.stream.pump import Pump
from app.runtime.byte_budget import Reservation
from app.state.records import ApiKey
from app.wire.requests.create import CreateRequest

# The turn is held twice: as its items, and as the row that is written of them.
_KEPT_COPIES = 2


class Relay:
    """Serve create calls, step by step; which form an answer has is `call.stream_or_whole_answer`'s.

    `history` has the stored responses. A silent stream gets a comment each `keep_alive_seconds`.
    """

    def __init__(
        self,
        *,
        history: History,
        conversations: Conversations,
        registry: CallRegistry,
        preparer: Preparer,
        compactor: Compactor,
        meter: Meter,
        delivery: AnswerDelivery,
        keep_alive_seconds: float,
    ) -> None:
        self._meter = meter
        self._preparer = preparer
        self._compactor = compactor
        self._history = history
        self._conversations = conversations
        self._registry = registry
        self._delivery = delivery
        self._keep_alive_seconds = keep_alive_seconds

    async def serve(
        self,
        request: CreateRequest,
        caller: ApiKey,
        headers: Mapping[str, str],
        send: Send,
        connection: Connection,
        *,
        admitted: AdmittedCall,
        lane: History | None = None,
    ) -> None:
        """Answer one create call. Raises ApiError while nothing has been sent; after that an error is an event.

        A call on a `lane` leaves its turn in the lane, also where the client stores nothing, but not if it is in a
        conversation.
        """
        note(model=request.logged_model, stream=request.stream)
        client = Client(
            send,
            connection,
            self._registry,
            keep_alive_seconds=self._keep_alive_seconds,
        )
        admitted.on_shutdown(client.stop)
        async with self._meter.call(request, caller, headers) as exchange:
            exchange.reserve = admitted.bytes.add
            conversation = None if request.conversation_id is None else await self._join(request, caller)
            try:
                keep = request.store or (lane is not None and conversation is None)
                history = conversation or lane or self._history
                await self._preparer.prepare(exchange, history, admitted.bytes, keep=keep)
                admitted.continues = exchange.parent_key
                await self._exchange(exchange, client, admitted.bytes)
                admitted.response_id = exchange.entry.response_id
            finally:
                if conversation is not None:
                    await conversation.release()

    async def _join(self, request: CreateRequest, caller: ApiKey) -> ReadConversation:
        """Open the conversation that the request names: locked, unless the turn leaves nothing in it."""
        project_id, conversation_id = caller.project_id, request.conversation_id or ""
        if not request.store:
            return await self._conversations.open(project_id, conversation_id, self._history)
        return await self._conversations.lock(project_id, conversation_id, self._history, new_id("call"))

    async def _exchange(self, exchange: Exchange, client: Client, held: Reservation) -> None:
        """Ask upstream and relay the answer, to its end or until the client leaves."""
        pump: Pump | None = None
        try:
            with client:
                if exchange.may_be_shortened:
                    await self._compactor.shorten(exchange, held.add, self._meter)
                if exchange.grant.reserved:
                    await self._meter.count_history(exchange)
                answer = await self._compactor.open(exchange, held.add)
                note(account=answer.account.name)
                if answer.is_stream:
                    pump = self._delivery.pump(exchange, answer, client, held)
                exchange.release_prompt()
                if held.held:
                    # From here on only the turn's own input is held, and the row that it becomes.
                    held.shrink(exchange.turn_size * _KEPT_COPIES)
                await self._delivery.deliver(exchange, answer, client, pump, held)
        except ClientGoneError:
            note(client_gone=True)
            exchange.entry.status = CLIENT_LEFT
            if pump is not None:
                await pump.abandon()
        except ShutdownError:
            if not client.begun:
                raise shutting_down() from None
            if pump is not None:
                await pump.fail("gateway_shutdown", "The gateway was stopped before the response was finished.")
                await client.end_stream()
