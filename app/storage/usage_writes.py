"""What is written of the ledger: entries with their sums, and the end of old ones. Must not know when."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from itertools import chain, zip_longest
from operator import itemgetter
from typing import Any, ClassVar, Self, TypeAlias

import msgspec
from msgspec.structs import astuple
from sqlalchemy import Connection, Text, bindparam, column, delete, select, text, values

from app.state.ledger import Entry
from app.state.records import Usage
from app.storage.recovered_budgets import charge
from app.storage.statements import FEW_SIZES, MOST_ROWS, Insertion, Query, unindexed
from app.storage.storable import storable, storable_id
from app.storage.tables import meta
from app.storage.usage_tables import usage, usage_hours
from app.storage.writer import Rank, Write

# How far stored responses have been compared with the ledger: the key of the last.
SWEPT = "usage_swept"
# In the words of the index, by which SQLite sees that it may use it.
IS_STORED = text("usage.is_stored")

_SECONDS_PER_HOUR = 3600
_FIRST_ERROR = 400
_CLIENT_LEFT = 499
# Names that clients and upstreams give, as far as they are kept.
_LONGEST_NAME = 200
# What an upstream may say that a call took without the sums running over.
_MOST_TOKENS = 2**40
_MOST_COST = 2**50
_NO_TOKENS = (0, 0, 0, 0)
_UNKNOWN = (None,) * len(_NO_TOKENS)
_NO_EXTRAS = (None, None, None)
# The model, in the sums, of calls that none answered.
_NO_MODEL = ""
_NOT_STORED = ("", "")
# Models and states, of which an hour's entries name a few.
_REMEMBERED_NAMES = 1024

_Row: TypeAlias = tuple[Any, ...]
_Group: TypeAlias = tuple[int, str, str, str, str]

_INSERT = Insertion(usage.name, [column.name for column in usage.columns if column is not usage.c.key], FEW_SIZES)
# Places for ids that are asked for in one statement; where there are fewer, some stay NULL.
_IDS = [f"id_{number}" for number in range(MOST_ROWS)]
_wanted = (
    values(column("id", Text), name="wanted").data([(bindparam(name, type_=Text),) for name in _IDS]).cte("wanted")
)
# A value for each id, so that PostgreSQL looks for one after the other by the unique index. Of a condition on all of
# them it makes what its statistics advise, and those of a young table have it read every entry of the project.
_KNOWN = Query(
    select(
        select(usage.c.response_id)
        .where(usage.c.response_id == _wanted.c.id, unindexed(usage.c.project_id) == bindparam("project_id"), IS_STORED)
        .scalar_subquery()
    ).select_from(_wanted)
)
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


@dataclass(frozen=True, slots=True)
class RecordUsage(Write[None]):
    """Entries and what they add to the sums; those of stored responses that have one are left out."""

    rank: ClassVar[Rank] = Rank.USAGE
    is_apart: ClassVar[bool] = True

    entries: Sequence[Entry]
    swept: int | None = None

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        new = _unrecorded(connection, chain.from_iterable(write.entries for write in writes))
        rows, sums = _laid_out(new)
        _INSERT.execute(connection, rows)
        _ADD.execute(connection, sums)
        swept = [write.swept for write in writes if write.swept is not None]
        if swept:
            found = {id(entry) for write in writes if write.swept is not None for entry in write.entries}
            charge(connection, [entry for entry in new if id(entry) in found])
            _note(connection, SWEPT, str(max(swept)))
        return [None] * len(writes)


@dataclass(frozen=True, slots=True)
class PurgeUsage(Write[int]):
    """The removal of up to `batch` entries from before a time; how many went."""

    rank: ClassVar[Rank] = Rank.USAGE
    is_apart: ClassVar[bool] = True

    before: int
    batch: int

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[int]:
        return [connection.execute(_purge(write.before, write.batch)).rowcount for write in writes]


def _purge(before: int, batch: int) -> Any:
    old = (
        select(usage.c.key)
        .where(usage.c.at < before)
        .order_by(usage.c.at)
        .limit(batch)
        .with_for_update(skip_locked=True)
    )
    return delete(usage).where(usage.c.key.in_(old))


def _note(connection: Connection, name: str, value: str) -> None:
    statement = import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert(meta)
    kept = {"value": statement.excluded.value}
    connection.execute(
        statement.on_conflict_do_update(index_elements=["name"], set_=kept), {"name": name, "value": value}
    )


def _unrecorded(connection: Connection, entries: Iterable[Entry]) -> list[Entry]:
    """These without entries of stored responses that are there already, or twice among them.

    They are in one order: another process may record the same responses, from what is stored of them.
    """
    identified = sorted([(_identity(entry), entry) for entry in entries], key=itemgetter(0))
    new = {identity for identity, _ in identified if identity is not _NOT_STORED}
    for project_id in {project_id for project_id, _ in new}:
        ids = [response_id for project, response_id in new if project == project_id]
        for start in range(0, len(ids), len(_IDS)):
            some = dict(zip_longest(_IDS, ids[start : start + len(_IDS)]), project_id=project_id)
            new -= {(project_id, known) for (known,) in _KNOWN.fetch(connection, some)}
    kept = []
    for identity, entry in identified:
        if identity is _NOT_STORED:
            kept.append(entry)
        elif identity in new:
            new.remove(identity)
            kept.append(entry)
    return kept


def _identity(entry: Entry) -> tuple[str, str]:
    """What a stored response has for itself."""
    if entry.response_id is None or not entry.is_stored:
        return _NOT_STORED
    return storable(entry.project_id), storable_id(entry.response_id)


def _laid_out(entries: Iterable[Entry]) -> tuple[list[_Row], list[_Row]]:
    """The rows of these entries, in the order of `_INSERT`, and what they add to the sums, in that of `_ADD`.

    The latter stand in one order everywhere: replicas that lock the same rows do so one after another.
    """
    rows: list[_Row] = []
    sums: dict[_Group, _Sums] = {}
    for entry in entries:
        upstream, _, fingerprint = (entry.account or "").partition("/")
        model = _name(entry.model)
        used = entry.usage
        counts = None if used is None else _counts(used)
        extras = (
            _NO_EXTRAS if used is None else _bounded((used.cache_write_tokens, used.web_searches, used.file_searches))
        )
        cost = None if entry.cost_nano is None else min(entry.cost_nano, _MOST_COST)
        rows.append(
            (
                entry.at,
                storable(entry.request_id[:_LONGEST_NAME]),
                entry.project_id,
                entry.api_key_id,
                entry.endpoint,
                model,
                entry.model_served and _name(entry.model_served),
                upstream or None,
                fingerprint or None,
                entry.status,
                entry.response_status and _name(entry.response_status),
                entry.error_code and _name(entry.error_code),
                entry.attempts,
                entry.affinity,
                *(counts or _UNKNOWN),
                cost,
                entry.latency_ms,
                entry.first_byte_ms,
                entry.is_stream,
                entry.is_background,
                entry.is_stored,
                entry.response_id and storable_id(entry.response_id),
                entry.service_tier and _name(entry.service_tier),
                *extras,
                entry.is_estimated,
            )
        )
        hour = entry.at - entry.at % _SECONDS_PER_HOUR
        answered = model if _is_answered(entry) else _NO_MODEL
        group = (hour, entry.project_id, entry.api_key_id, answered, upstream)
        total = sums.get(group)
        if total is None:
            total = sums[group] = _Sums()
        total.add(entry, counts, cost)
    return rows, [(*group, *astuple(sums[group])) for group in sorted(sums)]


def _is_answered(entry: Entry) -> bool:
    """Whether a model answered the call, which shows that there is one of the name that its client gave."""
    if entry.usage is not None and not entry.is_estimated:
        return True
    is_refused = entry.status >= _FIRST_ERROR and entry.status != _CLIENT_LEFT
    return entry.first_byte_ms is not None and not is_refused and entry.response_status != "failed"


class _Sums(msgspec.Struct, gc=False):
    """What some entries add to the sums of one hour, caller, model and upstream: columns in the order of the table."""

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

    def add(self, entry: Entry, counts: Sequence[int] | None, cost: int | None) -> None:
        self.requests += 1
        if (entry.status >= _FIRST_ERROR and entry.status != _CLIENT_LEFT) or entry.response_status == "failed":
            self.errors += 1
        given, cached, made, thought = counts or _NO_TOKENS
        self.input_tokens += given
        self.cached_tokens += cached
        self.output_tokens += made
        self.reasoning_tokens += thought
        self.estimated_requests += entry.is_estimated
        if entry.usage is not None:
            self.cache_write_tokens += min(entry.usage.cache_write_tokens, _MOST_TOKENS)
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


def _counts(used: Usage) -> tuple[int, ...]:
    return _bounded((used.input_tokens, used.cached_tokens, used.output_tokens, used.reasoning_tokens))


def _bounded(counts: tuple[int, ...]) -> tuple[int, ...]:
    return counts if max(counts) <= _MOST_TOKENS else tuple([min(count, _MOST_TOKENS) for count in counts])


@lru_cache(maxsize=_REMEMBERED_NAMES)
def _name(name: str) -> str:
    return storable(name[:_LONGEST_NAME])
