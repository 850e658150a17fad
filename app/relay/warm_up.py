"""Make warm-ups: turns without an answer, which a WebSocket client continues later (`generate: false`)."""

from contextlib import suppress

from app.errors import UpstreamError
from app.observability.logging import note
from app.relay.call.prepare import Preparer
from app.relay.call.settle import Settler
from app.relay.history.base import History
from app.relay.metering.meter import Meter
from app.relay.process.admission_and_drain import AdmittedCall
from app.state.records import NO_ACCOUNT, ApiKey
from app.upstream.call.upstream_client import UpstreamClient
from app.wire import error_messages
from app.wire.requests.create import CreateRequest
from app.wire.responses import response_object


class WarmUps:
    """Settle turns that ask for no answer: their input can be continued, and no upstream is called.

    A warm-up is a call all the same: limited, and with a usage entry.
    """

    def __init__(self, upstream: UpstreamClient, preparer: Preparer, settler: Settler, meter: Meter) -> None:
        self._upstream = upstream
        self._preparer = preparer
        self._settler = settler
        self._meter = meter

    async def make(self, request: CreateRequest, caller: ApiKey, lane: History, admitted: AdmittedCall) -> bytes:
        """Leave the turn in the lane, and return its response object.

        Raises ApiError, also for a model that no upstream serves.
        """
        note(model=request.logged_model)
        if request.conversation_id is not None:
            raise error_messages.unsupported("conversation", "without an answer for it to keep")
        async with self._meter.call(request, caller, {}) as exchange:
            made = response_object.warm_up_response(request.fields)
            await self._preparer.prepare(exchange, lane, admitted.bytes, keep=True)
            # An account in cooldown may be back before the call that continues this turn.
            with suppress(UpstreamError):
                self._upstream.first(exchange)
            try:
                return await self._settler.settle(exchange, exchange.prefer or NO_ACCOUNT, made) or made
            finally:
                # No model has served the call, so nothing has a price.
                exchange.entry.usage = None
