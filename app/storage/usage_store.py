"""The ledger: its entries, and their sums by the hour. Must not know what a call costs."""

from asyncio import Future
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from msgspec.structs import fields, replace
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Integer,
    Select,
    Subquery,
    and_,
    bindparam,
    cast,
    func,
    null,
    or_,
    select,
    union_all,
)

from app.errors import InvalidRequestError
from app.state.ledger import Entry, Grouping, Recorded, UsageSum
from app.state.records import Usage
from app.storage.database import Database
from app.storage.statements import unindexed
from app.storage.tables import meta, responses
from app.storage.usage_days import SECONDS_PER_DAY
from app.storage.usage_tables import usage, usage_days, usage_hours
from app.storage.usage_writes import IS_STORED, SWEPT, PurgeUsage, RecordUsage
from app.storage.writer import Writer
from app.wire import response

MOST_ROWS = 10_000
"""The rows of one summary."""

_SECONDS_PER_HOUR = 3600
# Responses that one look of the sweep takes in.
_SWEPT_AT_ONCE = 1000
# How far ahead the clocks of others may be.
_AHEAD_SECONDS = 60

# What a summary of all that is kept may take, in seconds.
_SUMMARY_SECONDS = 30.0

_SUMS = [column.name for column in usage_hours.columns if not column.primary_key]
_GROUPS: Mapping[Grouping, str] = MappingProxyType(
    {"project": "project_id", "key": "api_key_id", "model": "model", "upstream": "upstream"}
)

# What an entry and its row have by the same name.
_SAME = [field.name for field in fields(Entry) if field.name in usage.columns]

_swept = cast(select(meta.c.value).where(meta.c.name == SWEPT).scalar_subquery(), Integer)
_SWEEP = (
    select(
        responses.c.key,
        responses.c.created_at,
        # As a value of each row: a join of all that is kept would be of one plan while statistics are young.
        select(usage.c.key)
        .where(
            usage.c.response_id == responses.c.id, unindexed(usage.c.project_id) == responses.c.project_id, IS_STORED
        )
        .scalar_subquery()
        .label("entry"),
        responses.c.project_id,
        responses.c.api_key_id,
        responses.c.id,
        responses.c.model,
        responses.c.status,
        responses.c.account,
        responses.c.input_tokens,
        responses.c.cached_tokens,
        responses.c.output_tokens,
        responses.c.reasoning_tokens,
    )
    .where(responses.c.key > func.coalesce(_swept, 0))
    .order_by(responses.c.key)
    .limit(_SWEPT_AT_ONCE)
)


class UsageStore:
    """What calls took. Times are unix seconds."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    def record(self, entries: Sequence[Entry], swept: int | None = None) -> Future[None]:
        """Commit these and their sums; of a stored response only the first. The outcome comes however late it is.

        `swept` is what `unrecorded` told. Raises StorageError when nothing can be taken now, and so does the outcome.
        """
        return self._writer.hand_in(RecordUsage(entries, swept))

    async def unrecorded(self, now: int, late_seconds: int) -> tuple[Sequence[Entry], int | None]:
        """Entries for stored responses of this age that used tokens and have none: their process ended before.

        With them, how far the responses were looked through; None when there is nothing new.
        """
        return await self._database.read(lambda connection: _unrecorded(connection, now, late_seconds))

    async def entries(
        self,
        *,
        project_id: str | None = None,
        api_key_id: str | None = None,
        since: int,
        until: int,
        after: int | None = None,
        limit: int = 50,
    ) -> Sequence[Recorded]:
        """Entries of calls that began in [since, until), the latest first, following the one with the key `after`."""
        query = select(usage).where(usage.c.at >= since, usage.c.at < until)
        if project_id is not None:
            query = query.where(usage.c.project_id == project_id)
        if api_key_id is not None:
            query = query.where(usage.c.api_key_id == api_key_id)
        if after is not None:
            at = select(usage.c.at).where(usage.c.key == after).scalar_subquery()
            query = query.where(or_(usage.c.at < at, and_(usage.c.at == at, usage.c.key < after)))
        query = query.order_by(usage.c.at.desc(), usage.c.key.desc()).limit(limit)
        rows = await self._database.read(lambda connection: connection.execute(query).mappings().all())
        return [_recorded(row) for row in rows]

    async def summary(
        self,
        *,
        since: int,
        until: int,
        group_by: Collection[Grouping] = (),
        project_id: str | None = None,
        api_key_id: str | None = None,
        model: str | None = None,
        upstream: str | None = None,
    ) -> Sequence[UsageSum]:
        """Sums of the calls that began in [since, until), in whole UTC hours: of the first, its whole hour counts.

        In the order of time and names. Raises InvalidRequestError for more than MOST_ROWS of them.
        """
        own = {"project_id": project_id, "api_key_id": api_key_id, "model": model, "upstream": upstream}
        wanted = {name: value for name, value in own.items() if value is not None}
        source = _sums_between(since - since % _SECONDS_PER_HOUR, until, wanted, by_hour="hour" in group_by)
        query = _grouped(source, group_by).limit(MOST_ROWS + 1)
        rows = await self._database.read(lambda connection: connection.execute(query).all(), _SUMMARY_SECONDS)
        if len(rows) > MOST_ROWS:
            raise InvalidRequestError(
                f"This would be more than {MOST_ROWS} rows. Ask for a shorter time or for fewer groups.",
                param="group_by",
            )
        # PostgreSQL's sums of integers are decimals.
        return [UsageSum(*row[:5], *map(int, row[5:])) for row in rows if row.requests]

    async def purge(self, before: int, batch: int = 500) -> int:
        """Remove the entries of calls that began before this, `batch` per commit; return how many. Sums are kept."""
        purged = 0
        while removed := await self._writer.submit(PurgeUsage(before, batch)):
            purged += removed
        return purged


def _unrecorded(connection: Connection, now: int, late_seconds: int) -> tuple[Sequence[Entry], int | None]:
    rows = connection.execute(_SWEEP).all()
    late = [row for row in rows if not now - late_seconds < row.created_at <= now + _AHEAD_SECONDS]
    # The first that is too young ends the look: nothing is passed over.
    while late and late[-1] is not rows[len(late) - 1]:
        late.pop()
    missing = [row for row in late if row.entry is None and (row.input_tokens or row.output_tokens)]
    return [_found(connection, row) for row in missing], late[-1].key if late else None


def _sums_between(since: int, until: int, wanted: Mapping[str, str], *, by_hour: bool) -> Subquery:
    """The sums of this time: of whole days those of the day, unless each hour is asked for."""
    first = since + -since % SECONDS_PER_DAY
    last = until - until % SECONDS_PER_DAY
    if by_hour or first >= last:
        return _sums(usage_hours.c.hour, since, until, wanted).subquery("sums")
    return union_all(
        _sums(usage_hours.c.hour, since, first, wanted),
        _sums(usage_days.c.day, first, last, wanted),
        _sums(usage_hours.c.hour, last, until, wanted),
    ).subquery("sums")


def _sums(begins: Column[int], since: int, until: int, wanted: Mapping[str, str]) -> Select[Any]:
    columns = begins.table.c
    return select(begins.label("begins"), *[columns[name] for name in (*_GROUPS.values(), *_SUMS)]).where(
        begins >= since, begins < until, *[columns[name] == value for name, value in wanted.items()]
    )


def _grouped(source: Subquery, group_by: Collection[Grouping]) -> Select[Any]:
    begins: ColumnElement[Any] = null()
    if "hour" in group_by:
        begins = source.c.begins
    elif "day" in group_by:
        begins = source.c.begins - source.c.begins % bindparam("day", SECONDS_PER_DAY, literal_execute=True)
    groups = {group: source.c[name] for group, name in _GROUPS.items() if group in group_by}
    by = [*([begins] if {"hour", "day"} & {*group_by} else []), *groups.values()]
    sums = [func.coalesce(func.sum(source.c[name]), 0).label(name) for name in _SUMS]
    query = select(*[groups.get(group, null()) for group in _GROUPS], begins, *sums)
    return query.group_by(*by).order_by(*by)


def _recorded(row: Mapping[Any, Any]) -> Recorded:
    account = None if row["upstream"] is None else f"{row['upstream']}/{row['key_fingerprint']}"
    used = None if row["input_tokens"] is None else _usage(row)
    same = {name: row[name] for name in _SAME}
    return Recorded(row["key"], Entry(**same, account=account, usage=used))


def _usage(row: Mapping[Any, Any]) -> Usage:
    given, made = row["input_tokens"], row["output_tokens"]
    # The release before wrote rows without the latter.
    more = [row[name] or 0 for name in ("cache_write_tokens", "web_searches", "file_searches")]
    return Usage(given, made, given + made, row["cached_tokens"], row["reasoning_tokens"], *more)


def _found(connection: Connection, row: Any) -> Entry:
    """The entry that a stored response stands for; what its row has no columns for is read from the response."""
    body = connection.scalar(select(responses.c.body).where(responses.c.key == row.key))
    facts = None if body is None else response.read(body)
    given, made = row.input_tokens, row.output_tokens
    used = Usage(given, made, given + made, row.cached_tokens, row.reasoning_tokens)
    told = None if facts is None else Usage.of(facts.usage, facts.web_searches, facts.file_searches)
    if told is not None:
        # Its body counts the summary of a compaction in, which is an entry of its own.
        is_whole = told.input_tokens == given and told.output_tokens == made
        used = told if is_whole else replace(used, web_searches=told.web_searches, file_searches=told.file_searches)
    return Entry(
        at=row.created_at,
        request_id="",
        project_id=row.project_id,
        api_key_id=row.api_key_id,
        endpoint="responses",
        model=row.model,
        is_stream=False,
        is_background=False,
        model_served=row.model,
        account=row.account or None,
        attempts=1,
        response_id=row.id,
        response_status=row.status,
        is_stored=True,
        usage=used,
        service_tier=None if facts is None else facts.service_tier,
        is_metered=True,
    )
