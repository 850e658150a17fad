"""Change a run: start it, put it back, append events, end it, request its cancellation; each write checks the epoch."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from sqlalchemy import Connection, and_, case, delete, null, or_, select, update

from app.state.runs import ENDED, IN_FLIGHT, Page
from app.storage.conversations.turn_commit import SaveTurn
from app.storage.engine.clock import DatabaseTime
from app.storage.responses.store import SaveResponse
from app.storage.tables import insert_if_new, run_events, runs
from app.storage.writer.row_locks import Row, keyed
from app.storage.writer.writer import Rank, Write

T = TypeVar("T")

# Seconds for which a run to be cancelled stays with its owner, unless the owner renews its lease.
_CANCEL_SECONDS = 2

IS_IN_FLIGHT = runs.c.status.in_(sorted(IN_FLIGHT))
IS_KEPT = or_(runs.c.expires_at.is_(None), runs.c.expires_at > DatabaseTime())


class SingleWrite(Write[T]):
    """Make a change on its own: writes of this kind gain nothing from a common statement."""

    rank: ClassVar[Rank] = Rank.RUNS

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[T]:
        return [write.make(connection) for write in writes]

    @abstractmethod
    def make(self, connection: Connection) -> T:
        """Make the change and return its result."""


class RunChange(SingleWrite[T]):
    """Change one run, under the lock of its row."""

    key: int

    @property
    def rows(self) -> tuple[Row, ...]:
        return (keyed("runs", self.key),)


@dataclass(frozen=True, slots=True)
class TakeBackRun(RunChange[bool]):
    """Undo a run whose client was told that it was not created: delete it, or cancel it if it has begun."""

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
    """Mark an unfinished run as in progress, so that upstream may be asked. False when the epoch is over."""

    key: int
    epoch: int
    body: bytes

    def make(self, connection: Connection) -> bool:
        values = {"status": "in_progress", "body": self.body}
        return connection.execute(update(runs).where(*_ours(self.key, self.epoch)).values(values)).rowcount > 0


@dataclass(frozen=True, slots=True)
class PutBackRun(RunChange[bool]):
    """Restore an unfinished run as it was before it began, without its owner. False when the epoch is over.

    This ends the epoch: writes of the owner that come later change nothing.
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
    """Append a page to a run's event log. False when the epoch is over."""

    key: int
    epoch: int
    page: Page

    def make(self, connection: Connection) -> bool:
        # The run's row is locked: a take-over waits for this, or is seen here.
        ours = select(runs.c.key).where(*_ours(self.key, self.epoch))
        if connection.scalar(ours) is None:
            return False
        # The page exists already where an earlier commit was unheard.
        page = insert_if_new(run_events, connection.dialect).values(run_key=self.key, **page_columns(self.page))
        connection.execute(page)
        return True


@dataclass(frozen=True, slots=True)
class EndRun(RunChange[bool]):
    """End a run and save its turn, if any. False when the epoch is over."""

    rank: ClassVar[Rank] = Rank.TURNS

    key: int
    epoch: int
    status: str
    body: bytes
    keep_seconds: int
    turn: SaveResponse | SaveTurn | None

    @property
    def rows(self) -> tuple[Row, ...]:
        return (keyed("runs", self.key), *(() if self.turn is None else self.turn.rows))

    @property
    def unique_name(self) -> tuple[str, ...]:
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
    """Have a run end as cancelled: by any process, at once, before upstream was asked for it; else by its owner.

    A queued run is taken from its owner, which may be paused, dead, or waiting: under its epoch the run cannot begin
    any more. The owner of a run in progress has its events so far, and a moment to end it.
    """

    key: int

    def make(self, connection: Connection) -> None:
        # Once only: a repeated cancellation must not take the run from the process that ends it.
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


def page_columns(page: Page) -> dict[str, Any]:
    """Convert a page of the event log to the columns of its row, without the run's key."""
    return {"first_number": page.first, "last_number": page.last, "frames": page.frames}
