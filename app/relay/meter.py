"""One call from admitted to accounted for: its limits before, its use and its entry in the ledger after."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from app.errors import ApiError
from app.observability.logging import request_id
from app.offload import Offload
from app.relay.exchange import Exchange
from app.relay.fold import Fold
from app.relay.ledger import Ledger
from app.relay.limiter import Limiter
from app.relay.reservation import NOTHING, Reservation
from app.state.estimate import estimate_bytes
from app.state.ledger import Endpoint, Entry
from app.state.records import ApiKey, Usage
from app.state.runs import Run
from app.wire.body import LARGE_BYTES
from app.wire.requests import CreateRequest

_SERVER_ERROR = 500
_CLIENT_LEFT = 499
_RATE_LIMITS = b"x-ratelimit-"
# Of what a client calls its model, as much as is kept.
_LONGEST_MODEL = 200


class Meter:
    """Meters calls."""

    def __init__(self, limiter: Limiter, ledger: Ledger, offload: Offload) -> None:
        self.limiter = limiter
        self.ledger = ledger
        self.offload = offload

    def call(self, request: CreateRequest, caller: ApiKey, *, endpoint: Endpoint = "responses") -> "MeteredCall":
        """A context around one call; entering it raises what the limiter raises."""
        return MeteredCall(self, _entry(request, caller, endpoint), request, caller)

    async def order(self, request: CreateRequest, caller: ApiKey) -> "MeteredCall":
        """Admit a call that will be made in the background. Raises what the limiter raises, which is recorded.

        The call is ended only where it cannot be ordered: else by whoever makes it (`run`).
        """
        entry = _entry(request, caller, "responses", is_background=True)
        return await MeteredCall(self, entry, request, caller).__aenter__()

    async def refuse(self, request: CreateRequest, caller: ApiKey, error: ApiError) -> None:
        """Record a call for the background that is refused before it is admitted."""
        await MeteredCall(self, _entry(request, caller, "responses", is_background=True)).end(error)

    def run(self, run: Run) -> "MeteredCall":
        """A call that was ordered and is made now, granted what its row says. It is not entered, but ended."""
        order = run.order
        entry = Entry(
            int(time.time()),
            order.id,
            order.project_id,
            order.api_key_id,
            "responses",
            "",
            order.is_streamed,
            is_background=True,
            started=time.monotonic(),
        )
        # Whoever had it may have asked: what that cost is not known, and not given back.
        entry.attempts = int(run.status == "in_progress")
        return MeteredCall(self, entry, reservation=Reservation.of_order(order.drawn))


class MeteredCall:
    """One call. Who serves it fills in the `entry`, and says what remembers its `answer` while that passes."""

    __slots__ = ("_caller", "_meter", "_request", "answer", "entry", "reservation")

    def __init__(
        self,
        meter: Meter,
        entry: Entry,
        request: CreateRequest | None = None,
        caller: ApiKey | None = None,
        reservation: Reservation = NOTHING,
    ) -> None:
        self._meter = meter
        self._request = request
        self._caller = caller
        self.entry = entry
        self.reservation = reservation
        self.answer: Fold | None = None

    async def __aenter__(self) -> Self:
        # The prompt is not to be held here while the answer streams.
        request, self._request, caller = self._request, None, self._caller
        assert request is not None and caller is not None  # noqa: S101, PT018 - a call is entered once
        try:
            self.reservation = await self._meter.limiter.admit(caller, request, self.entry)
        except BaseException as error:
            self._end(error)
            self._meter.ledger.record(self.entry)
            raise
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """The call is over, by this error if by any: it is recorded, and settled by its use."""
        self._end(error)
        if self.entry.attempts and not self.entry.is_metered:
            await self._estimate()
        self._meter.ledger.record(self.entry)
        if self.reservation.taken:
            await self._meter.limiter.settle(self.reservation, self.entry)

    async def asks(self, exchange: Exchange) -> None:
        """Note how much of the context upstream is sent beside the call's own input, where that is to be paid for."""
        if self.reservation.taken:
            self.entry.history_tokens = await exchange.history_tokens(self._meter.offload)

    def begins(self, request: CreateRequest, caller: ApiKey) -> None:
        """Have an order made from now on: this is what was asked, by this caller."""
        self._caller = caller
        self.entry.model = request.model[:_LONGEST_MODEL]
        self.reservation = self._meter.limiter.resume(self.reservation, caller, request)

    @asynccontextmanager
    async def summary(self, request: CreateRequest, context_tokens: int) -> AsyncIterator[Entry]:
        """The entry of the call that has this one's context, of so many tokens by estimate, summarised first.

        Upstream is paid for it whatever becomes of this one: so it is recorded, priced and charged by itself, at once.
        """
        caller = self._caller
        assert caller is not None  # noqa: S101 - its call has begun
        entry = _entry(request, caller, "compact", is_background=self.entry.is_background)
        # Nothing was reserved for it.
        taken = [correction._replace(amount=0) for correction in self.reservation.taken]
        call = MeteredCall(self._meter, entry, reservation=Reservation(taken=tuple(taken)))
        call.entry.history_tokens = context_tokens
        failed: BaseException | None = None
        try:
            yield call.entry
        except asyncio.CancelledError:
            # Whoever wanted it has gone, or may not wait for it any longer: upstream has it in hand.
            call.entry.status = _CLIENT_LEFT
            raise
        except BaseException as error:
            failed = error
            raise
        finally:
            if call.entry.attempts:
                await call.end(failed)

    async def end(self, error: BaseException | None = None) -> None:
        """End a call that was not entered."""
        await self.__aexit__(None, error, None)

    def dressed(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """An answer's headers; where the caller has limits of its own, with those in place of upstream's."""
        ours = self.reservation.headers
        if not ours:
            return [*headers]
        return [*(header for header in headers if not header[0].startswith(_RATE_LIMITS)), *ours]

    def _end(self, error: BaseException | None) -> None:
        entry = self.entry
        entry.latency_ms = round((time.monotonic() - entry.started) * 1000)
        if isinstance(error, ApiError):
            entry.status, entry.error_code = error.status, error.code
            if self.reservation.headers:
                told = self.dressed((name.encode(), value.encode()) for name, value in error.headers.items())
                error.headers = {name.decode(): value.decode() for name, value in told}
        elif error is not None:
            entry.status = _SERVER_ERROR

    async def _estimate(self) -> None:
        """Count what upstream was sent and what its client got, where upstream has not said what that took.

        So a client that hangs up before it is said pays all the same. What upstream refused, or failed before a word
        of it was heard, took nothing.
        """
        entry, answer = self.entry, self.answer
        if answer is not None:
            is_large = answer.size >= LARGE_BYTES
            passed = await self._meter.offload.run(answer.size, answer.tokens) if is_large else answer.tokens()
            entry.relayed_tokens = max(entry.relayed_tokens, passed)
        has_answer = entry.response_status is not None and entry.response_status != "failed"
        is_used = entry.relayed_tokens > 0 or entry.status == _CLIENT_LEFT or has_answer
        if not is_used or entry.endpoint == "input_tokens":
            return
        given = (self.reservation.input_tokens or estimate_bytes(entry.input_bytes)) + entry.history_tokens
        used = Usage(given, entry.relayed_tokens, given + entry.relayed_tokens)
        entry.usage = used if entry.usage is None else entry.usage.plus(used)
        entry.is_estimated = True


def _entry(request: CreateRequest, caller: ApiKey, endpoint: Endpoint, *, is_background: bool = False) -> Entry:
    return Entry(
        int(time.time()),
        request_id(),
        caller.project_id,
        caller.id,
        endpoint,
        request.model[:_LONGEST_MODEL],
        request.stream and endpoint == "responses",
        is_background,
        time.monotonic(),
    )
