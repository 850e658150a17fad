"""Insert usage entries with their sums, of each stored response once; purge old entries."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from itertools import chain, zip_longest
from operator import itemgetter
from typing import Any, ClassVar, Self, TypeAlias

from sqlalchemy import Connection, Text, bindparam, column, delete, select, text, values

from app.state.records import TokenUsage
from app.state.usage import UsageEntry
from app.storage.engine.statements import FEW_SIZES, MOST_ROWS, Insertion, Query, unindexed
from app.storage.engine.storable_text import storable, storable_id
from app.storage.tables import meta
from app.storage.usage.budget_recovery import charge
from app.storage.usage.hourly_sums import MOST_TOKENS, HourlySums
from app.storage.usage.tables import usage
from app.storage.writer.writer import Rank, Write

# The name in `meta` of the key of the last stored response that the sweep compared with the entries.
SWEPT = "usage_swept"
# In the words of the partial index, by which SQLite sees that it may use it.
IS_STORED = text("usage.is_stored")

# The kept length of names from clients and upstreams.
_LONGEST_NAME = 200
_MOST_COST = 2**50
_UNKNOWN = (None, None, None, None)
_NO_EXTRAS = (None, None, None)
_NOT_STORED = ("", "")
# Models and states, of which an hour's entries name a few.
_REMEMBERED_NAMES = 1024

_Row: TypeAlias = tuple[Any, ...]

_INSERT = Insertion(usage.name, [column.name for column in usage.columns if column is not usage.c.key], FEW_SIZES)
# Places for ids that are asked for in one statement; where there are fewer, some stay NULL.
_IDS = [f"id_{number}" for number in range(MOST_ROWS)]
_wanted = (
    values(column("id", Text), name="wanted").data([(bindparam(name, type_=Text),) for name in _IDS]).cte("wanted")
)
# A scalar subquery for each id, so that PostgreSQL finds one after the other by the unique index. With a condition on
# all ids, it reads every entry of the project while the table's statistics are young.
_KNOWN = Query(
    select(
        select(usage.c.response_id)
        .where(usage.c.response_id == _wanted.c.id, unindexed(usage.c.project_id) == bindparam("project_id"), IS_STORED)
        .scalar_subquery()
    ).select_from(_wanted)
)


@dataclass(frozen=True, slots=True)
class RecordUsage(Write[None]):
    """Insert entries and add them to the sums, but for stored responses that have an entry already."""

    rank: ClassVar[Rank] = Rank.USAGE
    is_apart: ClassVar[bool] = True

    entries: Sequence[UsageEntry]
    swept: int | None = None

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        new = _unrecorded(connection, chain.from_iterable(write.entries for write in writes))
        rows, sums = _laid_out(new)
        _INSERT.execute(connection, rows)
        sums.save(connection)
        swept = [write.swept for write in writes if write.swept is not None]
        if swept:
            found = {id(entry) for write in writes if write.swept is not None for entry in write.entries}
            charge(connection, [entry for entry in new if id(entry) in found])
            _note(connection, SWEPT, str(max(swept)))
        return [None] * len(writes)


@dataclass(frozen=True, slots=True)
class PurgeUsage(Write[int]):
    """Delete up to `batch` entries from before a time; the result is how many."""

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


def _unrecorded(connection: Connection, entries: Iterable[UsageEntry]) -> list[UsageEntry]:
    """Leave out the entries of stored responses that are recorded already, or twice among these.

    The result is in one order: another process may record the same responses from what is stored of them.
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


def _identity(entry: UsageEntry) -> tuple[str, str]:
    """Return the project and id of a stored response, _NOT_STORED for another entry."""
    if entry.response_id is None or not entry.is_stored:
        return _NOT_STORED
    return storable(entry.project_id), storable_id(entry.response_id)


def _laid_out(entries: Iterable[UsageEntry]) -> tuple[list[_Row], HourlySums]:
    """Make the entries' rows, in the column order of `_INSERT`, and add them up."""
    rows: list[_Row] = []
    sums = HourlySums()
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
        sums.add(entry, model, upstream, counts, cost)
    return rows, sums


def _counts(used: TokenUsage) -> tuple[int, ...]:
    return _bounded((used.input_tokens, used.cached_tokens, used.output_tokens, used.reasoning_tokens))


def _bounded(counts: tuple[int, ...]) -> tuple[int, ...]:
    return counts if max(counts) <= MOST_TOKENS else tuple([min(count, MOST_TOKENS) for count in counts])


@lru_cache(maxsize=_REMEMBERED_NAMES)
def _name(name: str) -> str:
    return storable(name[:_LONGEST_NAME])
