"""Find the runs that can begin now, the first of each project, without reading their requests.

A run waits for the end of its pause, for earlier runs in its conversation, for its conversation's lock, and for a model
whose accounts are all in cooldown.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    bindparam,
    exists,
    func,
    or_,
    select,
)

from app.state.runs import ReadyRun
from app.storage.engine.clock import DatabaseTime
from app.storage.engine.statements import unindexed
from app.storage.tables import conversations, runs


def ready_runs(
    connection: Connection, resting: Collection[str], wait_seconds: int, left_out: Collection[str]
) -> Sequence[ReadyRun]:
    """Return the oldest run of each project that can begin now, except for the projects of `left_out`.

    Runs of `resting` models and of locked conversations cannot, unless they have waited for `wait_seconds`: then they
    are to be ended.
    """
    given = {"resting": sorted(resting), "wait_seconds": wait_seconds, "left_out": sorted(left_out)}
    found = [(project_id, key) for project_id, key in connection.execute(_FIND, given) if key is not None]
    if not found:
        return []
    running = Counter(connection.scalars(_RUNNING))
    return [ReadyRun(project_id, key, running[project_id]) for project_id, key in found]


def _find() -> Select[Any]:
    projects = _waiting_projects()
    run = runs.alias("waiting")
    first = (
        select(run.c.key)
        .where(run.c.project_id == projects.c.project_id, *_is_queued(run))
        .where(*_can_begin(run))
        .order_by(run.c.key)
        .limit(1)
        .scalar_subquery()
    )
    project_id = projects.c.project_id
    is_asked_for = project_id.not_in(bindparam("left_out", expanding=True))
    return select(project_id, first).where(project_id.is_not(None), is_asked_for)


def _waiting_projects() -> FromClause:
    """Select the projects that have a queued run, by one step of the index for each, however many runs each has."""
    first = select(runs.c.project_id).where(*_is_queued(runs)).order_by(runs.c.project_id, runs.c.key).limit(1)
    projects = select(first.subquery().c.project_id).cte("projects_waiting", recursive=True)
    after = runs.alias("after")
    following = (
        select(after.c.project_id)
        .where(after.c.project_id > projects.c.project_id, *_is_queued(after))
        .order_by(after.c.project_id, after.c.key)
        .limit(1)
    )
    return projects.union_all(select(following.scalar_subquery()).where(projects.c.project_id.is_not(None)))


def _is_queued(run: FromClause) -> tuple[ColumnElement[Any], ...]:
    # By the index of unfinished runs, few of which are in progress.
    return run.c.request.is_not(None), unindexed(run.c.status) == "queued"


def _can_begin(run: FromClause) -> tuple[ColumnElement[Any], ...]:
    before = runs.alias("before")
    in_its_conversation = (before.c.project_id == run.c.project_id, before.c.conversation_id == run.c.conversation_id)
    is_behind = exists().where(*in_its_conversation, before.c.expires_at.is_(None), before.c.key < run.c.key)
    is_locked = exists().where(
        conversations.c.project_id == run.c.project_id,
        conversations.c.id == run.c.conversation_id,
        conversations.c.held_until > DatabaseTime(),
        # A lock's holder is the run's id and epoch.
        func.substr(conversations.c.holder, 1, func.length(run.c.id)) != run.c.id,
    )
    is_over = run.c.created_at <= DatabaseTime() - bindparam("wait_seconds", type_=BigInteger)
    has_account = or_(run.c.model.is_(None), run.c.model.not_in(bindparam("resting", expanding=True)))
    return (
        ~run.c.cancel_requested,
        run.c.lease_until <= DatabaseTime(),
        ~is_behind,
        or_(is_over, and_(~is_locked, has_account)),
    )


# Built once: every process asks some times a second.
_FIND = _find()
_RUNNING = select(runs.c.project_id).where(runs.c.owner.is_not(None), runs.c.lease_until > DatabaseTime())
