"""What is written of runs, each a change of its own. Must not know when or why."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from sqlalchemy import Connection, and_, case, delete, null, or_, select, update

from app.state.runs import ENDED, IN_FLIGHT, Page
from app.storage.clock import DatabaseTime
from app.storage.hold_store import SaveTurn
from app.storage.response_store import SaveResponse
from app.storage.row_locks import Row, keyed
from app.storage.tables import insert_if_new, run_events, runs
from app.storage.writer import Rank, Write

T = TypeVar("T")

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
        page = insert_if_new(run_events, connection.dialect).values(run_key=self.key, **page_columns(self.page))
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


def page_columns(page: Page) -> dict[str, Any]:
    """A page of a run's log as the columns of its row, without the run."""
    return {"first_number": page.first, "last_number": page.last, "frames": page.frames}
