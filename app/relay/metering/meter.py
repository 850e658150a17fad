"""Meter one call from admitted to accounted for: its limits before, its usage and its usage entry after."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Generic, TypeVar

from app.errors import CLIENT_LEFT, ApiError
from app.observability.logging import request_id
from app.relay.call.exchange import Exchange
from app.relay.call.reservation import Grant
from app.relay.metering.limiter import Limiter
from app.relay.metering.metered import LimitedRequest, Metered, PassedOutput
from app.relay.metering.usage_recorder import UsageRecorder
from app.runtime.compute_thread import ComputeThread
from app.state.items.token_estimate import estimate_bytes
from app.state.records import ApiKey, TokenUsage
from app.state.runs import Run
from app.state.usage import Endpoint, UsageEntry
from app.wire.json_body import LARGE_BYTES
from app.wire.requests.create import CreateRequest

_SERVER_ERROR = 500
_ANSWERED_WHOLE = frozenset({"compact", "input_tokens"})
_Call = TypeVar("_Call", bound=Metered)


class Meter:
    """Admit calls by their limits, and record what each has used."""

    def __init__(self, limiter: Limiter, usage_recorder: UsageRecorder, compute_thread: ComputeThread) -> None:
        self.limiter = limiter
        self._usage_recorder = usage_recorder
        self._compute_thread = compute_thread

    def call(
        self, request: CreateRequest, caller: ApiKey, headers: Mapping[str, str], *, endpoint: Endpoint = "responses"
    ) -> "MeteredCall[Exchange]":
        """Return a context around the exchange of one call; entering it raises what the limiter raises."""
        return MeteredCall(self, Exchange(request, caller, headers, new_entry(request, caller, endpoint)))

    def metered(self, call: _Call) -> "MeteredCall[_Call]":
        """Return a context around a call that is no response; entering it raises what the limiter raises."""
        return MeteredCall(self, call)

    async def admit_run(self, request: CreateRequest, caller: ApiKey, headers: Mapping[str, str]) -> Exchange:
        """Admit a call that will be made in the background. Raises what the limiter raises, which is recorded.

        The call is ended only where its run cannot be created: else by the worker that makes it (`resume`).
        """
        exchange = Exchange(request, caller, headers, new_entry(request, caller, "responses", is_background=True))
        await self.admit(exchange)
        return exchange

    async def refuse(self, request: CreateRequest, caller: ApiKey, error: ApiError) -> None:
        """Record a background call that is refused before it is admitted."""
        entry = new_entry(request, caller, "responses", is_background=True)
        await self.end(Exchange(request, caller, entry=entry), error)

    def resume(self, exchange: Exchange, run: Run) -> None:
        """Continue the metering of a call whose run begins here, with the grant that its row has."""
        run_request = run.request
        exchange.entry = UsageEntry(
            int(time.time()),
            run_request.id,
            run_request.project_id,
            run_request.api_key_id,
            "responses",
            # `begin` sets the full name once the request can be read.
            exchange.request.logged_model,
            run_request.is_streamed,
            is_background=True,
            started=time.monotonic(),
        )
        # The owner before may have asked upstream: its cost is not known, and not given back.
        exchange.entry.attempts = int(run.status == "in_progress")
        exchange.grant = Grant.of_run(run_request.drawn)

    def begin(self, exchange: Exchange, request: CreateRequest, caller: ApiKey) -> None:
        """Set the request and the caller of a run, once its request can be read."""
        exchange.caller = caller
        exchange.ask(request)
        exchange.entry.model = request.logged_model
        exchange.grant = self.limiter.resume(exchange.grant, caller, request)

    async def admit(self, call: Metered) -> None:
        """Have the limiter grant the call. Raises what the limiter raises, which is recorded."""
        try:
            call.grant = await self.limiter.admit(call.caller, call.request, call.entry)
        except BaseException as error:
            _note_end(call.entry, call.grant, error)
            self._usage_recorder.record(call.entry)
            raise

    async def count_history(self, exchange: Exchange) -> None:
        """Estimate the tokens that upstream is sent beside the call's own input, where they count for a limit."""
        if exchange.grant.reserved:
            exchange.entry.history_tokens = await exchange.history_tokens(self._compute_thread)

    @asynccontextmanager
    async def summary(self, exchange: Exchange, context_tokens: int) -> AsyncIterator[UsageEntry]:
        """Return the entry of the call that summarises this exchange's context, of so many tokens by estimate.

        Upstream is paid for the summary whatever becomes of the call: it is recorded, priced and charged by itself, at
        once.
        """
        entry = new_entry(exchange.request, exchange.caller, "compact", is_background=exchange.entry.is_background)
        # Nothing was reserved for it.
        reserved = [correction._replace(amount=0) for correction in exchange.grant.reserved]
        entry.history_tokens = context_tokens
        failed: BaseException | None = None
        try:
            yield entry
        except asyncio.CancelledError:
            # The client has gone, or the process stops: upstream works on the summary all the same.
            entry.status = CLIENT_LEFT
            raise
        except BaseException as error:
            failed = error
            raise
        finally:
            if entry.attempts:
                await self._end(entry, Grant(reserved=tuple(reserved)), None, failed)

    def end(self, call: Metered, error: BaseException | None = None) -> Coroutine[Any, Any, None]:
        """Record the end of the call, by this error if any, and reconcile its limits with its usage."""
        return self._end(call.entry, call.grant, call.answer, error)

    async def _end(
        self, entry: UsageEntry, grant: Grant, answer: PassedOutput | None, error: BaseException | None
    ) -> None:
        _note_end(entry, grant, error)
        if entry.attempts and not entry.is_metered:
            await self._estimate(entry, grant, answer)
        self._usage_recorder.record(entry)
        if grant.reserved:
            await self.limiter.reconcile(grant, entry)

    async def _estimate(self, entry: UsageEntry, grant: Grant, answer: PassedOutput | None) -> None:
        """Estimate the usage from what upstream was sent and the client got, where upstream has not stated it.

        So a client that hangs up before the usage comes pays all the same. A call that upstream refused, or that failed
        before any output, used nothing.
        """
        if answer is not None:
            is_large = answer.size >= LARGE_BYTES
            passed = await self._compute_thread.run(answer.size, answer.tokens) if is_large else answer.tokens()
            entry.relayed_tokens = max(entry.relayed_tokens, passed)
        has_answer = entry.response_status is not None and entry.response_status != "failed"
        is_used = entry.relayed_tokens > 0 or entry.status == CLIENT_LEFT or has_answer
        if not is_used or entry.endpoint == "input_tokens":
            return
        given = (grant.input_tokens or estimate_bytes(entry.input_bytes)) + entry.history_tokens
        used = TokenUsage(given, entry.relayed_tokens, given + entry.relayed_tokens)
        entry.usage = used if entry.usage is None else entry.usage.plus(used)
        entry.is_estimated = True


class MeteredCall(Generic[_Call]):
    """Admit a call when the context is entered, and record its end when it is left."""

    __slots__ = ("_call", "_meter")

    def __init__(self, meter: Meter, call: _Call) -> None:
        self._meter = meter
        self._call = call

    async def __aenter__(self) -> _Call:
        call = self._call
        if not call.caller.is_unrestricted:
            await self._meter.admit(call)
        return call

    def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> Coroutine[Any, Any, None]:
        return self._meter.end(self._call, error)


def _note_end(entry: UsageEntry, grant: Grant, error: BaseException | None) -> None:
    entry.latency_ms = round((time.monotonic() - entry.started) * 1000)
    if isinstance(error, ApiError):
        entry.status, entry.error_code = error.status, error.code
        if grant.headers:
            limited = grant.with_limit_headers((name.encode(), value.encode()) for name, value in error.headers.items())
            error.headers = {name.decode(): value.decode() for name, value in limited}
    elif error is not None:
        entry.status = _SERVER_ERROR


def new_entry(
    request: LimitedRequest, caller: ApiKey, endpoint: Endpoint, *, is_background: bool = False
) -> UsageEntry:
    """Begin the usage entry of a call."""
    return UsageEntry(
        int(time.time()),
        request_id(),
        caller.project_id,
        caller.id,
        endpoint,
        request.logged_model,
        request.stream and endpoint not in _ANSWERED_WHOLE,
        is_background,
        time.monotonic(),
    )
