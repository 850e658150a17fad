"""What is written of the ledger: entries with their sums, and the end of old ones. Must not know when."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import chain
from typing import Any, Self

from sqlalchemy import Connection, bindparam, delete, select, text

from app.state.ledger import Entry
from app.storage.statements import FEW_SIZES, Insertion
from app.storage.tables import meta, storable
from app.storage.usage_tables import usage, usage_hours
from app.storage.writer import Write

# How far stored responses have been compared with the ledger: the key of the last.
SWEPT = "usage_swept"
# In the words of the index, by which SQLite sees that it may use it.
IS_STORED = text("usage.is_stored")

_SECONDS_PER_HOUR = 3600
_FIRST_ERROR = 400
_CLIENT_LEFT = 499
# Names that clients and upstreams give, as far as they are kept.
_LONGEST_NAME = 200
# An id that PostgreSQL's index takes, whatever its letters are.
_LONGEST_ID = 500
# What an upstream may say that a call took without the sums running over.
_MOST_TOKENS = 2**40
_MOST_COST = 2**50
_IDS_AT_ONCE = 500
_NO_TOKENS = (0, 0, 0, 0)
_NOT_MET = (0, 0, 0)

_INSERT = Insertion(usage.name, [column.name for column in usage.columns if column is not usage.c.key], FEW_SIZES)
_KNOWN = select(usage.c.response_id).where(
    usage.c.project_id == bindparam("project_id"),
    usage.c.response_id.in_(bindparam("response_ids", expanding=True)),
    IS_STORED,
)
_GROUP = [column.name for column in usage_hours.primary_key]
_ADDED = [column.name for column in usage_hours.columns if not column.primary_key]


@dataclass(frozen=True, slots=True)
class RecordUsage(Write[None]):
    """Entries and what they add to the sums; those of stored responses that have one are left out."""

    entries: Sequence[Entry]
    swept: int | None = None

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        entries = _unrecorded(connection, list(chain.from_iterable(write.entries for write in writes)))
        _INSERT.execute(connection, [_row(entry) for entry in entries])
        if entries:
            connection.execute(_adding(connection.dialect.name), _sums(entries))
        swept = [write.swept for write in writes if write.swept is not None]
        if swept:
            _note(connection, SWEPT, str(max(swept)))
        return [None] * len(writes)


@dataclass(frozen=True, slots=True)
class PurgeUsage(Write[int]):
    """The removal of up to `batch` entries from before a time; how many went."""

    before: int
    batch: int

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[int]:
        return [connection.execute(_purge(write.before, write.batch)).rowcount for write in writes]


def _purge(before: int, batch: int) -> Any:
    old = select(usage.c.key).where(usage.c.at < before).order_by(usage.c.at).limit(batch)
    return delete(usage).where(usage.c.key.in_(old))


def _note(connection: Connection, name: str, value: str) -> None:
    statement = import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert(meta)
    kept = {"value": statement.excluded.value}
    connection.execute(
        statement.on_conflict_do_update(index_elements=["name"], set_=kept), {"name": name, "value": value}
    )


@cache
def _adding(dialect: str) -> Any:
    """INSERT … ON CONFLICT DO UPDATE that adds to what is there."""
    statement: Any = import_module(f"sqlalchemy.dialects.{dialect}").insert(usage_hours)
    added = {name: usage_hours.c[name] + statement.excluded[name] for name in _ADDED}
    return statement.on_conflict_do_update(index_elements=_GROUP, set_=added)


def _unrecorded(connection: Connection, entries: Sequence[Entry]) -> list[Entry]:
    """These without entries of stored responses that are there already, or twice among them."""
    new = {identity for identity in map(_identity, entries) if identity is not None}
    for project_id in {project_id for project_id, _ in new}:
        ids = [response_id for project, response_id in new if project == project_id]
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = {"project_id": project_id, "response_ids": ids[start : start + _IDS_AT_ONCE]}
            new -= {(project_id, known) for known in connection.scalars(_KNOWN, some)}
    kept = []
    for entry in entries:
        identity = _identity(entry)
        if identity is None:
            kept.append(entry)
        elif identity in new:
            new.remove(identity)
            kept.append(entry)
    return kept


def _identity(entry: Entry) -> tuple[str, str] | None:
    """What a stored response has for itself."""
    if entry.response_id is None or not entry.is_stored:
        return None
    return storable(entry.project_id), _id(entry.response_id)


def _row(entry: Entry) -> tuple[Any, ...]:
    """Values in the order of `_INSERT`."""
    used = entry.usage
    counts: Sequence[int | None] = (None,) * 4
    if used is not None:
        counts = _counts(used.input_tokens, used.cached_tokens, used.output_tokens, used.reasoning_tokens)
    upstream, _, fingerprint = (entry.account or "").partition("/")
    return (
        entry.at,
        _name(entry.request_id),
        entry.project_id,
        entry.api_key_id,
        entry.endpoint,
        _name(entry.model),
        _name(entry.model_served),
        upstream or None,
        fingerprint or None,
        entry.status,
        _name(entry.response_status),
        _name(entry.error_code),
        entry.attempts,
        entry.affinity,
        *counts,
        _cost(entry),
        entry.latency_ms,
        entry.first_byte_ms,
        entry.is_stream,
        entry.is_background,
        entry.is_stored,
        None if entry.response_id is None else _id(entry.response_id),
    )


def _sums(entries: Iterable[Entry]) -> list[Mapping[str, Any]]:
    """What these add to the sums, in one order everywhere: replicas that lock the same rows do so one after another."""
    groups: dict[tuple[Any, ...], list[Sequence[int]]] = {}
    for entry in entries:
        group = (
            entry.at - entry.at % _SECONDS_PER_HOUR,
            entry.project_id,
            entry.api_key_id,
            _name(entry.model),
            (entry.account or "").partition("/")[0],
        )
        groups.setdefault(group, []).append(_added(entry))
    names = (*_GROUP, *_ADDED)
    return [
        dict(zip(names, (*group, *map(sum, zip(*groups[group], strict=True))), strict=True)) for group in sorted(groups)
    ]


def _added(entry: Entry) -> Sequence[int]:
    """Values in the order of `_ADDED`."""
    used = entry.usage
    counts: Sequence[int] = _NO_TOKENS
    if used is not None:
        counts = _counts(used.input_tokens, used.cached_tokens, used.output_tokens, used.reasoning_tokens)
    cost = _cost(entry)
    is_error = (entry.status >= _FIRST_ERROR and entry.status != _CLIENT_LEFT) or entry.response_status == "failed"
    is_unpriced = cost is None and used is not None
    met = (1, *counts[:2])
    return (
        1,
        is_error,
        *counts,
        cost or 0,
        is_unpriced,
        *(met if entry.affinity == "kept" else _NOT_MET),
        *(met if entry.affinity == "moved" else _NOT_MET),
    )


def _counts(*counts: int) -> tuple[int, ...]:
    return tuple([min(count, _MOST_TOKENS) for count in counts])


def _cost(entry: Entry) -> int | None:
    return None if entry.cost_nano is None else min(entry.cost_nano, _MOST_COST)


def _name(name: str | None) -> str | None:
    return None if name is None else storable(name[:_LONGEST_NAME])


def _id(response_id: str) -> str:
    return storable(response_id[:_LONGEST_ID])
