"""Change idempotency keys: claim, finish, forget, renew, erase answers, purge; each a write of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson
from sqlalchemy import ColumnElement, Connection, and_, delete, or_, select, text, union_all, update

from app.errors import StorageError
from app.state.idempotency import Answer, KeyedCall, KeyedRequest, RawHeader
from app.storage.engine.clock import DatabaseMilliseconds, DatabaseTime
from app.storage.engine.storable_text import storable
from app.storage.idempotency.tables import idempotency_keys
from app.storage.limits.tables import limit_counts
from app.storage.runs.writes import SingleWrite
from app.storage.tables import conversations, insert_if_new, responses, runs
from app.storage.writer.row_locks import Row
from app.storage.writer.writer import Rank

KEEP_SECONDS = 86_400
"""Seconds for which a key and its answer are kept, from the call on."""

_OWNERS_AT_ONCE = 500
# The names in `limit_counts` of a project's used keys and bytes, in a window of KEEP_SECONDS: at most twice as much is
# ever kept.
_KEYS, _BYTES = "idempotency_keys", "idempotency_bytes"
_COUNT = text(
    "INSERT INTO limit_counts (owner, name, used, began_at, ends_at) VALUES (:owner, :name, :amount, :now, :end)"
    " ON CONFLICT (owner, name) DO UPDATE SET"
    " used = CASE WHEN limit_counts.ends_at > :now THEN limit_counts.used ELSE 0 END + excluded.used,"
    " began_at = CASE WHEN limit_counts.ends_at > :now THEN limit_counts.began_at ELSE excluded.began_at END,"
    " ends_at = CASE WHEN limit_counts.ends_at > :now THEN limit_counts.ends_at ELSE excluded.ends_at END"
    " RETURNING used"
)
_C = idempotency_keys.c
_LIVES = and_(_C.expires_at > DatabaseTime(), or_(_C.status.is_not(None), _C.lease_until > DatabaseTime()))
_SHOWN = (
    _C.key,
    _C.fingerprint,
    _C.owner,
    _C.status,
    _C.headers,
    _C.object_id,
    _C.is_logged,
    _C.body.is_not(None).label("is_kept"),
)


class _KeyWrite(SingleWrite[Any]):
    """Change idempotency keys, in their place of a transaction."""

    rank: ClassVar[Rank] = Rank.IDEMPOTENCY


@dataclass(frozen=True, slots=True)
class ClaimKey(_KeyWrite):
    """Claim a key for this owner: True; False when its project has too many; or the call that has it."""

    request: KeyedRequest
    owner: str
    lease_seconds: int
    most: int

    @property
    def rows(self) -> tuple[Row, ...]:
        """Name the count of the project's keys, whose lock makes its claims go one after the other."""
        return (_counted(self.request, _KEYS),)

    @property
    def unique_name(self) -> tuple[str, ...]:
        return self.request.project_id, self.request.api_key_id, self.request.name

    def undo(self, result: Any) -> "ForgetKey | None":
        return ForgetKey(self.request, self.owner) if result is True else None

    def make(self, connection: Connection) -> KeyedCall | bool:
        request = self.request
        found = find(connection, request)
        if found is not None:
            return found
        if _count(connection, request.project_id, _KEYS, 1) > self.most:
            return False
        connection.execute(delete(idempotency_keys).where(*_named(request), ~_LIVES))
        claim = insert_if_new(idempotency_keys, connection.dialect).values(
            project_id=request.project_id,
            api_key_id=request.api_key_id,
            name=request.name,
            fingerprint=request.fingerprint,
            expires_at=DatabaseTime() + KEEP_SECONDS,
            owner=self.owner,
            lease_until=DatabaseTime() + self.lease_seconds,
        )
        if connection.scalar(claim.returning(_C.key)) is not None:
            return True
        found = find(connection, request)
        if found is None:
            raise StorageError("The idempotency key is being used by another call. Try again in a moment.")
        return found


@dataclass(frozen=True, slots=True)
class FinishKey(_KeyWrite):
    """Keep the answer of the call that has the key."""

    request: KeyedRequest
    owner: str
    answer: Answer
    most_bytes: int

    @property
    def rows(self) -> tuple[Row, ...]:
        """Name the project's count, and the key."""
        return _counted(self.request, _KEYS), _row(self.request)

    def make(self, connection: Connection) -> None:
        answer = self.answer
        kept: dict[str, bytes | None] = {"headers": None, "body": None}
        if answer.body is not None and self._may_keep(connection, answer, len(answer.body)):
            kept = {"headers": _packed(answer.headers), "body": answer.body}
        finished = update(idempotency_keys).where(*_named(self.request), _C.owner == self.owner)
        connection.execute(
            finished.values(
                owner=None,
                lease_until=None,
                status=answer.status,
                object_id=answer.object_id,
                is_logged=answer.is_logged,
                **kept,
            )
        )

    def _may_keep(self, connection: Connection, answer: Answer, size: int) -> bool:
        project_id = self.request.project_id
        if answer.object_id is not None and not _is_there(connection, project_id, answer.object_id):
            return False
        if _used(connection, project_id, _BYTES) + size > self.most_bytes:
            return False
        _count(connection, project_id, _BYTES, size)
        return True


@dataclass(frozen=True, slots=True)
class ForgetKey(_KeyWrite):
    """Delete a claim that has no answer."""

    request: KeyedRequest
    owner: str

    @property
    def rows(self) -> tuple[Row, ...]:
        return (_row(self.request),)

    def make(self, connection: Connection) -> None:
        connection.execute(delete(idempotency_keys).where(*_named(self.request), _C.owner == self.owner))


@dataclass(frozen=True, slots=True)
class RenewKeys(_KeyWrite):
    """Extend the leases of these owners."""

    is_apart: ClassVar[bool] = True

    owners: tuple[str, ...]
    lease_seconds: int

    def make(self, connection: Connection) -> None:
        for start in range(0, len(self.owners), _OWNERS_AT_ONCE):
            own = _C.owner.in_(self.owners[start : start + _OWNERS_AT_ONCE])
            keys = connection.scalars(select(_C.key).where(own).order_by(_C.key).with_for_update()).all()
            renewed = update(idempotency_keys).where(_C.key.in_(keys), _C.owner.is_not(None))
            connection.execute(renewed.values(lease_until=DatabaseTime() + self.lease_seconds))


@dataclass(frozen=True, slots=True)
class EraseAnswers(_KeyWrite):
    """Remove the answers that show a response or a conversation; the keys stay used. The result is how many."""

    is_apart: ClassVar[bool] = True
    erases: ClassVar[bool] = True

    project_id: str
    object_id: str

    def make(self, connection: Connection) -> int:
        shown = select(_C.key).where(*shows(self.project_id, self.object_id)).order_by(_C.key).with_for_update()
        keys = connection.scalars(shown).all()
        connection.execute(update(idempotency_keys).where(_C.key.in_(keys)).values(headers=None, body=None))
        return len(keys)


@dataclass(frozen=True, slots=True)
class PurgeKeys(_KeyWrite):
    """Delete up to `batch` expired keys; the result is how many."""

    is_apart: ClassVar[bool] = True
    erases: ClassVar[bool] = True
    erases_later: ClassVar[bool] = True

    batch: int

    def make(self, connection: Connection) -> int:
        old = select(_C.key).where(_C.expires_at <= DatabaseTime()).limit(self.batch).with_for_update(skip_locked=True)
        return connection.execute(delete(idempotency_keys).where(_C.key.in_(old))).rowcount


def find(connection: Connection, request: KeyedRequest) -> KeyedCall | None:
    """Return the call that has this key, and is alive or has ended."""
    row = connection.execute(select(*_SHOWN).where(*_named(request), _LIVES)).one_or_none()
    if row is None:
        return None
    key, fingerprint, owner, status, headers, object_id, is_logged, is_kept = row
    return KeyedCall(key, fingerprint, owner, status, _unpacked(headers), object_id, is_logged, is_kept)


def shows(project_id: str, object_id: str) -> Sequence[ColumnElement[bool]]:
    """Return the condition for kept answers that show this object."""
    return _C.project_id == project_id, _C.object_id == object_id, _C.body.is_not(None)


def _named(request: KeyedRequest) -> Sequence[ColumnElement[bool]]:
    return (
        _C.project_id == request.project_id,
        _C.api_key_id == request.api_key_id,
        _C.name == request.name,
    )


def _unpacked(headers: bytes | None) -> Sequence[RawHeader]:
    pairs = orjson.loads(headers) if headers else ()
    return tuple([(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs])


def _row(request: KeyedRequest) -> Row:
    values = (storable(request.project_id), storable(request.api_key_id), request.name)
    return Row("idempotency_keys", ("project_id", "api_key_id", "name"), values)


def _counted(request: KeyedRequest, name: str) -> Row:
    return Row("limit_counts", ("owner", "name"), (storable(request.project_id), name))


def _is_there(connection: Connection, project_id: str, object_id: str) -> bool:
    tables = (responses, runs, conversations)
    found = [select(table.c.key).where(table.c.project_id == project_id, table.c.id == object_id) for table in tables]
    return connection.execute(union_all(*found).limit(1)).first() is not None


def _used(connection: Connection, project_id: str, name: str) -> int:
    own = (limit_counts.c.owner == project_id, limit_counts.c.name == name)
    used = select(limit_counts.c.used).where(*own, limit_counts.c.ends_at > DatabaseMilliseconds())
    return connection.scalar(used) or 0


def _count(connection: Connection, project_id: str, name: str, amount: int) -> int:
    """Add to what the project has used; return what it has used then."""
    now: int = connection.execute(select(DatabaseMilliseconds())).scalar_one()
    window = {"now": now, "end": now + KEEP_SECONDS * 1000}
    counted = connection.execute(_COUNT, {"owner": storable(project_id), "name": name, "amount": amount, **window})
    used: int = counted.scalar_one()
    return used


def _packed(headers: Sequence[RawHeader]) -> bytes:
    return orjson.dumps([(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers])
