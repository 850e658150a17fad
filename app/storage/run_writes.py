"""What is written of runs, each a change of its own. Must not know when or why."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import orjson
from sqlalchemy import Connection, and_, case, delete, func, insert, null, or_, select, text, update

from app.state.limits import FOREVER
from app.state.runs import ENDED, IN_FLIGHT, Order, Page, Run
from app.storage.clock import DatabaseTime
from app.storage.hold_store import SaveTurn
from app.storage.response_store import SaveResponse
from app.storage.row_locks import Row, keyed
from app.storage.statements import unindexed
from app.storage.storable import storable
from app.storage.tables import insert_if_new, run_events, runs
from app.storage.writer import Rank, Write

T = TypeVar("T")

# The lock on a project's unfinished runs, among the counts of its limits.
_QUEUE = "background_queue"
_LOCK_QUEUE = text(
    "INSERT INTO limit_counts (owner, name, used, began_at, ends_at) VALUES (:owner, :name, 0, 0, :ends_at)"
    " ON CONFLICT (owner, name) DO UPDATE SET used = 0"
)

# How long the owner of a run that is to be cancelled has it still, unless it says that it lives.
_CANCEL_SECONDS = 2

IS_IN_FLIGHT = runs.c.status.in_(sorted(IN_FLIGHT))
IS_KEPT = or_(runs.c.expires_at.is_(None), runs.c.expires_at > DatabaseTime())


class SingleWrite(Write[T]):
    """A change that gains nothing from others of its kind beside it."""

    rank: ClassVar[Rank] = Rank.RUNS

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[T]:
        return [write.make(connection) for write in writes]

    @abstractmethod
    def make(self, connection: Connection) -> T:
        """Make this change, and return its result."""


class RunChange(SingleWrite[T]):
    """A change of one run."""

    key: int

    @property
    def rows(self) -> tuple[Row, ...]:
        """The run."""
        return (keyed("runs", self.key),)


@dataclass(frozen=True, slots=True)
class CreateRun(SingleWrite[Run | None]):
    """A new run. None when its project has too many."""

    order: Order
    body: bytes
    page: Page | None
    owner: str | None
    lease_seconds: int
    most: int

    @property
    def rows(self) -> tuple[Row, ...]:
        """What is locked while a project's runs are counted."""
        return (Row("limit_counts", ("owner", "name"), (storable(self.order.project_id), _QUEUE)),)

    def undo(self, result: Run | None) -> "TakeBackRun | None":
        return None if result is None else TakeBackRun(result.key, result.epoch)

    def make(self, connection: Connection) -> Run | None:
        order = self.order
        _lock_queue(connection, order.project_id)
        # By their status: those of the project that have ended are many.
        in_flight = select(func.count()).where(unindexed(runs.c.project_id) == order.project_id, IS_IN_FLIGHT)
        if (connection.scalar(in_flight) or 0) >= self.most:
            return None
        inserted = connection.execute(
            insert(runs).values(
                project_id=order.project_id,
                id=order.id,
                api_key_id=order.api_key_id,
                status="queued",
                is_stored=order.is_stored,
                is_streamed=order.is_streamed,
                cancel_requested=False,
                owner=self.owner,
                epoch=1,
                lease_until=DatabaseTime() + (self.lease_seconds if self.owner else 0),
                created_at=DatabaseTime(),
                headers=orjson.dumps(order.headers),
                request=order.request,
                body=self.body,
                is_beta=order.is_beta,
                drawn=order.drawn,
                model=order.model,
                conversation_id=order.conversation_id,
            )
        ).inserted_primary_key
        assert inserted is not None  # noqa: S101 - of one row it is known
        key: int = inserted[0]
        if self.page is not None:
            connection.execute(insert(run_events).values(run_key=key, **_columns(self.page)))
        return Run(key, 1, order, "queued", self.body, cancel_requested=False, waited=0)


def _lock_queue(connection: Connection, project_id: str) -> None:
    """Count and insert alone, to the end of the transaction: another replica may have an order of this project, too.

    The row is a lock and holds no count. It is there before this only from the project's second order on.
    """
    connection.execute(_LOCK_QUEUE, {"owner": storable(project_id), "name": _QUEUE, "ends_at": FOREVER})


@dataclass(frozen=True, slots=True)
class TakeBackRun(RunChange[bool]):
    """The removal of a run that its client was told not to have; one that was begun ends as cancelled."""

    erases: ClassVar[bool] = True

    key: int
    epoch: int

    def make(self, connection: Connection) -> bool:
        waits = (*_ours(self.key, self.epoch), runs.c.status == "queued")
        if connection.execute(delete(runs).where(*waits)).rowcount:
            return True
        RequestCancel(self.key).make(connection)
        return False


@dataclass(frozen=True, slots=True)
class StartRun(RunChange[bool]):
    """An unfinished run for which upstream may be asked. False when the epoch is over."""

    key: int
    epoch: int
    body: bytes

    def make(self, connection: Connection) -> bool:
        values = {"status": "in_progress", "body": self.body}
        return connection.execute(update(runs).where(*_ours(self.key, self.epoch)).values(values)).rowcount > 0


@dataclass(frozen=True, slots=True)
class PutBackRun(RunChange[bool]):
    """An unfinished run as it was before it was begun, without its owner. False when the epoch is over.

    It ends the epoch: whatever its owner has written that comes later than this changes nothing.
    """

    is_made_late: ClassVar[bool] = True

    key: int
    epoch: int
    status: str
    body: bytes
    pause_seconds: int

    def make(self, connection: Connection) -> bool:
        values = {
            "status": self.status,
            "body": self.body,
            "owner": None,
            "epoch": self.epoch + 1,
            "lease_until": DatabaseTime() + self.pause_seconds,
        }
        return connection.execute(update(runs).where(*_ours(self.key, self.epoch)).values(values)).rowcount > 0


@dataclass(frozen=True, slots=True)
class AppendEvents(RunChange[bool]):
    """A page of a run's log. False when the epoch is over."""

    key: int
    epoch: int
    page: Page

    def make(self, connection: Connection) -> bool:
        # What takes the run over changes its row, which is locked by now: it waits, or is seen.
        ours = select(runs.c.key).where(*_ours(self.key, self.epoch))
        if connection.scalar(ours) is None:
            return False
        # It is there already where an earlier commit was made and nobody heard of it.
        page = insert_if_new(run_events, connection.dialect).values(run_key=self.key, **_columns(self.page))
        connection.execute(page)
        return True


@dataclass(frozen=True, slots=True)
class EndRun(RunChange[bool]):
    """The end of a run, and the turn that it leaves. False when the epoch is over."""

    rank: ClassVar[Rank] = Rank.TURNS

    key: int
    epoch: int
    status: str
    body: bytes
    keep_seconds: int
    turn: SaveResponse | SaveTurn | None

    @property
    def rows(self) -> tuple[Row, ...]:
        """The run, and what its turn changes."""
        return (keyed("runs", self.key), *(() if self.turn is None else self.turn.rows))

    @property
    def unique_name(self) -> tuple[str, ...]:
        """The turn's."""
        return () if self.turn is None else self.turn.unique_name

    def make(self, connection: Connection) -> bool:
        ended = connection.execute(
            update(runs)
            .where(*_ours(self.key, self.epoch))
            .values(
                status=self.status,
                body=self.body,
                owner=None,
                request=None,
                expires_at=DatabaseTime() + self.keep_seconds,
            )
        ).rowcount
        if not ended:
            before = select(runs.c.key).where(
                runs.c.key == self.key, runs.c.epoch == self.epoch, runs.c.status.in_(sorted(ENDED))
            )
            return connection.scalar(before) is not None
        match self.turn:
            case SaveResponse():
                SaveResponse.apply(connection, [self.turn])
            case SaveTurn():
                SaveTurn.apply(connection, [self.turn])
        return True


@dataclass(frozen=True, slots=True)
class RequestCancel(RunChange[None]):
    """Have a run end as cancelled: by anybody, at once, while upstream was not asked for it; else by its owner.

    A queued run is taken from its owner, who may be paused or dead, or wait for what the run waits for: under the epoch
    that it had it cannot begin any more. The owner of one that was begun has what was said, and a moment to end it.
    """

    key: int

    def make(self, connection: Connection) -> None:
        # Once: who cancels again and again must not take it from those who end it.
        is_taken = and_(runs.c.status == "queued", ~runs.c.cancel_requested)
        soon = DatabaseTime() + _CANCEL_SECONDS
        until = case(
            (or_(is_taken, runs.c.owner.is_(None)), DatabaseTime()),
            (runs.c.lease_until > soon, soon),
            else_=runs.c.lease_until,
        )
        values = {
            "cancel_requested": True,
            "owner": case((is_taken, null()), else_=runs.c.owner),
            "epoch": runs.c.epoch + case((is_taken, 1), else_=0),
            "lease_until": until,
        }
        connection.execute(update(runs).where(runs.c.key == self.key, IS_IN_FLIGHT).values(values))


def _ours(key: int, epoch: int) -> tuple[Any, ...]:
    return runs.c.key == key, runs.c.epoch == epoch, IS_IN_FLIGHT


def _columns(page: Page) -> dict[str, Any]:
    return {"first_number": page.first, "last_number": page.last, "frames": page.frames}
