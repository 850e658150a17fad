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
from app.relay.limiter import NOTHING, Limiter, Reservation
from app.state.estimate import estimate_bytes
from app.state.ledger import Endpoint, Entry
from app.state.records import ApiKey, Usage
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
        return MeteredCall(self, request, caller, endpoint)

    async def order(self, request: CreateRequest, caller: ApiKey) -> "MeteredCall":
        """Admit a call that will be made in the background. Raises what the limiter raises, which is recorded.

        The call is ended only where it cannot be ordered: else by whoever makes it (`run`).
        """
        return await MeteredCall(self, request, caller, "responses", is_background=True).__aenter__()

    async def refuse(self, request: CreateRequest, caller: ApiKey, error: ApiError) -> None:
        """Record a call for the background that is refused before it is admitted."""
        await MeteredCall(self, request, caller, "responses", is_background=True).end(error)

    async def run(self, request: CreateRequest, caller: ApiKey, ordered_at: int) -> "MeteredCall":
        """A call that was ordered at this time (unix seconds) and is made now. It is not entered, but ended."""
        call = MeteredCall(self, request, caller, "responses", is_background=True)
        call.reservation = await self.limiter.reservation(caller, request, call.entry, ordered_at)
        return call


class MeteredCall:
    """One call. Who serves it fills in the `entry`, and says what remembers its `answer` while that passes."""

    __slots__ = ("_caller", "_meter", "_request", "answer", "entry", "reservation")

    def __init__(
        self, meter: Meter, request: CreateRequest, caller: ApiKey, endpoint: Endpoint, *, is_background: bool = False
    ) -> None:
        self._meter = meter
        self._request: CreateRequest | None = request
        self._caller = caller
        self.entry = Entry(
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
        self.reservation = NOTHING
        self.answer: Fold | None = None

    async def __aenter__(self) -> Self:
        # The prompt is not to be held here while the answer streams.
        request, self._request = self._request, None
        assert request is not None  # noqa: S101 - a call is entered once
        try:
            self.reservation = await self._meter.limiter.admit(self._caller, request, self.entry)
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

    @asynccontextmanager
    async def summary(self, request: CreateRequest, context_tokens: int) -> AsyncIterator[Entry]:
        """The entry of the call that has this one's context, of so many tokens by estimate, summarised first.

        Upstream is paid for it whatever becomes of this one: so it is recorded, priced and charged by itself, at once.
        """
        call = MeteredCall(self._meter, request, self._caller, "compact", is_background=self.entry.is_background)
        # Nothing was reserved for it.
        taken = [correction._replace(amount=0) for correction in self.reservation.taken]
        call.reservation = Reservation(taken=tuple(taken))
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
