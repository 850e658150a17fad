"""Insert new runs, all that one transaction has at once, and refuse those beyond their project's limit.

The limit is exact over all replicas: whoever counts a project's unfinished runs has locked a row for it before.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import orjson
from sqlalchemy import BigInteger, Connection, bindparam, func, insert, select

from app.state.limits import FOREVER
from app.state.runs import Order, Page, Run
from app.storage.clock import DatabaseTime
from app.storage.row_locks import Row
from app.storage.run_writes import IS_IN_FLIGHT, TakeBackRun, page_columns
from app.storage.statements import FEW_SIZES, Insertion, unindexed
from app.storage.storable import storable
from app.storage.tables import run_events, runs
from app.storage.writer import Rank, Write

# The lock on a project's unfinished runs, among the counts of its limits: it holds no count.
_QUEUE = "background_queue"
_LOCK = Insertion(
    "limit_counts",
    ("owner", "name", "used", "began_at", "ends_at"),
    FEW_SIZES,
    " ON CONFLICT (owner, name) DO UPDATE SET used = 0",
)
# By their status: those of the projects that have ended are many.
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
# What one statement inserts. SQLite holds what each size of it inserted last, so there are few, and PostgreSQL takes no
# more than a gigabyte.
_SIZES = (64, 16, 4, 1)
_MOST_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class CreateRun(Write[Run | None]):
    """A new run. None when its project has too many.

    Those of a transaction are counted and inserted together. One by one, the orders of a project that sends hundreds
    at once would wait for each other until the time of all is over.
    """

    rank: ClassVar[Rank] = Rank.RUNS

    order: Order
    body: bytes
    page: Page | None
    owner: str | None
    lease_seconds: int
    most: int

    @property
    def rows(self) -> tuple[Row, ...]:
        """Name the row that is locked while a project's runs are counted."""
        return (Row("limit_counts", ("owner", "name"), (storable(self.order.project_id), _QUEUE)),)

    def undo(self, result: Run | None) -> TakeBackRun | None:
        return None if result is None else TakeBackRun(result.key, result.epoch)

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[Run | None]:
        unfinished = _lock_and_count(connection, {storable(write.order.project_id) for write in writes})
        made: list[Run | None] = [None] * len(writes)
        admitted: list[int] = []
        for number, write in enumerate(writes):
            project_id = storable(write.order.project_id)
            if unfinished[project_id] < write.most:
                unfinished[project_id] += 1
                admitted.append(number)
        keys = _insert(connection, [writes[number] for number in admitted])
        for number, key in zip(admitted, keys, strict=True):
            order, body = writes[number].order, writes[number].body
            made[number] = Run(key, 1, order, "queued", body, cancel_requested=False, waited=0)
        return made

    @property
    def columns(self) -> dict[str, Any]:
        """The row, but for its times."""
        order = self.order
        return {
            "project_id": order.project_id,
            "id": order.id,
            "api_key_id": order.api_key_id,
            "status": "queued",
            "is_stored": order.is_stored,
            "is_streamed": order.is_streamed,
            "cancel_requested": False,
            "owner": self.owner,
            "epoch": 1,
            "lease": self.lease_seconds if self.owner else 0,
            "headers": orjson.dumps(order.headers),
            "request": order.request,
            "body": self.body,
            "is_beta": order.is_beta,
            "drawn": order.drawn,
            "model": order.model,
            "conversation_id": order.conversation_id,
        }


def _lock_and_count(connection: Connection, projects: set[str]) -> Counter[str]:
    """Count the unfinished runs of each of these projects, and let nobody add one before the transaction ends.

    Another replica may have an order of the same project, too. The row is there before this only from the project's
    second order on.
    """
    named = sorted(projects)
    _LOCK.execute(connection, [(project_id, _QUEUE, 0, 0, FOREVER) for project_id in named])
    counted = connection.execute(_UNFINISHED, {"projects": named})
    return Counter({row[0]: row[1] for row in counted})


def _insert(connection: Connection, orders: Sequence[CreateRun]) -> Sequence[int]:
    """Insert these, each with the beginning of its log. Returns the keys of their rows."""
    keys: list[int] = []
    for part in _parts(orders):
        rows = connection.execute(_INSERT, [order.columns for order in part])
        by_id = {(project_id, response_id): key for project_id, response_id, key in rows}
        keys += [by_id[storable(one.order.project_id), storable(one.order.id)] for one in part]
    pages = [
        {"run_key": key, **page_columns(one.page)}
        for key, one in zip(keys, orders, strict=True)
        if one.page is not None
    ]
    if pages:
        connection.execute(insert(run_events), pages)
    return keys


def _parts(orders: Sequence[CreateRun]) -> Iterator[Sequence[CreateRun]]:
    """The same in their order, as many to a statement as it takes; one that is larger than that has its own."""
    start = 0
    while start < len(orders):
        part = next(part for size in _SIZES if _are_one_statement(part := orders[start : start + size], size))
        yield part
        start += len(part)


def _are_one_statement(orders: Sequence[CreateRun], size: int) -> bool:
    if len(orders) < size:
        return False
    return size == 1 or sum(len(one.order.request) + len(one.body) for one in orders) <= _MOST_BYTES
