"""Give the client a stream or a whole body, as it asked, whichever of the two upstream answered with."""

from collections.abc import Sequence
from functools import partial

from app.errors import ApiError, StorageError
from app.ids import new_id
from app.relay.call.exchange import Exchange
from app.relay.call.settle import Settler
from app.relay.stream.accumulator import StreamAccumulator
from app.relay.stream.client import STREAM_HEADERS, Client, RawHeader
from app.relay.stream.discarded_log import DiscardedLog
from app.relay.stream.pump import Pump
from app.relay.stream.redaction import redacted_answer
from app.runtime.byte_budget import Reservation
from app.runtime.compute_thread import ComputeThread
from app.settings.gateway import RelaySettings
from app.storage.responses.store import DUPLICATE_RESPONSE
from app.upstream.call.answer import UpstreamAnswer
from app.upstream.faults.classification import not_a_response
from app.wire.json_body import LARGE_BYTES
from app.wire.responses import events_from_object, response_object
from app.wire.sse import DONE

_LABEL, _JSON, _EVENT_STREAM = b"content-type", b"application/json", b"text/event-stream; charset=utf-8"


class AnswerDelivery:
    """Deliver upstream's answer in the form and with the content type that the client's `stream` member asks for.

    A good stream for a client that streams keeps its bytes; a whole answer becomes events, and a stream a whole answer,
    where the client wants the other form. Either is settled before its last byte leaves.
    """

    def __init__(self, settler: Settler, settings: RelaySettings, compute_thread: ComputeThread) -> None:
        self._settler = settler
        self._compute_thread = compute_thread
        self._max_answer_bytes = settings.max_answer_bytes
        self._max_event_bytes = settings.max_event_bytes

    def pump(self, exchange: Exchange, answer: UpstreamAnswer, client: Client, held: Reservation) -> Pump:
        """Make the pump of an answer that is a stream; nobody listens where the client wants a whole answer."""
        accumulator = exchange.answer = StreamAccumulator(exchange.request.fields, self._max_answer_bytes)
        return Pump(
            answer,
            client if exchange.stream else DiscardedLog(),
            accumulator,
            partial(self._settler.settle, exchange, answer.account.name),
            max_event_bytes=self._max_event_bytes,
            held=held,
            compute_thread=self._compute_thread,
        )

    async def deliver(
        self, exchange: Exchange, answer: UpstreamAnswer, client: Client, pump: Pump | None, held: Reservation
    ) -> None:
        """Give the client the form that it asked for; `pump` is the answer's where it is a stream.

        Closes the answer. Raises ApiError for an answer that cannot be given, which an SDK is asked not to retry.
        """
        headers = exchange.grant.with_limit_headers(answer.headers)
        try:
            if pump is None:
                body = await self._settle_whole(exchange, answer, held)
                if exchange.stream:
                    await self._stream_whole(body, client, answer.status, _labelled(headers, _EVENT_STREAM))
                else:
                    await client.answer(answer.status, headers, body)
            elif exchange.stream:
                await client.begin_stream(answer.status, [*headers, *STREAM_HEADERS])
                await pump.run()
            else:
                await pump.run()
                await client.answer(answer.status, _labelled(headers, _JSON), pump.whole())
        except ApiError as error:
            error.mark_paid()
            raise
        finally:
            await answer.aclose()

    async def _settle_whole(self, exchange: Exchange, answer: UpstreamAnswer, held: Reservation) -> bytes:
        """Settle a whole answer; under an id of ours where its own id is another response's already."""
        account = answer.account
        raw = redacted_answer(account, await answer.read_whole(self._max_answer_bytes, held.add))
        try:
            body = await self._settler.settle(exchange, account.name, raw)
        except StorageError as error:
            if error.code != DUPLICATE_RESPONSE:
                raise
            renamed = await self._compute_thread.run(len(raw), response_object.renamed, raw, new_id("resp"))
            body = await self._settler.settle(exchange, account.name, renamed)
        if body is None:
            raise not_a_response()
        return body

    async def _stream_whole(self, body: bytes, client: Client, status: int, headers: Sequence[RawHeader]) -> None:
        """Send a whole response as the stream that the client asked for."""
        split = events_from_object.frames_of
        frames = split(body) if len(body) < LARGE_BYTES else await self._compute_thread.run(len(body), split, body)
        await client.begin_stream(status, [*headers, *STREAM_HEADERS])
        for frame in [*frames, DONE]:
            await client.write(frame)
        await client.end_stream()


def _labelled(headers: Sequence[RawHeader], label: bytes) -> list[RawHeader]:
    """Return the headers with this media type in place of their own."""
    return [(name, value) for name, value in headers if name != _LABEL] + [(_LABEL, label)]
