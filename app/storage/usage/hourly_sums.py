"""Add usage entries up by the hour, caller, model and upstream; a model that never answered is not named."""

from collections.abc import Sequence
from typing import TypeAlias

import msgspec
from msgspec.structs import astuple
from sqlalchemy import Connection

from app.errors import CLIENT_LEFT
from app.state.usage import UsageEntry
from app.storage.engine.statements import FEW_SIZES, Insertion
from app.storage.usage.tables import usage_hours

MOST_TOKENS = 2**40
"""The most tokens of a call that are recorded, so that no sum overflows, whatever an upstream reports."""

_SECONDS_PER_HOUR = 3600
_FIRST_ERROR = 400
_NO_TOKENS = (0, 0, 0, 0)
# The model of calls that no model answered: clients may ask for any number of names that do not exist.
_NO_MODEL = ""

_Group: TypeAlias = tuple[int, str, str, str, str]

_ADD = Insertion(
    usage_hours.name,
    [column.name for column in usage_hours.columns],
    FEW_SIZES,
    f" ON CONFLICT ({', '.join(column.name for column in usage_hours.primary_key)}) DO UPDATE SET "
    + ", ".join(
        f"{column.name} = usage_hours.{column.name} + excluded.{column.name}"
        for column in usage_hours.columns
        if not column.primary_key
    ),
)


class HourlySums:
    """Add up the entries of one write."""

    def __init__(self) -> None:
        self._sums: dict[_Group, _Sums] = {}

    def add(self, entry: UsageEntry, model: str, upstream: str, counts: Sequence[int] | None, cost: int | None) -> None:
        """Add an entry; model, upstream, tokens and cost as its row has them."""
        hour = entry.at - entry.at % _SECONDS_PER_HOUR
        group = (hour, entry.project_id, entry.api_key_id, model if _is_answered(entry) else _NO_MODEL, upstream)
        total = self._sums.get(group)
        if total is None:
            total = self._sums[group] = _Sums()
        total.add(entry, counts, cost)

    def save(self, connection: Connection) -> None:
        """Add to the table, in one order everywhere, so that replicas lock the same rows one after another."""
        _ADD.execute(connection, [(*group, *astuple(self._sums[group])) for group in sorted(self._sums)])


class _Sums(msgspec.Struct, gc=False):
    """Add up entries of one hour, caller, model and upstream; fields are in the column order of the table."""

    requests: int = 0
    errors: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nano: int = 0
    unpriced_requests: int = 0
    kept_requests: int = 0
    kept_input_tokens: int = 0
    kept_cached_tokens: int = 0
    moved_requests: int = 0
    moved_input_tokens: int = 0
    moved_cached_tokens: int = 0
    cache_write_tokens: int = 0
    estimated_requests: int = 0

    def add(self, entry: UsageEntry, counts: Sequence[int] | None, cost: int | None) -> None:
        self.requests += 1
        if (entry.status >= _FIRST_ERROR and entry.status != CLIENT_LEFT) or entry.response_status == "failed":
            self.errors += 1
        given, cached, made, thought = counts or _NO_TOKENS
        self.input_tokens += given
        self.cached_tokens += cached
        self.output_tokens += made
        self.reasoning_tokens += thought
        self.estimated_requests += entry.is_estimated
        if entry.usage is not None:
            self.cache_write_tokens += min(entry.usage.cache_write_tokens, MOST_TOKENS)
        if cost is not None:
            self.cost_nano += cost
        elif counts is not None:
            self.unpriced_requests += 1
        if entry.affinity == "kept":
            self.kept_requests += 1
            self.kept_input_tokens += given
            self.kept_cached_tokens += cached
        elif entry.affinity == "moved":
            self.moved_requests += 1
            self.moved_input_tokens += given
            self.moved_cached_tokens += cached


def _is_answered(entry: UsageEntry) -> bool:
    """Return whether a model answered the call, which proves that the model's name exists."""
    if entry.usage is not None and not entry.is_estimated:
        return True
    is_refused = entry.status >= _FIRST_ERROR and entry.status != CLIENT_LEFT
    return entry.first_byte_ms is not None and not is_refused and entry.response_status != "failed"
