"""Find the runs that can begin now, the first of each project, without reading what was ordered.

A run waits without being looked into: for the end of its pause, for the runs ordered before it in its conversation, for
whoever holds the conversation, and for a model whose accounts rest.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, and_, exists, func, or_, select

from app.state.runs import Waiting
from app.storage.clock import DatabaseTime
from app.storage.statements import unindexed
from app.storage.tables import conversations, runs


def first_of_each_project(
    connection: Connection, resting: Collection[str], wait_seconds: int, left_out: Collection[str]
) -> Sequence[Waiting]:
    """The oldest run of each project that can begin now, except for those of the projects that are `left_out`.

    Those of the `resting` models and of held conversations cannot, unless they have waited for `wait_seconds`: they are
    to be ended.
    """
    projects = _waiting_projects()
    run = runs.alias("waiting")
    first = (
        select(run.c.key)
        .where(run.c.project_id == projects.c.project_id, *_is_queued(run))
        .where(*_can_begin(run, resting, wait_seconds))
        .order_by(run.c.key)
        .limit(1)
        .scalar_subquery()
    )
    project_id = projects.c.project_id
    query = select(project_id, first).where(project_id.is_not(None), project_id.not_in(sorted(left_out)))
    found = [(project_id, key) for project_id, key in connection.execute(query) if key is not None]
    if not found:
        return []
    is_owned = (runs.c.owner.is_not(None), runs.c.lease_until > DatabaseTime())
    running = Counter(connection.scalars(select(runs.c.project_id).where(*is_owned)))
    return [Waiting(project_id, key, running[project_id]) for project_id, key in found]


def _waiting_projects() -> FromClause:
    """The projects that have a queued run: a step of the index for each, however many runs each has."""
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
    # Among the unfinished, by their index. Those that are worked on are few.
    return run.c.request.is_not(None), unindexed(run.c.status) == "queued"


def _can_begin(run: FromClause, resting: Collection[str], wait_seconds: int) -> tuple[ColumnElement[Any], ...]:
    before = runs.alias("before")
    in_its_conversation = (before.c.project_id == run.c.project_id, before.c.conversation_id == run.c.conversation_id)
    is_behind = exists().where(*in_its_conversation, before.c.expires_at.is_(None), before.c.key < run.c.key)
    is_held = exists().where(
        conversations.c.project_id == run.c.project_id,
        conversations.c.id == run.c.conversation_id,
        conversations.c.held_until > DatabaseTime(),
        # A holder's name is its run's, with its epoch.
        func.substr(conversations.c.holder, 1, func.length(run.c.id)) != run.c.id,
    )
    is_over = run.c.created_at <= DatabaseTime() - wait_seconds
    has_account = or_(run.c.model.is_(None), run.c.model.not_in(sorted(resting)))
    return (
        ~run.c.cancel_requested,
        run.c.lease_until <= DatabaseTime(),
        ~is_behind,
        or_(is_over, and_(~is_held, has_account)),
    )
