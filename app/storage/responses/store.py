"""Save responses with their items, read them as chains, extend and delete them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, ClassVar, Self

import msgspec
import orjson
from msgspec.structs import replace
from sqlalchemy import BigInteger, Connection, bindparam, case, delete, func, select, update

from app.errors import StorageError
from app.runtime.byte_budget import Reserve, reserve_nothing
from app.runtime.compute_thread import ComputeThread
from app.state.items.turn_packing import pack
from app.state.records import Chain, Item, StoredResponse
from app.storage.engine.clock import DatabaseTime
from app.storage.engine.database import Database, is_conflict
from app.storage.engine.statements import MOST_ROWS, Insertion, Query, unindexed
from app.storage.engine.storable_text import LONGEST_ID, storable, storable_id
from app.storage.responses.chain_reads import read_chain
from app.storage.responses.expiry import GRACE_SECONDS, remove
from app.storage.responses.items_by_id import read_items
from app.storage.tables import responses
from app.storage.turns import insert_view
from app.storage.writer.row_locks import Row, named
from app.storage.writer.writer import Rank, Write, Writer

DUPLICATE_RESPONSE = "duplicate_response"
"""The code of the error for a second response with an id that the project has."""

_IDENTITY = (responses.c.project_id == bindparam("project_id"), responses.c.id == bindparam("response_id"))
_OWN = (*_IDENTITY, unindexed(responses.c.expires_at) > bindparam("now"))

_READ_ACCOUNT = Query(select(responses.c.account).where(*_OWN))
_length = func.length(responses.c.body)
_READ_BODY = Query(select(_length, case((_length <= bindparam("most"), responses.c.body))).where(*_OWN))

_LARGE_BYTES = 64 * 1024
# Their positions in a row of `_INSERT`.
_CONTENT, _BODY = -3, -2

_COUNTS = ("input_tokens", "output_tokens", "total_tokens", "cached_tokens", "reasoning_tokens")
_COUNTS_OF = attrgetter(*_COUNTS)

_INSERT = Insertion(
    "turns", [*(column.name for column in responses.columns if column is not responses.c.key), insert_view.ITEM_IDS]
)

# An expired response exists as long as others continue it, and can be deleted before.
_FIND = select(responses.c.key, responses.c.parent_key).where(*_IDENTITY)
_DELETE = delete(responses).where(responses.c.key == bindparam("own_key"))
_MOST_ANCESTORS = 100

_NEAR_ITS_END = select(responses.c.key).where(
    responses.c.key.in_(bindparam("keys", expanding=True)),
    responses.c.expires_at < DatabaseTime() + bindparam("least", type_=BigInteger),
)
_EXTEND = update(responses).where(responses.c.key.in_(bindparam("keys", expanding=True)))
_KEYS_AT_ONCE = 1000


class ResponseStore:
    """Store the finished turns of all projects. Times are unix seconds, by this process's clock."""

    def __init__(self, database: Database, writer: Writer, compute_thread: ComputeThread) -> None:
        self._database = database
        self._writer = writer
        self._compute_thread = compute_thread

    async def save(self, response: StoredResponse) -> None:
        """Commit a turn. Raises StorageError for an id that the project already has; the first response stays."""
        write = (
            await self._compute_thread.run(response.size, SaveResponse.of, response)
            if response.is_large
            else SaveResponse.of(response)
        )
        await self._writer.submit(write)

    async def read_chain(
        self, project_id: str, response_id: str, now: int, reserve: Reserve = reserve_nothing
    ) -> Chain | None:
        """Return the response and its ancestors by one query; None when it is expired or unknown, or an ancestor gone.

        `reserve` is called before much is read, here and below.
        """
        own = _own(project_id, response_id, self._database.clock.of(now))
        return await self._database.read_within(lambda connection, most: read_chain(connection, own, most), reserve)

    async def read_items(
        self, project_id: str, item_ids: Collection[str], now: int, reserve: Reserve = reserve_nothing
    ) -> dict[str, Item]:
        """Return the items with these ids in the project's living responses; of several with one id, the newest."""
        wanted, by_database = list(item_ids), self._database.clock.of(now)
        return await self._database.read_within(
            lambda connection, most: read_items(connection, project_id, wanted, by_database, most), reserve
        )

    async def read_body(
        self, project_id: str, response_id: str, now: int, reserve: Reserve = reserve_nothing
    ) -> bytes | None:
        """Return the response object as it was saved."""
        own = _own(project_id, response_id, self._database.clock.of(now))
        return await self._database.read_within(lambda connection, most: _read_body(connection, own, most), reserve)

    async def read_account(self, project_id: str, response_id: str, now: int) -> str | None:
        """Return the account that served the response."""
        own = _own(project_id, response_id, self._database.clock.of(now))
        rows = await self._database.read(lambda connection: _READ_ACCOUNT.fetch(connection, own))
        return rows[0][0] if rows else None

    async def delete(self, project_id: str, response_id: str, now: int) -> bool:
        """Remove the response and its items, and its expired ancestors that no other response continues.

        False when the project has none of this id.
        """
        return await self._writer.submit(DeleteResponse(project_id, response_id, self._database.clock.of(now)))

    async def keep(self, keys: Collection[int], *, least: int, seconds: int) -> None:
        """Extend these responses to `seconds` from now where they have less than `least` left.

        Where all have more, as nearly always, nothing is written.
        """
        wanted = sorted(keys)
        for start in range(0, len(wanted), _KEYS_AT_ONCE):
            given = {"keys": wanted[start : start + _KEYS_AT_ONCE], "least": least}
            near = await self._database.read(partial(_near_their_end, given))
            if near:
                await self._writer.submit(ExtendResponses(near, least, seconds))


@dataclass(slots=True)
class SaveResponse(Write[None]):
    """Insert a turn as a row of `turns`. Raises StorageError when the project already has the id."""

    rank: ClassVar[Rank] = Rank.TURNS
    most_in_a_statement: ClassVar[int] = MOST_ROWS

    identity: tuple[str, str]
    row: tuple[Any, ...]
    is_large: bool
    """Whether its content or its response object is large.

    SQLite keeps the values bound to a statement until its next execution. So a large turn goes in by the statement for
    one row, which the next turn uses; that for many rows may not be needed for days.
    """

    @property
    def unique_name(self) -> tuple[str, str]:
        """Return the project and the response's id, which upstream gave."""
        return self.identity

    @classmethod
    def are_one_statement(cls, writes: Sequence[Self]) -> bool:
        return len(writes) == 1 or (len(writes) <= MOST_ROWS and not any(write.is_large for write in writes))

    @classmethod
    def of(cls, response: StoredResponse) -> Self:
        """Make the row of this response outside the writing thread, which is the bottleneck."""
        identity = response.project_id, storable_id(response.id)
        row = _row(response, identity, [_storable_item(item) for item in response.items])
        return cls(identity, row, len(row[_CONTENT]) + len(row[_BODY]) > _LARGE_BYTES)

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        try:
            for some in _batches(writes):
                _INSERT.execute(connection, [write.row for write in some])
                if some[0].is_large:
                    _INSERT.unbind(connection)
        except Exception as error:
            if not is_conflict(error):
                raise
            raise StorageError("A response with this id is already stored.", code=DUPLICATE_RESPONSE) from error
        return [None] * len(writes)


@dataclass(frozen=True, slots=True)
class DeleteResponse(Write[bool]):
    """Delete a response with its items; False when there was none."""

    rank: ClassVar[Rank] = Rank.REMOVALS
    erases: ClassVar[bool] = True

    project_id: str
    response_id: str
    now: int

    @property
    def rows(self) -> tuple[Row, ...]:
        return (named("responses", self.project_id, self.response_id),)

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[bool]:
        return [_remove(connection, write) for write in writes]


def _remove(connection: Connection, write: DeleteResponse) -> bool:
    own = {"project_id": storable(write.project_id), "response_id": storable(write.response_id)}
    row = connection.execute(_FIND, own).one_or_none()
    if row is None:
        return False
    connection.execute(_DELETE, {"own_key": row.key})
    if row.parent_key is not None:
        # Expired ancestors that were kept only for this response go with it.
        remove(connection, [row.parent_key], write.now - GRACE_SECONDS, _MOST_ANCESTORS)
    return True


@dataclass(frozen=True, slots=True)
class ExtendResponses(Write[None]):
    """Extend those of these responses that have less than `least` seconds left."""

    rank: ClassVar[Rank] = Rank.REMOVALS
    is_apart: ClassVar[bool] = True

    keys: tuple[int, ...]
    least: int
    seconds: int

    @classmethod
    def apply(cls, connection: Connection, writes: Sequence[Self]) -> list[None]:
        for write in writes:
            # Wait for a row that is being removed: the update must not bring it back.
            locked = _NEAR_ITS_END.order_by(responses.c.key).with_for_update()
            keys = connection.scalars(locked, {"keys": write.keys, "least": write.least}).all()
            if keys:
                connection.execute(_EXTEND.values(expires_at=DatabaseTime() + write.seconds), {"keys": keys})
        return [None] * len(writes)


def _read_body(connection: Connection, own: Mapping[str, Any], most: int) -> tuple[int, bytes | None]:
    """Return the length of a response object, and the object if that is up to `most`; (0, None) without one."""
    rows = _READ_BODY.fetch(connection, {**own, "most": most})
    return (rows[0][0], rows[0][1]) if rows else (0, None)


def _near_their_end(given: Mapping[str, Any], connection: Connection) -> tuple[int, ...]:
    return tuple(connection.scalars(_NEAR_ITS_END, given).all())


def _batches(writes: Sequence[SaveResponse]) -> Iterator[Sequence[SaveResponse]]:
    """Split the writes into those of one statement each, in their order: a large write alone."""
    start = 0
    for place, write in enumerate(writes):
        if write.is_large:
            yield from (each for each in (writes[start:place], [write]) if each)
            start = place + 1
    if start < len(writes):
        yield writes[start:]


def _own(project_id: str, response_id: str, now: int) -> Mapping[str, Any]:
    return {"project_id": storable(project_id), "response_id": storable_id(response_id), "now": now}


def _row(response: StoredResponse, identity: tuple[str, str], items: Sequence[Item]) -> tuple[Any, ...]:
    """Return the values in the order of `_INSERT`. The gateway's own, or the database's, are storable already."""
    usage = response.usage
    counts = (None,) * len(_COUNTS) if usage is None else _COUNTS_OF(usage)
    turn = pack(response.status, response.account, items)
    return (
        *identity,
        response.parent_key,
        response.api_key_id,
        response.status,
        storable(response.model),
        response.account,
        response.created_at,
        response.expires_at,
        *counts,
        msgspec.msgpack.encode(turn.outline),
        turn.content,
        response.body,
        orjson.dumps(_indexed(turn.outline.ids)).decode(),
    )


def _indexed(ids: Sequence[str]) -> Sequence[str]:
    """Return these item ids in the form they are looked up by."""
    if not ids or max(map(len, ids)) <= LONGEST_ID:
        return ids
    return [storable_id(item_id) for item_id in ids]


def _storable_item(item: Item) -> Item:
    names = f"{item.id}{item.type}{item.call_id}"
    if storable(names) is names:
        return item
    called = item.call_id and storable(item.call_id)
    return replace(item, id=storable(item.id), type=storable(item.type), call_id=called)
