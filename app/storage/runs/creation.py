"""Insert new runs, all of one transaction together, and refuse those beyond their project's limit.

The limit is exact over all replicas: a project's unfinished runs are counted under the lock of a row.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import orjson
from sqlalchemy import BigInteger, Connection, bindparam, func, insert, select

from app.state.limit_windows import FOREVER
from app.state.runs import Page, Run, RunRequest
from app.storage.engine.clock import DatabaseTime
from app.storage.engine.statements import FEW_SIZES, Insertion, unindexed
from app.storage.engine.storable_text import storable
from app.storage.runs.writes import IS_IN_FLIGHT, TakeBackRun, page_columns
from app.storage.tables import run_events, runs
from app.storage.writer.row_locks import Row
from app.storage.writer.writer import Rank, Write

# The row of `limit_counts` that locks a project's unfinished runs; it has no count.
_QUEUE = "background_queue"
_LOCK = Insertion(
    "limit_counts",
    ("owner", "name", "used", "began_at", "ends_at"),
    FEW_SIZES,
    " ON CONFLICT (owner, name) DO UPDATE SET used = 0",
)
# By the index of their status: a project has many ended runs.
_project = unindexed(runs.c.project_id)
_UNFINISHED = (
    select(_project, func.count())
    .where(_project.in_(bindparam("projects", expanding=True)), IS_IN_FLIGHT)
    .group_by(_project)
)
_INSERT = (
    insert(runs)
    .values(created_at=DatabaseTime(), lease_until=DatabaseTime() + bindparam("lease", type_=BigInteger))
    .returning(runs.c.project_id, runs.c.id, runs.c.key)
)
# Rows and bytes of one statement. SQLite keeps the last values of each size, so there are few sizes; PostgreSQL takes
# no more than a gigabyte.
_SIZES = (64, 16, 4, 1)
_MOST_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class CreateRun(Write[Run | None]):
    """Insert a run; None when its project has too many.

    The new runs of a transaction are counted and inserted together. One by one, the requests of a project that sends
    hundreds at once would wait for each other until all are late.
    """

    rank: ClassVar[Rank] = Rank.RUNS

    request: RunRequest
    body: bytes
    page: Page | None
    owner: str | None
    lease_seconds: int
    most: int

    @property
    def rows(self) -> tuple[Row, ...]:
        """Name the row that is locked while a project's runs are counted."""
        return (Row("limit_counts", ("owner", "name"), (storable(self.request.project_id), _QUEUE)),)

    def undo(self, result: Run | None) -> TakeBackRun | None:
        return None if result is None else TakeBackRun(result.key, result.epoch)

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[Run | None]:
        unfinished = _lock_and_count(connection, {storable(write.request.project_id) for write in writes})
        made: list[Run | None] = [None] * len(writes)
        admitted: list[int] = []
        for number, write in enumerate(writes):
            project_id = storable(write.request.project_id)
            if unfinished[project_id] < write.most:
                unfinished[project_id] += 1
                admitted.append(number)
        keys = _insert(connection, [writes[number] for number in admitted])
        for number, key in zip(admitted, keys, strict=True):
            request, body = writes[number].request, writes[number].body
            made[number] = Run(key, 1, request, "queued", body, cancel_requested=False, waited=0)
        return made

    @property
    def columns(self) -> dict[str, Any]:
        """Return the columns of the row, without its times."""
        request = self.request
        return {
            "project_id": request.project_id,
            "id": request.id,
            "api_key_id": request.api_key_id,
            "status": "queued",
            "is_stored": request.is_stored,
            "is_streamed": request.is_streamed,
            "cancel_requested": False,
            "owner": self.owner,
            "epoch": 1,
            "lease": self.lease_seconds if self.owner else 0,
            "headers": orjson.dumps(request.headers),
            "request": request.body,
            "body": self.body,
            "is_beta": request.is_beta,
            "drawn": request.drawn,
            "model": request.model,
            "conversation_id": request.conversation_id,
        }


def _lock_and_count(connection: Connection, projects: set[str]) -> Counter[str]:
    """Count the unfinished runs of each project, under a lock against new ones to the end of the transaction.

    Another replica may insert a run of the same project, too. Before this the row exists only from the project's second
    run on.
    """
    named = sorted(projects)
    _LOCK.execute(connection, [(project_id, _QUEUE, 0, 0, FOREVER) for project_id in named])
    counted = connection.execute(_UNFINISHED, {"projects": named})
    return Counter({row[0]: row[1] for row in counted})


def _insert(connection: Connection, writes: Sequence[CreateRun]) -> Sequence[int]:
    """Insert these runs, each with the first page of its event log. Returns the keys of their rows."""
    keys: list[int] = []
    for part in _parts(writes):
        rows = connection.execute(_INSERT, [one.columns for one in part])
        by_id = {(project_id, response_id): key for project_id, response_id, key in rows}
        keys += [by_id[storable(one.request.project_id), storable(one.request.id)] for one in part]
    pages = [
        {"run_key": key, **page_columns(one.page)}
        for key, one in zip(keys, writes, strict=True)
        if one.page is not None
    ]
    if pages:
        connection.execute(insert(run_events), pages)
    return keys


def _parts(writes: Sequence[CreateRun]) -> Iterator[Sequence[CreateRun]]:
    """Split the runs, in their order, into as few statements as possible; a large run has its own."""
    start = 0
    while start < len(writes):
        part = next(part for size in _SIZES if _are_one_statement(part := writes[start : start + size], size))
        yield part
        start += len(part)


def _are_one_statement(writes: Sequence[CreateRun], size: int) -> bool:
    if len(writes) < size:
        return False
    return size == 1 or sum(len(one.request.body) + len(one.body) for one in writes) <= _MOST_BYTES
