"""Write limits as OpenAI does: the headers that count down, and the errors of a limit that is reached.

An error also says whose limit it is, and until when.
"""

import math
import time
from collections.abc import Iterable
from datetime import UTC, datetime

from app.errors import ApiError, InvalidRequestError
from app.relay.stream.client import RawHeader
from app.state.limit_windows import NANO, Claim, Limit, Standing, Unit

_OWNERS = {"API key": "this API key", "project": "the project of this API key"}
_PER_MINUTE = {"requests": "requests per min (RPM)", "tokens": "tokens per min (TPM)"}
_COUNTED_DOWN: tuple[Unit, ...] = ("requests", "tokens")
# For errors that last: an SDK that retries would hold its caller up, or come back too early.
_NO_RETRY = {"x-should-retry": "false"}
_SLACK_SECONDS = 0.1
_LONGEST_QUOTE = 100


class LimitError(ApiError):
    """Refuse a call: a limit of the key or its project is reached."""

    default_status = 429
    default_code = "rate_limit_exceeded"
    type = "rate_limit_error"


class BudgetError(LimitError):
    """Refuse a call: the budget of the key or its project for a period is spent."""

    default_code = "insufficient_quota"
    type = "insufficient_quota"


def limit_error(refused: Standing, claims: Iterable[Claim], standings: Iterable[Standing]) -> LimitError:
    """Make the error of a call that this limit refuses, of all that it claimed, with the standing of its limits."""
    limit, rest_ms = refused.limit, refused.rest_ms
    requested = next(amount for claimed, amount in claims if claimed.key == limit.key)
    left = {name.decode(): value.decode() for name, value in headers(standings)}
    owner = _OWNERS[limit.whose]
    if limit.is_budget:
        return BudgetError(
            f"You exceeded your current quota, the budget of {owner} for this {limit.window}: "
            f"Limit {_amount(limit, limit.most)}, Used {_amount(limit, refused.used)}, "
            f"Requested {_amount(limit, requested)}. It begins anew at {_moment(rest_ms)}.",
            headers={**left, **_wait(rest_ms), **_NO_RETRY},
        )
    if limit.window is None:
        return LimitError(
            f"Rate limit reached for {owner} on concurrent streams: Limit {limit.most}, Used {refused.used}, "
            "Requested 1. Please try again when one of them has ended.",
            headers=left,
        )
    rate = _PER_MINUTE[limit.unit]
    if limit.unit == "tokens" and requested > limit.most:
        return LimitError(
            f"Request too large for {owner} on {rate}: Limit {limit.most}, Requested {requested}. "
            "The input or output tokens must be reduced in order to run successfully.",
            headers={**left, **_NO_RETRY},
        )
    return LimitError(
        f"Rate limit reached for {owner} on {rate}: Limit {limit.most}, Used {refused.used}, Requested {requested}. "
        f"Please try again in {duration(rest_ms)} (at {_moment(rest_ms)}).",
        headers={**left, **_wait(rest_ms)},
    )


def unpriced_error(model: str, limit: Limit) -> InvalidRequestError:
    """Make the error of a call of a model without a known price, where this limit is in dollars."""
    return InvalidRequestError(
        f"The price of the model '{model[:_LONGEST_QUOTE]}' is not known, and {_OWNERS[limit.whose]} has a budget in "
        "US dollars. Use another model, or ask the operator of this gateway for a price of this one.",
        code="model_price_unknown",
        param="model",
    )


def headers(standings: Iterable[Standing]) -> tuple[RawHeader, ...]:
    """Make `x-ratelimit-*` of requests and tokens per minute; of a key's and its project's limit the tighter one."""
    found_headers: list[RawHeader] = []
    by_unit = {
        unit: [one for one in standings if one.limit.window == "minute" and one.limit.unit == unit]
        for unit in _COUNTED_DOWN
    }
    for unit, found in by_unit.items():
        if not found:
            continue
        tightest = min(found, key=lambda one: (one.limit.most - one.used, -one.rest_ms))
        for name, value in (
            ("limit", str(tightest.limit.most)),
            ("remaining", str(max(0, tightest.limit.most - tightest.used))),
            ("reset", duration(tightest.rest_ms)),
        ):
            found_headers.append((f"x-ratelimit-{name}-{unit}".encode(), value.encode()))
    return tuple(found_headers)


def duration(milliseconds: int) -> str:
    """Format a time as OpenAI does: `12ms`, `59.5s`, `6m0s`, `1h0m0s`."""
    if milliseconds < 1000:  # noqa: PLR2004 - a second
        return f"{milliseconds}ms"
    seconds, rest = divmod(milliseconds, 1000)
    fraction = f".{rest:03}".rstrip("0") if rest else ""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}{fraction}s"
    return f"{minutes}m{seconds}{fraction}s" if minutes else f"{seconds}{fraction}s"


def _wait(rest_ms: int) -> dict[str, str]:
    # Rounded up, so that no client comes back too early.
    return {"retry-after": str(-(-rest_ms // 1000)), "retry-after-ms": str(rest_ms)}


def _moment(rest_ms: int) -> str:
    # The next whole second; a little less, because time has passed since the rest was read.
    at = datetime.fromtimestamp(math.ceil(time.time() + rest_ms / 1000 - _SLACK_SECONDS), UTC)
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _amount(limit: Limit, amount: int) -> str:
    return f"${amount / NANO:.6f}".rstrip("0").rstrip(".") if limit.unit == "usd" else f"{amount} {limit.unit}"
