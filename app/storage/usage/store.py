"""Record usage entries, list and sum them, and find stored responses without an entry."""

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
from app.state.records import TokenUsage
from app.state.usage import Grouping, RecordedEntry, UsageEntry, UsageSum
from app.storage.engine.database import Database
from app.storage.engine.statements import unindexed
from app.storage.tables import meta, responses
from app.storage.usage.daily_sums import SECONDS_PER_DAY
from app.storage.usage.tables import usage, usage_days, usage_hours
from app.storage.usage.writes import IS_STORED, SWEPT, PurgeUsage, RecordUsage
from app.storage.writer.writer import Writer
from app.wire.responses import response_object

MOST_ROWS = 10_000
"""The most rows of one summary."""

_SECONDS_PER_HOUR = 3600
# Responses that the sweep reads at once.
_SWEPT_AT_ONCE = 1000
# Seconds by which the clocks of other processes may be ahead.
_AHEAD_SECONDS = 60

# The time limit of a summary, in seconds: it may read all entries.
_SUMMARY_SECONDS = 30.0

_SUMS = [column.name for column in usage_hours.columns if not column.primary_key]
_GROUPS: Mapping[Grouping, str] = MappingProxyType(
    {"project": "project_id", "key": "api_key_id", "model": "model", "upstream": "upstream"}
)

# The fields of an entry that have the same name in its row.
_SAME = [field.name for field in fields(UsageEntry) if field.name in usage.columns]

_swept = cast(select(meta.c.value).where(meta.c.name == SWEPT).scalar_subquery(), Integer)
_SWEEP = (
    select(
        responses.c.key,
        responses.c.created_at,
        # A scalar subquery for each row: PostgreSQL may join all entries at once while statistics are young.
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
    """Store the usage of calls. Times are unix seconds."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    def record(self, entries: Sequence[UsageEntry], swept: int | None = None) -> Future[None]:
        """Commit entries and their sums, of a stored response only the first. The outcome comes, however late.

        `swept` is that of `unrecorded`. Raises StorageError when the writer takes no more now, and so does the outcome.
        """
        return self._writer.hand_in(RecordUsage(entries, swept))

    async def unrecorded(self, now: int, late_seconds: int) -> tuple[Sequence[UsageEntry], int | None]:
        """Make entries for stored responses of this age that used tokens and have none: their process was killed.

        Returns with them how far the responses were looked through; None when there is nothing new.
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
    ) -> Sequence[RecordedEntry]:
        """List the entries of calls that began in [since, until), latest first, behind the one with the key `after`."""
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
        """Sum the calls that began in [since, until), in whole UTC hours: the first hour counts as a whole.

        Ordered by time and names. Raises InvalidRequestError for more than MOST_ROWS sums.
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
        """Remove the entries of calls that began before a time, `batch` per commit; return how many. Sums are kept."""
        purged = 0
        while removed := await self._writer.submit(PurgeUsage(before, batch)):
            purged += removed
        return purged


def _unrecorded(connection: Connection, now: int, late_seconds: int) -> tuple[Sequence[UsageEntry], int | None]:
    rows = connection.execute(_SWEEP).all()
    late = [row for row in rows if not now - late_seconds < row.created_at <= now + _AHEAD_SECONDS]
    # The first response that is too young ends the sweep, so that none is skipped.
    while late and late[-1] is not rows[len(late) - 1]:
        late.pop()
    missing = [row for row in late if row.entry is None and (row.input_tokens or row.output_tokens)]
    return [_entry_of_response(connection, row) for row in missing], late[-1].key if late else None


def _sums_between(since: int, until: int, wanted: Mapping[str, str], *, by_hour: bool) -> Subquery:
    """Select the sums of this time: for whole days those of the day, unless grouped by hour."""
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


def _recorded(row: Mapping[Any, Any]) -> RecordedEntry:
    account = None if row["upstream"] is None else f"{row['upstream']}/{row['key_fingerprint']}"
    used = None if row["input_tokens"] is None else _usage(row)
    same = {name: row[name] for name in _SAME}
    return RecordedEntry(row["key"], UsageEntry(**same, account=account, usage=used))


def _usage(row: Mapping[Any, Any]) -> TokenUsage:
    given, made = row["input_tokens"], row["output_tokens"]
    # An older release wrote rows without these.
    more = [row[name] or 0 for name in ("cache_write_tokens", "web_searches", "file_searches")]
    return TokenUsage(given, made, given + made, row["cached_tokens"], row["reasoning_tokens"], *more)


def _entry_of_response(connection: Connection, row: Any) -> UsageEntry:
    """Make the entry of a stored response; facts without a column are read from the response object."""
    body = connection.scalar(select(responses.c.body).where(responses.c.key == row.key))
    facts = None if body is None else response_object.read(body)
    given, made = row.input_tokens, row.output_tokens
    used = TokenUsage(given, made, given + made, row.cached_tokens, row.reasoning_tokens)
    reported = None if facts is None else TokenUsage.of(facts.usage, facts.web_searches, facts.file_searches)
    if reported is not None:
        # The body's usage may include the summary of a compaction, which has an entry of its own.
        is_whole = reported.input_tokens == given and reported.output_tokens == made
        used = (
            reported
            if is_whole
            else replace(used, web_searches=reported.web_searches, file_searches=reported.file_searches)
        )
    return UsageEntry(
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
