"""Charge budgets for the calls of a killed process, when their usage entries are found.

Whether such a call was reconciled is unknown, and so is its claim. So a count is raised to the recorded usage of its
owner in that period, and by no more than what was found.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, update

from app.state.usage import UsageEntry
from app.storage.engine.clock import DatabaseMilliseconds
from app.storage.limits.tables import limit_counts
from app.storage.usage.tables import usage_hours

_BUDGETS: Mapping[str, str] = {
    f"{unit}_per_{period}": unit for unit in ("tokens", "usd") for period in ("day", "week", "month")
}
_MILLISECONDS = 1000

_CURRENT = (
    select(limit_counts.c.owner, limit_counts.c.name, limit_counts.c.used, limit_counts.c.began_at)
    .where(
        limit_counts.c.owner.in_(bindparam("owners", expanding=True)),
        limit_counts.c.name.in_(sorted(_BUDGETS)),
        limit_counts.c.ends_at > DatabaseMilliseconds(),
    )
    .order_by(limit_counts.c.owner, limit_counts.c.name)
    .with_for_update()
)
_KEEP = (
    update(limit_counts)
    .where(limit_counts.c.owner == bindparam("of"), limit_counts.c.name == bindparam("named"))
    .values(used=bindparam("now_used"))
)
_SPENT = {
    "tokens": func.sum(usage_hours.c.input_tokens + usage_hours.c.output_tokens),
    "usd": func.sum(usage_hours.c.cost_nano),
}


def charge(connection: Connection, found: Sequence[UsageEntry]) -> None:
    """Charge these calls, whose entries are recorded by now, to the current budgets of their keys and projects."""
    owners: dict[str, Any] = {}
    for entry in found:
        owners[entry.api_key_id] = usage_hours.c.api_key_id
        owners[entry.project_id] = usage_hours.c.project_id
    if not owners:
        return
    for owner, name, used, began_at in connection.execute(_CURRENT, {"owners": sorted(owners)}).all():
        began, unit = began_at // _MILLISECONDS, _BUDGETS[name]
        lost = sum(
            _spent(entry, unit)
            for entry in found
            if owner in (entry.api_key_id, entry.project_id) and entry.at >= began
        )
        recorded = connection.scalar(select(_SPENT[unit]).where(owners[owner] == owner, usage_hours.c.hour >= began))
        charged = min(used + lost, max(used, int(recorded or 0)))
        if charged != used:
            connection.execute(_KEEP, {"of": owner, "named": name, "now_used": charged})


def _spent(entry: UsageEntry, unit: str) -> int:
    if unit == "usd":
        return entry.cost_nano or 0
    return 0 if entry.usage is None else entry.usage.input_tokens + entry.usage.output_tokens
