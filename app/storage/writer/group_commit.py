"""Commit a group of writes in a writing thread, so that a bad write fails nobody but itself.

Writes that are withdrawn meanwhile are left out, up to the moment before COMMIT (ADR 35).
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, compress, groupby
from typing import Any

import structlog
from sqlalchemy import Connection

from app.errors import StorageError, forget_frames
from app.storage.engine.database import is_contended, is_outage
from app.storage.engine.session import Session
from app.storage.writer.row_locks import lock
from app.storage.writer.write_queue import Pending, WriteQueue

_log = structlog.get_logger("antiphon.writer")


def commit(group: Sequence[Pending], session: Session, *, waits: bool) -> list[Any]:
    """Commit the group; when a statement fails, commit each half of it, until a bad write fails only itself.

    Returns the result of each write, the StorageError that it failed with, BUSY or WITHDRAWN. Runs in a writing thread.
    """
    results: list[Any] = []
    left = [group]
    while left:
        part = left.pop()
        try:
            results += _transact(part, session, waits=waits)
        except Exception as error:  # noqa: BLE001 (whatever a write raises is its caller's)
            # The error refers to this frame, and by it to all that was to be written.
            forget_frames(error)
            if is_contended(error) or (len(part) == 1 and not is_outage(error)):
                results += _failed(part, error)
            elif is_outage(error):
                # The database is down for all that are left: try once, not once per write.
                return results + _failed([*part, *chain.from_iterable(reversed(left))], error)
            else:
                half = len(part) // 2
                left += [part[half:], part[:half]]
    return results


def _transact(group: Sequence[Pending], session: Session, *, waits: bool) -> list[Any]:
    """Make the writes that are not withdrawn in one transaction; return the results of the whole group.

    Raises the error that rolled it back.
    """
    while True:
        wanted = [pending for pending in group if not pending.is_withdrawn]
        if not wanted:
            return [WriteQueue.WITHDRAWN] * len(group)
        writes = [pending.write for pending in wanted]
        try:
            results = _make(writes, session, partial(_begin_commit, group, len(writes)), waits=waits)
        except _WithdrawnError:
            continue
        if len(wanted) == len(group):
            return results
        made = dict(zip(map(id, wanted), results, strict=True))
        return [made.get(id(pending), WriteQueue.WITHDRAWN) for pending in group]


class _WithdrawnError(Exception):
    """Roll back a transaction because one of its writes was withdrawn: the others are made again without it."""


def _begin_commit(group: Sequence[Pending], count: int) -> None:
    """Mark the group as being committed. Raises _WithdrawnError where fewer than the `count` made writes are wanted."""
    wanted = 0
    for pending in group:
        pending.is_committing = True
        wanted += not pending.is_withdrawn
    if wanted < count:
        raise _WithdrawnError


def _make(writes: Sequence[Any], session: Session, begin_commit: Callable[[], None], *, waits: bool) -> list[Any]:
    """Make and commit these writes, and return their results; or raise the error that rolled them back."""

    def apply(connection: Connection) -> list[Any]:
        are_ours = _lock(connection, writes, waits=waits) if session.locks_rows else None
        ready = writes if are_ours is None else list(compress(writes, are_ours))
        runs = [list(run) for _, run in groupby(ready, key=type)]
        results = chain.from_iterable(run[0].apply(connection, run) for run in runs)
        if are_ours is None:
            return list(results)
        return [next(results) if is_ours else WriteQueue.BUSY for is_ours in are_ours]

    first = writes[0]
    is_one_kind = len(set(map(type, writes))) == 1
    is_one_statement = is_one_kind and first.are_one_statement(writes)
    results = session.write(apply, begin_commit, is_one_statement=is_one_statement)
    erasing = [write for write, result in zip(writes, results, strict=True) if write.erases and result]
    if erasing:
        session.erase_log(later=all(write.erases_later for write in erasing))
    return results


def _lock(connection: Connection, writes: Sequence[Any], *, waits: bool) -> Sequence[bool] | None:
    """Lock the rows of these writes; return for each whether all its rows are locked, None where all may be made."""
    rows = [write.rows for write in writes]
    if not any(rows):
        return None
    ours = lock(connection, chain.from_iterable(rows), waits=waits)
    return None if waits else [all(row in ours for row in own) for own in rows]


def _failed(group: Sequence[Pending], error: Exception) -> list[Any]:
    if isinstance(error, StorageError):
        return [error] * len(group)
    if is_contended(error):
        return [WriteQueue.BUSY] * len(group)
    # Log the class alone: a driver's text can quote the row.
    _log.warning("writes failed", count=len(group), error=type(error).__name__)
    failures = [StorageError("The database could not keep this. Try again in a moment.") for _ in group]
    for failure in failures:
        failure.__cause__ = error
    return failures
