"""Serve GET /v1/usage: the limits of the caller's key with what is left of them, and what the key has used."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import orjson
from fastapi import Request, Response
from pydantic import Field

from app.administration.views import resources
from app.api.admin.forms import Query, read_query
from app.api.dependencies import Caller
from app.api.services import ServicesOf
from app.relay.metering.limiter import LimitStanding
from app.state.usage import UsageSum

_DEFAULT_SECONDS = 30 * 86_400
_LATEST = 2**40
OWN = (
    "requests",
    "errors",
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_usd",
    "unpriced_requests",
    "estimated_requests",
)


class UsageQuery(Query):
    """Select calls that began in [since, until), unix seconds; by default those of the last 30 days."""

    since: Annotated[int | None, Field(ge=0, le=_LATEST)] = None
    until: Annotated[int | None, Field(ge=0, le=_LATEST)] = None
    group_by: Literal["hour", "day", "model"] = "day"


async def show_usage(request: Request, caller: Caller, services: ServicesOf) -> Response:
    """Return the limits of the caller's key and project with what is left of them, and what the key has used.

    `limits`: of whom, name, limit, used, remaining, resets_at (unix seconds, null for streams). `current`: the sums of
    the day, the week and the month in UTC. `data`: those of the time that was asked for, by `hour`, `day` or `model`;
    times count in whole hours. Costs are US dollars, null where no price is known. `estimated_requests` are those of
    which upstream did not say what they took. A `model` of "" is that of calls that none answered. Errors: 400 for the
    query.
    """
    query = read_query(UsageQuery, request)
    now = int(time.time())
    until = now + 1 if query.until is None else query.until
    since = max(0, until - _DEFAULT_SECONDS) if query.since is None else query.since
    grouped = await services.usage.summary(
        since=since, until=until, group_by=[query.group_by], project_id=caller.project_id, api_key_id=caller.id
    )
    current = {}
    for period, began_at in _periods(now).items():
        sums = await services.usage.summary(
            since=began_at, until=now + 1, project_id=caller.project_id, api_key_id=caller.id
        )
        current[period] = {"begins": began_at, **(_own_members(sums[0]) if sums else _NONE)}
    usage = {
        "object": "usage",
        "api_key_id": caller.id,
        "project_id": caller.project_id,
        "limits": [_limit(allowance) for allowance in await services.limiter.standings(caller)],
        "current": current,
        "since": since,
        "until": until,
        "data": [{"begins": each.begins, "model": each.model, **_own_members(each)} for each in grouped],
    }
    return Response(orjson.dumps(usage), media_type="application/json", headers={"cache-control": "no-store"})


def _periods(now: int) -> Mapping[str, int]:
    """Return the times at which the current day, week and month (UTC) began, in unix seconds."""
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    begins = {"day": today, "week": today - timedelta(days=today.weekday()), "month": today.replace(day=1)}
    return {period: int(begin.timestamp()) for period, begin in begins.items()}


def _own_members(used: UsageSum) -> dict[str, Any]:
    members = resources.usage_sum(used)
    return {name: members[name] for name in OWN}


_NONE = dict.fromkeys(OWN, 0)


def _limit(allowance: LimitStanding) -> dict[str, Any]:
    remaining = max(0, allowance.limit - allowance.used)
    return {
        "of": allowance.whose,
        "name": allowance.name,
        "limit": allowance.limit,
        "used": allowance.used,
        "remaining": remaining,
        "resets_at": allowance.resets_at,
    }
