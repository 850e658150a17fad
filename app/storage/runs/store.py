"""Create, claim, read, end and delete runs (responses in the background), their leases and their event logs.

Leases go by the database's clock. A process may write to a run while it has the epoch of the run's row.
"""

from collections.abc import Collection, Mapping, Sequence

import orjson
from sqlalchemy import Connection, RowMapping, and_, bindparam, case, func, literal, select, text

from app.runtime.byte_budget import Reserve, reserve_nothing
from app.state.runs import LogView, Page, ReadyRun, Run, RunRequest, RunState, SeenRun
from app.storage.conversations.turn_commit import SaveTurn
from app.storage.engine.clock import DatabaseTime
from app.storage.engine.database import READ_AT_ONCE_BYTES, Database
from app.storage.responses.store import SaveResponse
from app.storage.runs.creation import CreateRun
from app.storage.runs.leases import ClaimRuns, EndOtherLeases, RenewLeases
from app.storage.runs.ready_runs import ready_runs
from app.storage.runs.removal import DeleteRun, PurgeRuns
from app.storage.runs.writes import IS_IN_FLIGHT, IS_KEPT, AppendEvents, EndRun, PutBackRun, RequestCancel, StartRun
from app.storage.tables import run_events, runs
from app.storage.writer.writer import Writer

# Rows of the event log that are read at once, and their bytes, unless the first has more.
_PAGES_AT_ONCE = 16
_BYTES_AT_ONCE = READ_AT_ONCE_BYTES
# The most runs of each kind (cancelled, without owner) that one look returns.
_MOST_ENDED = 16
_SIGHTED = (runs.c.key, runs.c.epoch, runs.c.cancel_requested)
# In the words of the index.
_IS_CANCELLING = and_(text("cancel_requested"), runs.c.request.is_not(None))
_IS_FREE = runs.c.lease_until <= DatabaseTime()
_OTHERS = select(*_SIGHTED, literal(value=False)).where(_IS_FREE).limit(_MOST_ENDED)
# Built once: every process asks twice a second.
_WATCHED = (
    select(*_SIGHTED, literal(value=True)).where(runs.c.owner == bindparam("owner")),
    _OTHERS.where(_IS_CANCELLING).order_by(runs.c.lease_until),
    _OTHERS.where(runs.c.status == "in_progress"),
)


class RunStore:
    """Store the runs of all projects."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def create(
        self, request: RunRequest, body: bytes, page: Page | None, *, owner: str | None, lease_seconds: int, most: int
    ) -> Run | None:
        """Commit a queued run, its event log begun with this page; None when its project has `most` unfinished runs.

        Its owner has it for the length of the lease; without an owner any process may claim it.
        """
        return await self._writer.submit(CreateRun(request, body, page, owner, lease_seconds, most))

    async def find(self, project_id: str, response_id: str) -> RunState | None:
        """Return the project's run with this id, until it expires."""
        own = select(runs.c.key, runs.c.status, runs.c.is_streamed, runs.c.body).where(
            runs.c.project_id == project_id, runs.c.id == response_id, IS_KEPT
        )
        row = await self._database.read(lambda connection: connection.execute(own).one_or_none())
        return row and RunState(*row)

    async def read_request(
        self, project_id: str, response_id: str, reserve: Reserve = reserve_nothing
    ) -> RunRequest | None:
        """Return the request of the project's unfinished run with this id, if it will be stored; without its headers.

        `reserve` is called before much is read.
        """
        own = (runs.c.project_id == project_id, runs.c.id == response_id, IS_IN_FLIGHT, runs.c.is_stored)

        def read(connection: Connection, most: int) -> tuple[int, RunRequest | None]:
            size: int = connection.scalar(select(func.length(runs.c.request)).where(*own)) or 0
            columns = (runs.c.api_key_id, runs.c.is_streamed, runs.c.request, runs.c.is_beta)
            row = connection.execute(select(*columns).where(*own)).one_or_none() if size <= most else None
            if row is None:
                return size, None
            return size, RunRequest(
                response_id,
                project_id,
                row.api_key_id,
                is_stored=True,
                is_streamed=row.is_streamed,
                headers={},
                body=row.request,
                is_beta=row.is_beta,
            )

        return await self._database.read_within(read, reserve)

    async def read_log(self, key: int, after: int, reserve: Reserve = reserve_nothing) -> LogView | None:
        """Return the run's events after number `after`, or the first of them; None when the run is gone.

        `reserve` is called before much is read.
        """
        return await self._database.read_within(
            lambda connection, most: _read_log(connection, key, after, most), reserve
        )

    async def have_more(self, seen: Mapping[int, int]) -> Collection[int]:
        """Return the runs that have ended, are gone, or have events after the number seen."""
        newest = (
            select(run_events.c.last_number)
            .where(run_events.c.run_key == runs.c.key)
            .order_by(run_events.c.first_number.desc())
            .limit(1)
            .scalar_subquery()
        )
        query = select(runs.c.key, newest).where(runs.c.key.in_(seen), IS_IN_FLIGHT)
        found = await self._database.read(lambda connection: connection.execute(query).all())
        return seen.keys() - {key for key, last in found if last is None or last <= seen[key]}

    async def watch(self, owner: str) -> Sequence[SeenRun]:
        """Return this owner's unfinished runs, and some without a living owner that have to be ended."""

        def look(connection: Connection) -> list[SeenRun]:
            return [SeenRun(*row) for query in _WATCHED for row in connection.execute(query, {"owner": owner})]

        return await self._database.read(look)

    async def waiting(
        self, resting: Collection[str], wait_seconds: float, left_out: Collection[str] = ()
    ) -> Sequence[ReadyRun]:
        """Return the first run of each project that can begin now, except for the projects of `left_out`.

        Runs of `resting` models and of locked conversations cannot, unless they have waited for `wait_seconds`.
        """
        return await self._database.read(
            lambda connection: ready_runs(connection, resting, int(wait_seconds), left_out)
        )

    async def claim(self, owner: str, lease_seconds: int, keys: Collection[int]) -> Sequence[Run]:
        """Take over these runs if they have no living owner; return those that were taken."""
        claimed = await self._writer.submit(ClaimRuns(owner, lease_seconds, tuple(keys)))
        if not claimed:
            return []
        # Requests can be large: the writing thread does not read them.
        query = (
            select(runs, (DatabaseTime() - runs.c.created_at).label("waited"))
            .where(runs.c.key.in_(claimed), runs.c.owner == owner)
            .order_by(runs.c.key)
        )
        return await self._database.read(lambda connection: [_run(row) for row in connection.execute(query).mappings()])

    async def renew(self, owner: str, keys: Collection[int], lease_seconds: int) -> None:
        """Renew the leases of these runs, where the owner still has them."""
        await self._writer.submit(RenewLeases(owner, tuple(keys), lease_seconds))

    async def end_other_leases(self, owner: str) -> None:
        """End the leases of all other owners: for a process that knows that it is alone."""
        await self._writer.submit(EndOtherLeases(owner))

    async def start(self, run: Run, body: bytes) -> bool:
        """Mark the run as in progress, before upstream is asked. False when the run is not ours any more.

        After a StorageError the mark may be set all the same: set it again, or put the run back.
        """
        return await self._writer.submit(StartRun(run.key, run.epoch, body))

    async def put_back(self, run: Run, pause_seconds: int) -> bool:
        """Give the run back to any process after a pause, however late. False when it is not ours any more."""
        return await self._writer.submit(PutBackRun(run.key, run.epoch, run.status, run.body, pause_seconds))

    async def append(self, run: Run, page: Page) -> bool:
        """Commit a page of the event log. False when the run is not ours any more."""
        return await self._writer.submit(AppendEvents(run.key, run.epoch, page))

    async def end(
        self, run: Run, status: str, body: bytes, *, keep_seconds: int, turn: SaveResponse | SaveTurn | None
    ) -> bool:
        """Commit the run's end together with its turn, if any.

        True also when this was done before. False when the run is not ours any more, and then nothing is stored.
        """
        return await self._writer.submit(EndRun(run.key, run.epoch, status, body, keep_seconds, turn))

    async def request_cancel(self, key: int) -> None:
        """Have the run's owner end it as cancelled."""
        await self._writer.submit(RequestCancel(key))

    async def delete(self, project_id: str, response_id: str) -> bool:
        """Delete a run that has ended, and its event log; False when there is none."""
        return await self._writer.submit(DeleteRun(project_id, response_id))

    async def purge_expired(self, batch: int = 100) -> int:
        """Remove expired runs, `batch` per commit; return how many."""
        purged = 0
        while removed := await self._writer.submit(PurgeRuns(batch)):
            purged += removed
        return purged


def _run(row: RowMapping) -> Run:
    request = RunRequest(
        row["id"],
        row["project_id"],
        row["api_key_id"],
        row["is_stored"],
        row["is_streamed"],
        orjson.loads(row["headers"]),
        row["request"],
        row["is_beta"],
        row["drawn"],
        row["model"],
        row["conversation_id"],
    )
    return Run(row["key"], row["epoch"], request, row["status"], row["body"], row["cancel_requested"], row["waited"])


def _read_log(connection: Connection, key: int, after: int, most: int) -> tuple[int, LogView | None]:
    newest = (
        select(run_events.c.last_number)
        .where(run_events.c.run_key == key)
        .order_by(run_events.c.first_number.desc())
        .limit(1)
        .scalar_subquery()
    )
    length = case((IS_IN_FLIGHT, None), else_=func.length(runs.c.body))
    # Read the row before the log: once the row has ended, the log is complete.
    row = connection.execute(select(runs.c.status, length, newest).where(runs.c.key == key, IS_KEPT)).one_or_none()
    if row is None:
        return 0, None
    status, body_size, last = row
    own = (run_events.c.run_key == key, run_events.c.last_number > after)
    order = run_events.c.first_number
    measured = select(run_events.c.last_number, func.length(run_events.c.frames)).where(*own).order_by(order)
    there = connection.execute(measured.limit(_PAGES_AT_ONCE)).all()
    size, until = 0, after
    for last_number, page_size in there:
        if size and size + page_size > _BYTES_AT_ONCE:
            break
        size, until = size + page_size, last_number
    is_whole = len(there) < _PAGES_AT_ONCE and (not there or until == there[-1][0])
    if is_whole and until < last:
        # The run was deleted after its row was read.
        return 0, None
    if is_whole and body_size is not None:
        size += body_size
    if size > most:
        return size, None
    query = select(run_events.c.first_number, run_events.c.last_number, run_events.c.frames)
    found = connection.execute(query.where(*own, run_events.c.last_number <= until).order_by(order))
    pages = tuple(Page(*page) for page in found)
    final: bytes | None = None
    if is_whole and body_size is not None:
        final = connection.scalar(select(runs.c.body).where(runs.c.key == key))
    if (pages[-1].last if pages else after) < until or (final is None and is_whole and body_size is not None):
        # The run was deleted after its log was measured.
        return 0, None
    return size, LogView(
        pages, is_whole, last, None if final is None else (status, final), is_queued=status == "queued"
    )
