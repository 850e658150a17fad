"""Responses and their items: saved whole, read as chains, deleted with their content. Must not know HTTP."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar, Self

from sqlalchemy import bindparam, delete, exists, func, insert, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import StorageError
from app.state.records import Chain, Item, StoredResponse, Turn
from app.storage.database import Database
from app.storage.tables import insert_if_new, items, responses, storable
from app.storage.writer import Write, Writer

# Ids asked for in one statement; drivers limit its parameters.
_IDS_AT_ONCE = 1000

_ITEM_COLUMNS = (
    items.c.id,
    items.c.type,
    items.c.is_output,
    items.c.content,
    items.c.account,
    items.c.call_id,
)

_OWN = (
    responses.c.project_id == bindparam("project_id"),
    responses.c.id == bindparam("response_id"),
    responses.c.expires_at > bindparam("now"),
)

_tip = (
    select(
        responses.c.key, responses.c.parent_key, responses.c.status, responses.c.account, literal(0).label("distance")
    )
    .where(*_OWN)
    .cte("chain", recursive=True)
)
# Ancestors are not asked for their expiry: a chain expires as one.
_chain = _tip.union_all(
    select(responses.c.key, responses.c.parent_key, responses.c.status, responses.c.account, _tip.c.distance + 1).where(
        responses.c.key == _tip.c.parent_key, responses.c.project_id == bindparam("project_id")
    )
)
_READ_CHAIN = (
    select(_chain.c.key, _chain.c.parent_key, _chain.c.status, _chain.c.account.label("served_by"), *_ITEM_COLUMNS)
    .select_from(_chain.outerjoin(items, items.c.response_key == _chain.c.key))
    .order_by(_chain.c.distance.desc(), items.c.position)
)

_READ_BODY = select(responses.c.body).where(*_OWN)

_DELETE = delete(responses).where(*_OWN)

# Expired responses nobody continues, and upwards from each every expired ancestor that has no other child.
_child = responses.alias("child")
_leaves = (
    select(responses.c.key, responses.c.parent_key)
    .where(responses.c.expires_at <= bindparam("now"), ~exists().where(_child.c.parent_key == responses.c.key))
    .limit(bindparam("batch"))
    .subquery("leaves")
)
_leaf = select(_leaves.c.key, _leaves.c.parent_key).cte("doomed", recursive=True)
_doomed = _leaf.union_all(
    select(responses.c.key, responses.c.parent_key).where(
        responses.c.key == _leaf.c.parent_key,
        responses.c.expires_at <= bindparam("now"),
        ~exists().where(_child.c.parent_key == responses.c.key, _child.c.key != _leaf.c.key),
    )
)
# The recursion yields children before their parents, so that a batch never leaves a child without its parent.
_PURGE = (
    delete(responses)
    .where(responses.c.key.in_(select(_doomed.c.key).limit(bindparam("batch"))))
    # Counted by the rows that come back: sqlite3 counts none for a statement that starts with WITH.
    .returning(responses.c.key)
)


class ResponseStore:
    """What is kept of finished turns, per project. Times are unix seconds."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def save(self, response: StoredResponse) -> None:
        """Commit a turn. An id the project already has is a StorageError; the first response stays untouched."""
        if not await self._writer.submit(SaveResponse(response)):
            raise StorageError("A response with this id is already stored.", code="duplicate_response")

    async def read_chain(self, project_id: str, response_id: str, now: int) -> Chain | None:
        """The response and its ancestors, in one query. None when it is not there to see, or an ancestor is gone."""
        async with self._database.reading() as connection:
            result = await connection.execute(
                _READ_CHAIN, {"project_id": project_id, "response_id": response_id, "now": now}
            )
            rows: list[Any] = list(result)
        if not rows or rows[0].parent_key is not None:
            return None
        turns = []
        for _, turn in groupby(rows, key=lambda row: row.key):
            first, *rest = turn
            # A turn without items comes as one row that has no item.
            own = tuple(Item(*row[4:]) for row in (first, *rest) if row.id is not None)
            turns.append(Turn(first.status, first.served_by, own))
        return Chain(rows[-1].key, tuple(turns))

    async def read_items(self, project_id: str, item_ids: Collection[str], now: int) -> dict[str, Item]:
        """The items with these ids in the project's living responses; of several with one id, the newest."""
        wanted = list(item_ids)
        found: dict[str, Item] = {}
        async with self._database.reading() as connection:
            for start in range(0, len(wanted), _IDS_AT_ONCE):
                newest = (
                    select(func.max(items.c.key))
                    .join(responses, responses.c.key == items.c.response_key)
                    .where(
                        items.c.project_id == project_id,
                        items.c.id.in_(wanted[start : start + _IDS_AT_ONCE]),
                        responses.c.expires_at > now,
                    )
                    .group_by(items.c.id)
                )
                found_here = (
                    select(*_ITEM_COLUMNS, responses.c.account.label("served_by"))
                    .join(responses, responses.c.key == items.c.response_key)
                    .where(items.c.key.in_(newest))
                )
                for row in await connection.execute(found_here):
                    found[row.id] = Item(*row)
        return found

    async def read_body(self, project_id: str, response_id: str, now: int) -> bytes | None:
        """The response object as it was saved."""
        async with self._database.reading() as connection:
            result = await connection.execute(
                _READ_BODY, {"project_id": project_id, "response_id": response_id, "now": now}
            )
            body: bytes | None = result.scalar_one_or_none()
        return body

    async def delete(self, project_id: str, response_id: str, now: int) -> bool:
        """Remove the response and its items; False when the project has no such living response."""
        return await self._writer.submit(DeleteResponse(project_id, response_id, now))

    async def purge_expired(self, now: int, batch: int = 500) -> int:
        """Remove what has expired, `batch` responses per commit; return how many. One with a living heir stays."""
        purged = 0
        while removed := await self._writer.submit(PurgeExpired(now, batch)):
            purged += removed
        return purged


@dataclass(frozen=True, slots=True)
class SaveResponse(Write[bool]):
    """A turn and its items. False when the project already has the id."""

    response: StoredResponse

    @classmethod
    async def apply(cls, connection: AsyncConnection, writes: Sequence[Self]) -> list[bool]:
        first: dict[tuple[str, str], StoredResponse] = {}
        for write in writes:
            first.setdefault(_identity(write.response), write.response)
        inserted = await connection.execute(
            insert_if_new(responses, connection.dialect).returning(
                responses.c.project_id, responses.c.id, responses.c.key
            ),
            [_response_row(response) for response in first.values()],
        )
        keys = {(project_id, response_id): key for project_id, response_id, key in inserted}
        rows = [
            row
            for identity, response in first.items()
            if identity in keys
            for row in _item_rows(response, keys[identity])
        ]
        if rows:
            await connection.execute(insert(items), rows)
        return [
            (identity := _identity(write.response)) in keys and first[identity] is write.response for write in writes
        ]


@dataclass(frozen=True, slots=True)
class DeleteResponse(Write[bool]):
    """A response's removal; its items go with it. False when there was none to see."""

    erases: ClassVar[bool] = True

    project_id: str
    response_id: str
    now: int

    @classmethod
    async def apply(cls, connection: AsyncConnection, writes: Sequence[Self]) -> list[bool]:
        return [
            (
                await connection.execute(
                    _DELETE, {"project_id": write.project_id, "response_id": write.response_id, "now": write.now}
                )
            ).rowcount
            > 0
            for write in writes
        ]


@dataclass(frozen=True, slots=True)
class PurgeExpired(Write[int]):
    """The removal of up to `batch` expired responses; how many went."""

    erases: ClassVar[bool] = True

    now: int
    batch: int

    @classmethod
    async def apply(cls, connection: AsyncConnection, writes: Sequence[Self]) -> list[int]:
        return [
            len((await connection.execute(_PURGE, {"now": write.now, "batch": write.batch})).all()) for write in writes
        ]


def _identity(response: StoredResponse) -> tuple[str, str]:
    return storable(response.project_id), storable(response.id)


def _response_row(response: StoredResponse) -> dict[str, Any]:
    usage = response.usage
    return {
        "project_id": response.project_id,
        "id": response.id,
        "parent_key": response.parent_key,
        "api_key_id": response.api_key_id,
        "status": response.status,
        "model": response.model,
        "account": response.account,
        "created_at": response.created_at,
        "expires_at": response.expires_at,
        "input_tokens": usage and usage.input_tokens,
        "output_tokens": usage and usage.output_tokens,
        "total_tokens": usage and usage.total_tokens,
        "cached_tokens": usage and usage.cached_tokens,
        "reasoning_tokens": usage and usage.reasoning_tokens,
        "body": response.body,
    }


def _item_rows(response: StoredResponse, key: int) -> list[dict[str, Any]]:
    return [
        {
            "response_key": key,
            "project_id": response.project_id,
            "id": item.id,
            "position": position,
            "is_output": item.is_output,
            "type": item.type,
            "call_id": item.call_id,
            "account": item.account,
            "content": item.content,
        }
        for position, item in enumerate(response.items)
    ]
