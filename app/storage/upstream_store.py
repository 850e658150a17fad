"""Upstreams and keys that administrators made, and what they made of accounts. Must not know what settings mean."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, Self

from sqlalchemy import Connection, delete, select, update

from app.ids import new_id
from app.state.health import Control
from app.state.upstreams import Stored, StoredKey, StoredUpstream
from app.storage.database import Database
from app.storage.tables import insert_if_new, meta
from app.storage.upstream_tables import account_controls, upstream_keys, upstreams
from app.storage.writer import Rank, Write, Writer

REVISION_NAME = "upstreams_revision"
"""The name under which `meta` has what every change to these tables makes anew."""

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
    """What is stored of the pool's make-up: little, and read whole."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def read(self) -> Stored:
        """Everything."""

        def read(connection: Connection) -> Stored:
            # First: what is changed meanwhile makes another revision, and is read again.
            revision: str | None = connection.scalar(_REVISION)
            return Stored(
                revision,
                [StoredUpstream(*row) for row in connection.execute(_UPSTREAMS)],
                [StoredKey(*row) for row in connection.execute(_KEYS)],
                {row.account: row.state for row in connection.execute(_CONTROLS)},
            )

        return await self._database.read(read)

    async def reseal(self, secrets: Mapping[str, tuple[str, str]]) -> None:
        """Put newly sealed secrets in place of those that were read, by the key's id: (old, new)."""
        await self._writer.submit(Reseal(secrets))


@dataclass(frozen=True, slots=True)
class CreateUpstream(Write[bool]):
    """A new upstream. False when its name is taken."""

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
    """New settings for an upstream. False when it is not at this version any more, or gone."""

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
    """An upstream's end, and that of its keys. False when there was none."""

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
    """A new key. False when its upstream has it already, or another of this name."""

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
    """A key's end. False when the upstream has none of this id."""

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
    """What an administrator makes of an account. False when it was so before."""

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
    """The same secrets under another key. One that was resealed meanwhile stays as it is."""

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
    # The row's lock lasts to the commit: whoever reads the new value finds what was changed with it.
    revision = {"name": REVISION_NAME, "value": new_id("rev")}
    connection.execute(insert_if_new(meta, connection.dialect), revision)
    connection.execute(update(meta).where(meta.c.name == REVISION_NAME).values(value=revision["value"]))
