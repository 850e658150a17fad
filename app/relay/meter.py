"""One call from admitted to accounted for: its limits before, its use and its entry in the ledger after."""

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from app.errors import ApiError
from app.observability.logging import request_id
from app.relay.ledger import Ledger
from app.relay.limiter import NOTHING, Limiter
from app.state.ledger import Endpoint, Entry
from app.state.records import ApiKey
from app.wire.requests import CreateRequest

_SERVER_ERROR = 500
_RATE_LIMITS = b"x-ratelimit-"
# Of what a client calls its model, as much as is kept.
_LONGEST_MODEL = 200


class Meter:
    """Meters calls."""

    def __init__(self, limiter: Limiter, ledger: Ledger) -> None:
        self.limiter = limiter
        self.ledger = ledger

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
    """One call. Who serves it fills in the `entry`."""

    __slots__ = ("_caller", "_meter", "_request", "entry", "reservation")

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

    async def __aenter__(self) -> Self:
        # The prompt is not to be held here while the answer streams.
        request, self._request = self._request, None
        assert request is not None  # noqa: S101 - a call is entered once
        try:
            self.reservation = await self._meter.limiter.admit(self._caller, request, self.entry)
        except BaseException as error:
            self._record(error)
            raise
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """The call is over, by this error if by any: it is recorded, and settled by its use."""
        self._record(error)
        if self.reservation.taken:
            await self._meter.limiter.settle(self.reservation, self.entry)

    async def end(self, error: BaseException | None = None) -> None:
        """End a call that was not entered."""
        await self.__aexit__(None, error, None)

    def dressed(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """An answer's headers; where the caller has limits of its own, with those in place of upstream's."""
        ours = self.reservation.headers
        if not ours:
            return [*headers]
        return [*(header for header in headers if not header[0].startswith(_RATE_LIMITS)), *ours]

    def _record(self, error: BaseException | None) -> None:
        entry = self.entry
        entry.latency_ms = round((time.monotonic() - entry.started) * 1000)
        if isinstance(error, ApiError):
            entry.status, entry.error_code = error.status, error.code
            if self.reservation.headers:
                told = self.dressed((name.encode(), value.encode()) for name, value in error.headers.items())
                error.headers = {name.decode(): value.decode() for name, value in told}
        elif error is not None:
            entry.status = _SERVER_ERROR
        self._meter.ledger.record(entry)
