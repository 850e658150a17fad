"""Who may make a call now: the limits of a key and of its project. Must not know how they are counted."""

import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

import structlog

from app.errors import StorageError
from app.ids import new_id
from app.offload import Offload
from app.relay import refusal
from app.relay.client import RawHeader
from app.relay.prices import Prices
from app.relay.reservation import NOTHING, Reservation
from app.state.estimate import estimate_request
from app.state.ledger import Entry
from app.state.limits import (
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
from app.state.records import ApiKey, Usage
from app.state.synonyms import taken_for
from app.wire import wording
from app.wire.body import Json
from app.wire.requests import MEMBERS, CreateRequest

_MAX_OUTPUT_TOKENS = "max_output_tokens"

_log = structlog.get_logger("antiphon.limits")


class Allowance(NamedTuple):
    """A limit as its caller is shown it: money in dollars, `resets_at` in unix seconds, None for streams."""

    whose: Whose
    name: str
    limit: float
    used: float
    resets_at: int | None


class _Estimate(NamedTuple):
    """What a call takes of limits: nano-dollars are None where its price is asked for and not known."""

    input_tokens: int
    tokens: int
    money: int | None


class Limiter:
    """Grants calls, and settles them by what they used.

    All limits of the key and of its project hold, and a call is granted by all of them or by none. Requests are counted
    when they are granted. Tokens and money are taken by estimate (of the body's input, and `max_output_tokens` where
    the client gave it) and corrected by usage at the end, whatever the end is: where none is known, to the estimate of
    the input, and to nothing where no upstream was asked. What a call used beyond what it took counts when it ends, in
    the window of then where its own is over. So what runs at once can use more than a limit, and then the
    next call is refused. A budget in dollars refuses what has no known price, unless the operator `allows_unpriced`,
    and then it costs nothing. While the counts are out of reach nobody who has limits is served.
    """

    def __init__(self, counts: Counts, prices: Prices, offload: Offload, *, allows_unpriced: bool = False) -> None:
        self._offload = offload
        self._counts = counts
        self._prices = prices
        self._allows_unpriced = allows_unpriced

    async def admit(self, caller: ApiKey, request: CreateRequest, entry: Entry) -> Reservation:
        """Grant the call that this is the entry of.

        Raises NotFoundError for a model that is not for this caller, LimitError (429), InvalidRequestError for more
        output than it may ask for, a member that could say so in other words or a model without a price that a budget
        asks for, and StorageError. A request that names no `max_output_tokens` gets the caller's cap.
        """
        if caller.is_unrestricted:
            return NOTHING
        # A count without a model asks no upstream; a prompt template may name any.
        asks_upstream = request.model or entry.endpoint != "input_tokens"
        if asks_upstream and not caller.may_use(request.model):
            raise wording.inaccessible_model(request.model)
        if not request.fields.keys() <= MEMBERS:
            _check_members(caller, request.fields.keys() - MEMBERS)
        cap = most_output_tokens(caller) if entry.endpoint == "responses" else None
        asked = request.fields.get(_MAX_OUTPUT_TOKENS)
        if cap is not None and asked is not None and asked > cap:
            raise wording.above_maximum(_MAX_OUTPUT_TOKENS, "integer", cap, asked)
        reservation = await self._draw(caller, request, entry)
        _cap(request, cap)
        return reservation

    async def _draw(self, caller: ApiKey, request: CreateRequest, entry: Entry) -> Reservation:
        limits = limits_of(caller)
        if not limits:
            return NOTHING
        estimate = await self._estimate(limits, request, entry)
        if estimate.money is None and not self._allows_unpriced:
            raise refusal.unpriced(request.model, next(limit for limit in limits if limit.unit == "usd"))
        return await self._take(limits, estimate, is_stream=entry.is_stream)

    async def _take(self, limits: Collection[Limit], estimate: _Estimate, *, is_stream: bool) -> Reservation:
        claims = _claims(limits, estimate, is_stream=is_stream)
        stream = new_id("stream") if is_stream else ""
        verdict = await self._counts.draw(claims, stream)
        if verdict.refused is not None:
            raise refusal.refusal(verdict.refused, claims, verdict.standings)
        taken = [
            Correction(limit, amount, standing.began_at)
            for (limit, amount), standing in zip(claims, verdict.standings, strict=True)
            if limit.unit != "requests"
        ]
        return Reservation(refusal.headers(verdict.standings), tuple(taken), estimate.input_tokens, stream)

    async def repeat(self, caller: ApiKey) -> tuple[RawHeader, ...]:
        """Count a call that is answered as one before it was: a request, and nothing else. Raises LimitError.

        Returns the headers that tell what is left.
        """
        claims = [Claim(limit, 1) for limit in limits_of(caller) if limit.unit == "requests"]
        if not claims:
            return ()
        verdict = await self._counts.draw(claims, "")
        if verdict.refused is not None:
            raise refusal.refusal(verdict.refused, claims, verdict.standings)
        return refusal.headers(verdict.standings)

    def resume(self, reservation: Reservation, caller: ApiKey, request: CreateRequest) -> Reservation:
        """The reservation of an order that is made now, for a caller whose limits may be others by now."""
        _cap(request, most_output_tokens(caller))
        return reservation.with_limits([limit for limit in limits_of(caller) if limit.unit in {"tokens", "usd"}])

    async def listen(self, caller: ApiKey) -> Reservation:
        """Grant a stream of what a response in the background says. Raises LimitError and StorageError."""
        limits = [limit for limit in limits_of(caller) if limit.unit == "streams"]
        return await self._take(limits, _Estimate(0, 0, 0), is_stream=True) if limits else NOTHING

    async def end_stream(self, reservation: Reservation) -> None:
        """Count the stream of this reservation no more. Never fails: one that stays is over when it is not renewed."""
        if corrections := reservation.stream_end:
            await self._settle(corrections, reservation.stream, corrections[0].limit.owner)

    async def settle(self, reservation: Reservation, entry: Entry) -> None:
        """Take what the call used in place of what was reserved for it. Never fails: budgets may be settled later."""
        used = await self._used(reservation, entry)
        corrections = []
        for limit, amount, at in reservation.taken:
            spent = {"tokens": used.tokens, "usd": used.money or 0}.get(limit.unit, 0)
            if spent != amount:
                corrections.append(Correction(limit, spent - amount, at))
        if corrections:
            await self._settle(corrections, reservation.stream, entry.api_key_id)

    async def standing(self, caller: ApiKey) -> list[Allowance]:
        """The caller's limits, and what is used of each. Raises StorageError."""
        limits = limits_of(caller)
        return [_allowance(standing) for standing in await self._counts.read(limits)] if limits else []

    async def _settle(self, corrections: Sequence[Correction], stream: str, owner: str) -> None:
        try:
            await self._counts.settle(corrections, stream)
        except StorageError as error:
            _log.warning("a call's use was not settled", owner=owner, reason=error.message)

    async def _estimate(self, limits: Collection[Limit], request: CreateRequest, entry: Entry) -> _Estimate:
        units = {limit.unit for limit in limits}
        if entry.endpoint == "input_tokens" or units.isdisjoint(("tokens", "usd")):
            return _Estimate(0, 0, 0)
        given = (
            await self._offload.run(request.size, estimate_request, request.fields)
            if request.is_large
            else estimate_request(request.fields)
        )
        output = request.fields.get(_MAX_OUTPUT_TOKENS) or 0
        money: int | None = 0
        if "usd" in units:
            tier = request.fields.get("service_tier")
            money = await self._prices.quote(entry.model, Usage(given, output, given + output), tier)
        return _Estimate(given, given + output, money)

    async def _used(self, reservation: Reservation, entry: Entry) -> _Estimate:
        usage = entry.usage
        if usage is None:
            given = reservation.input_tokens if entry.attempts else 0
            usage = Usage(given, 0, given)
        money = None
        if any(limit.unit == "usd" for limit, _, _ in reservation.taken):
            asked = entry.model_served, entry.model, usage, entry.account, entry.service_tier
            money = await self._prices.cost(*asked)
        # Not every upstream adds them up.
        tokens = max(usage.total_tokens, usage.input_tokens + usage.output_tokens)
        return _Estimate(usage.input_tokens, tokens, money)


def _check_members(caller: ApiKey, unknown: Collection[str]) -> None:
    """Refuse a member that an upstream may take for one that this caller's policies have checked."""
    for name in sorted(unknown):
        for member in taken_for(name):
            if _is_checked(caller, member):
                raise wording.unsupported(
                    name, f"with this API key, whose policy is about '{member}': an upstream may take it for that"
                )


def _is_checked(caller: ApiKey, member: str) -> bool:
    """Whether this member is checked for this caller. Models and length may be free; all others say what is counted."""
    units = {limit.unit for limit in limits_of(caller)}
    if member == "model":
        return caller.is_bound_to_models or "usd" in units
    if member == _MAX_OUTPUT_TOKENS:
        return most_output_tokens(caller) is not None or not units.isdisjoint(("tokens", "usd"))
    return True


def _claims(limits: Collection[Limit], estimate: _Estimate, *, is_stream: bool) -> tuple[Claim, ...]:
    amounts = {"requests": 1, "streams": 1, "tokens": estimate.tokens, "usd": estimate.money or 0}
    return tuple([Claim(limit, amounts[limit.unit]) for limit in limits if is_stream or limit.unit != "streams"])


def _cap(request: CreateRequest, cap: int | None) -> None:
    """Have the response end at the cap, unless the client has it end earlier."""
    if cap is not None and request.fields.get(_MAX_OUTPUT_TOKENS) is None:
        request.fields[_MAX_OUTPUT_TOKENS] = cap
        request.members[_MAX_OUTPUT_TOKENS] = Json(b"%d" % cap)


def _allowance(standing: Standing) -> Allowance:
    limit = standing.limit
    resets_at = None if limit.window is None else int(time.time()) + -(-standing.rest_ms // 1000)
    if limit.unit == "usd":
        return Allowance(limit.whose, limit.name, limit.most / NANO, standing.used / NANO, resets_at)
    return Allowance(limit.whose, limit.name, limit.most, standing.used, resets_at)
