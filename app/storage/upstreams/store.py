"""Read and change the upstreams, upstream keys and account controls that administrators made."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, Self

from sqlalchemy import Connection, delete, select, update

from app.ids import new_id
from app.state.account_conditions import Control
from app.state.upstreams import StoredKey, StoredUpstream, StoredUpstreams
from app.storage.engine.database import Database
from app.storage.tables import insert_if_new, meta
from app.storage.upstreams.tables import account_controls, upstream_keys, upstreams
from app.storage.writer.writer import Rank, Write, Writer

REVISION_NAME = "upstreams_revision"
"""The name of the revision in `meta`, which every change to these tables renews."""

_REVISION = select(meta.c.value).where(meta.c.name == REVISION_NAME)
_UPSTREAMS = select(upstreams.c.name, upstreams.c.version, upstreams.c.created_at, upstreams.c.settings).order_by(
    upstreams.c.created_at, upstreams.c.name
)
_KEYS = select(
    upstream_keys.c.id,
    upstream_keys.c.upstream,
    upstream_keys.c.account,
    upstream_keys.c.name,
    upstream_keys.c.hint,
    upstream_keys.c.created_at,
    upstream_keys.c.secret,
    upstream_keys.c.settings,
).order_by(upstream_keys.c.created_at, upstream_keys.c.id)
_CONTROLS = select(account_controls.c.account, account_controls.c.state)


class UpstreamStore:
    """Read the stored upstreams, keys and controls: they are few, and read all at once."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def read(self) -> StoredUpstreams:
        """Return all upstreams, keys and controls with their revision."""

        def read(connection: Connection) -> StoredUpstreams:
            # First: a change meanwhile makes another revision, and all is read again.
            revision: str | None = connection.scalar(_REVISION)
            return StoredUpstreams(
                revision,
                [StoredUpstream(*row) for row in connection.execute(_UPSTREAMS)],
                [StoredKey(*row) for row in connection.execute(_KEYS)],
                {row.account: row.state for row in connection.execute(_CONTROLS)},
            )

        return await self._database.read(read)

    async def reseal(self, secrets: Mapping[str, tuple[str, str]]) -> None:
        """Replace encrypted secrets by newly encrypted ones, by the key's id: (old, new)."""
        await self._writer.submit(Reseal(secrets))


@dataclass(frozen=True, slots=True)
class CreateUpstream(Write[bool]):
    """Insert an upstream; False when its name is taken."""

    rank: ClassVar[Rank] = Rank.UPSTREAMS
    is_apart: ClassVar[bool] = True

    upstream: StoredUpstream

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[bool]:
        statement = insert_if_new(upstreams, connection.dialect).returning(upstreams.c.name)
        made = [connection.scalar(statement, asdict(write.upstream)) is not None for write in writes]
        _renew_revision(connection)
        return made


@dataclass(frozen=True, slots=True)
class ChangeUpstream(Write[bool]):
    """Replace an upstream's settings; False when it is not at this version any more, or gone."""

    rank: ClassVar[Rank] = Rank.UPSTREAMS
    is_apart: ClassVar[bool] = True

    name: str
    version: int
    settings: bytes

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[bool]:
        changed = [
            connection.execute(
                update(upstreams)
                .where(upstreams.c.name == write.name, upstreams.c.version == write.version)
                .values(settings=write.settings, version=write.version + 1)
            ).rowcount
            > 0
            for write in writes
        ]
        _renew_revision(connection)
        return changed


@dataclass(frozen=True, slots=True)
class DeleteUpstream(Write[bool]):
    """Delete an upstream and its keys; False when there was none."""

    rank: ClassVar[Rank] = Rank.UPSTREAMS
    is_apart: ClassVar[bool] = True

    name: str

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[bool]:
        gone = []
        for write in writes:
            gone.append(connection.execute(delete(upstreams).where(upstreams.c.name == write.name)).rowcount > 0)
            if gone[-1]:
                own = select(upstream_keys.c.id).where(upstream_keys.c.upstream == write.name)
                connection.execute(own.order_by(upstream_keys.c.id).with_for_update())
                connection.execute(delete(upstream_keys).where(upstream_keys.c.upstream == write.name))
        _renew_revision(connection)
        return gone


@dataclass(frozen=True, slots=True)
class AddKey(Write[bool]):
    """Insert an upstream key; False when its upstream has it already, or another of this name."""

    rank: ClassVar[Rank] = Rank.UPSTREAMS
    is_apart: ClassVar[bool] = True

    key: StoredKey

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[bool]:
        statement = insert_if_new(upstream_keys, connection.dialect).returning(upstream_keys.c.id)
        made = [connection.scalar(statement, asdict(write.key)) is not None for write in writes]
        _renew_revision(connection)
        return made


@dataclass(frozen=True, slots=True)
class RemoveKey(Write[bool]):
    """Delete an upstream key; False when the upstream has none of this id."""

    rank: ClassVar[Rank] = Rank.UPSTREAMS
    is_apart: ClassVar[bool] = True

    upstream: str
    key_id: str

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[bool]:
        gone = [
            connection.execute(
                delete(upstream_keys).where(
                    upstream_keys.c.id == write.key_id, upstream_keys.c.upstream == write.upstream
                )
            ).rowcount
            > 0
            for write in writes
        ]
        _renew_revision(connection)
        return gone


@dataclass(frozen=True, slots=True)
class ControlAccount(Write[bool]):
    """Set an account's control; False when it was so before."""

    rank: ClassVar[Rank] = Rank.UPSTREAMS
    is_apart: ClassVar[bool] = True

    account: str
    state: Control

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[bool]:
        changed = []
        for write in writes:
            own = account_controls.c.account == write.account
            if write.state == "enabled":
                changed.append(connection.execute(delete(account_controls).where(own)).rowcount > 0)
                continue
            other = update(account_controls).where(own, account_controls.c.state != write.state)
            new = insert_if_new(account_controls, connection.dialect).returning(account_controls.c.account)
            is_new = connection.scalar(new, asdict(write)) is not None
            changed.append(is_new or connection.execute(other.values(state=write.state)).rowcount > 0)
        _renew_revision(connection)
        return changed


@dataclass(frozen=True, slots=True)
class Reseal(Write[None]):
    """Replace encrypted secrets after a change of the master secret; one that was replaced meanwhile stays."""

    rank: ClassVar[Rank] = Rank.UPSTREAMS
    is_apart: ClassVar[bool] = True

    secrets: Mapping[str, tuple[str, str]]

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        for write in writes:
            for key_id, (old, new) in sorted(write.secrets.items()):
                connection.execute(
                    update(upstream_keys)
                    .where(upstream_keys.c.id == key_id, upstream_keys.c.secret == old)
                    .values(secret=new)
                )
        return [None] * len(writes)


def _renew_revision(connection: Connection) -> None:
    # The row stays locked to the commit: a reader of the new value finds the change, too.
    revision = {"name": REVISION_NAME, "value": new_id("rev")}
    connection.execute(insert_if_new(meta, connection.dialect), revision)
    connection.execute(update(meta).where(meta.c.name == REVISION_NAME).values(value=revision["value"]))
