"""Limit calls: reserve what a call may use of the limits of its key and project, and reconcile it with what it used."""

import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

import structlog

from app.errors import StorageError
from app.ids import new_id
from app.relay.call.reservation import NOTHING, Grant
from app.relay.metering import limit_answers
from app.relay.metering.metered import LimitedRequest
from app.relay.metering.prices import Prices
from app.relay.stream.client import RawHeader
from app.runtime.compute_thread import ComputeThread
from app.state.items.token_estimate import estimate_request
from app.state.limit_windows import (
    NANO,
    Claim,
    Correction,
    Counts,
    Limit,
    Standing,
    Whose,
    limits_of,
    most_output_tokens,
)
from app.state.member_synonyms import synonym_of
from app.state.records import ApiKey, TokenUsage
from app.state.usage import UsageEntry
from app.upstream.account import surface_of
from app.wire import error_messages

_MAX_OUTPUT_TOKENS = "max_output_tokens"

_log = structlog.get_logger("antiphon.limits")


class LimitStanding(NamedTuple):
    """Show a limit to its caller: money in dollars, `resets_at` in unix seconds, None for streams."""

    whose: Whose
    name: str
    limit: float
    used: float
    resets_at: int | None


class _Estimate(NamedTuple):
    """Estimate what a call uses of limits; nano-dollars are None where a budget asks for a price that is not known."""

    input_tokens: int
    tokens: int
    money: int | None


class Limiter:
    """Grant calls, and reconcile each grant with what the call used.

    All limits of the key and of its project hold, and a call is granted by all of them or by none. Requests are counted
    when they are granted. Tokens and money are reserved by estimate (of the body's input, and `max_output_tokens` where
    the client gave it) and corrected by usage at the end, however the call ends: without known usage to the estimate of
    the input, and to nothing where no upstream was asked. Use beyond the reserved amount counts when the call ends, in
    the window of that time where its own is over. So concurrent calls can use more than a limit, and then the next call
    is refused. A budget in dollars refuses a model without a known price, unless the operator `allows_unpriced`, and
    then it costs nothing. While the counts are out of reach no caller with limits is served.
    """

    def __init__(
        self, counts: Counts, prices: Prices, compute_thread: ComputeThread, *, allows_unpriced: bool = False
    ) -> None:
        self._compute_thread = compute_thread
        self._counts = counts
        self._prices = prices
        self._allows_unpriced = allows_unpriced

    async def admit(self, caller: ApiKey, request: LimitedRequest, entry: UsageEntry) -> Grant:
        """Grant the call of this entry.

        Raises NotFoundError for a model that is not for this caller, LimitError (429), InvalidRequestError for more
        output than the caller may ask for, for a member that could ask for it in other words, and for a model without a
        price that a budget needs, and StorageError. A request that names no `max_output_tokens` gets the caller's cap.
        """
        if caller.is_unrestricted:
            return NOTHING
        # A count without a model asks no upstream; a prompt template may name any.
        asks_upstream = request.model or entry.endpoint != "input_tokens"
        if asks_upstream and not caller.may_use(request.model):
            raise error_messages.inaccessible_model(request.model)
        if not request.fields.keys() <= request.known:
            _check_members(caller, request.fields.keys() - request.known)
        cap = None if entry.endpoint in {"compact", "input_tokens"} else most_output_tokens(caller)
        asked = request.answers if request.most_output is None else request.most_output
        if cap is not None and asked > cap:
            raise error_messages.above_maximum(request.output_member, "integer", cap, asked)
        grant = await self._reserve(caller, request, entry)
        _cap(request, cap)
        return grant

    async def _reserve(self, caller: ApiKey, request: LimitedRequest, entry: UsageEntry) -> Grant:
        limits = limits_of(caller)
        if not limits:
            return NOTHING
        estimate = await self._estimate(limits, request, entry)
        if estimate.money is None and not self._allows_unpriced:
            raise limit_answers.unpriced_error(request.model, next(limit for limit in limits if limit.unit == "usd"))
        return await self._grant(limits, estimate, is_stream=entry.is_stream)

    async def _grant(self, limits: Collection[Limit], estimate: _Estimate, *, is_stream: bool) -> Grant:
        claims = _claims(limits, estimate, is_stream=is_stream)
        stream = new_id("stream") if is_stream else ""
        verdict = await self._counts.draw(claims, stream)
        if verdict.refused is not None:
            raise limit_answers.limit_error(verdict.refused, claims, verdict.standings)
        reserved = [
            Correction(limit, amount, standing.began_at)
            for (limit, amount), standing in zip(claims, verdict.standings, strict=True)
            if limit.unit != "requests"
        ]
        return Grant(limit_answers.headers(verdict.standings), tuple(reserved), estimate.input_tokens, stream)

    async def repeat(self, caller: ApiKey) -> tuple[RawHeader, ...]:
        """Count a repeat that is answered as the first call was: one request, and nothing else. Raises LimitError.

        Returns the headers that tell what is left.
        """
        claims = [Claim(limit, 1) for limit in limits_of(caller) if limit.unit == "requests"]
        if not claims:
            return ()
        verdict = await self._counts.draw(claims, "")
        if verdict.refused is not None:
            raise limit_answers.limit_error(verdict.refused, claims, verdict.standings)
        return limit_answers.headers(verdict.standings)

    def resume(self, grant: Grant, caller: ApiKey, request: LimitedRequest) -> Grant:
        """Return the grant of a run that begins now, with the limits that its caller has by now."""
        _cap(request, most_output_tokens(caller))
        return grant.with_limits([limit for limit in limits_of(caller) if limit.unit in {"tokens", "usd"}])

    async def listen(self, caller: ApiKey) -> Grant:
        """Grant a stream of the events of a background response. Raises LimitError and StorageError."""
        limits = [limit for limit in limits_of(caller) if limit.unit == "streams"]
        return await self._grant(limits, _Estimate(0, 0, 0), is_stream=True) if limits else NOTHING

    async def end_stream(self, grant: Grant) -> None:
        """End the count of this grant's stream. Never fails: a count that is not renewed expires."""
        if corrections := grant.stream_end:
            await self._reconcile(corrections, grant.stream, corrections[0].limit.owner)

    async def reconcile(self, grant: Grant, entry: UsageEntry) -> None:
        """Replace what was reserved for the call by what it used. Never fails: budgets may be reconciled later."""
        used = await self._used(grant, entry)
        corrections = []
        for limit, amount, at in grant.reserved:
            spent = {"tokens": used.tokens, "usd": used.money or 0}.get(limit.unit, 0)
            if spent != amount:
                corrections.append(Correction(limit, spent - amount, at))
        if corrections:
            await self._reconcile(corrections, grant.stream, entry.api_key_id)

    async def standings(self, caller: ApiKey) -> list[LimitStanding]:
        """Return the caller's limits, and what is used of each. Raises StorageError."""
        limits = limits_of(caller)
        return [_limit_standing(standing) for standing in await self._counts.read(limits)] if limits else []

    async def _reconcile(self, corrections: Sequence[Correction], stream: str, owner: str) -> None:
        try:
            await self._counts.reconcile(corrections, stream)
        except StorageError as error:
            _log.warning("a call's use was not settled", owner=owner, reason=error.message)

    async def _estimate(self, limits: Collection[Limit], request: LimitedRequest, entry: UsageEntry) -> _Estimate:
        units = {limit.unit for limit in limits}
        if entry.endpoint == "input_tokens" or units.isdisjoint(("tokens", "usd")):
            return _Estimate(0, 0, 0)
        asked = {**request.fields, "input": request.given}
        given = (
            await self._compute_thread.run(request.size, estimate_request, asked)
            if request.is_large
            else estimate_request(asked)
        )
        output = request.most_output or 0
        money: int | None = 0
        if "usd" in units:
            tier = request.fields.get("service_tier")
            # A call that is relayed as it came may have anything there: upstream refuses it.
            tier = tier if isinstance(tier, str) else None
            used = TokenUsage(given, output, given + output)
            money = await self._prices.quote(entry.model, used, tier, surface_of(entry.endpoint))
        return _Estimate(given, given + output, money)

    async def _used(self, grant: Grant, entry: UsageEntry) -> _Estimate:
        usage = entry.usage
        if usage is None:
            given = grant.input_tokens if entry.attempts else 0
            usage = TokenUsage(given, 0, given)
        money = None
        if any(limit.unit == "usd" for limit, _, _ in grant.reserved):
            asked = entry.model_served, entry.model, usage, entry.account, entry.service_tier
            money = await self._prices.cost(*asked)
        # Not every upstream adds them up.
        tokens = max(usage.total_tokens, usage.input_tokens + usage.output_tokens)
        return _Estimate(usage.input_tokens, tokens, money)


def _check_members(caller: ApiKey, unknown: Collection[str]) -> None:
    """Refuse a member that an upstream may take for one that this caller's policies have checked."""
    for name in sorted(unknown):
        for member in synonym_of(name):
            if _is_checked(caller, member):
                raise error_messages.unsupported(
                    name, f"with this API key, whose policy is about '{member}': an upstream may take it for that"
                )


def _is_checked(caller: ApiKey, member: str) -> bool:
    """Tell whether this member is checked for this caller. Models and length may be free; others are counted."""
    units = {limit.unit for limit in limits_of(caller)}
    if member == "model":
        return caller.is_bound_to_models or "usd" in units
    if member == _MAX_OUTPUT_TOKENS:
        return most_output_tokens(caller) is not None or not units.isdisjoint(("tokens", "usd"))
    return True


def _claims(limits: Collection[Limit], estimate: _Estimate, *, is_stream: bool) -> tuple[Claim, ...]:
    amounts = {"requests": 1, "streams": 1, "tokens": estimate.tokens, "usd": estimate.money or 0}
    return tuple([Claim(limit, amounts[limit.unit]) for limit in limits if is_stream or limit.unit != "streams"])


def _cap(request: LimitedRequest, cap: int | None) -> None:
    """Limit the output by the cap, unless the client has limited it."""
    if cap is not None and request.most_output is None:
        request.limit_output(cap)


def _limit_standing(standing: Standing) -> LimitStanding:
    limit = standing.limit
    resets_at = None if limit.window is None else int(time.time()) + -(-standing.rest_ms // 1000)
    if limit.unit == "usd":
        return LimitStanding(limit.whose, limit.name, limit.most / NANO, standing.used / NANO, resets_at)
    return LimitStanding(limit.whose, limit.name, limit.most, standing.used, resets_at)
