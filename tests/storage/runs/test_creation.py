"""Orders of one project that come at once: all are taken, together, and not one more than the project may have."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy import event, func, select

from app.state.records import Project
from app.state.runs import Page
from app.storage.engine.database import Database
from app.storage.runs.creation import CreateRun
from app.storage.runs.store import RunStore
from app.storage.tables import run_events
from tests.fakes.ordered_runs import LEASE, order
from tests.storage.conftest import Replica

PAGE = Page(0, 1, b"event: a\n\nevent: b\n\n")


def ordered(name: str, request: bytes = b"{}", **options: Any) -> CreateRun:
    asked = replace(order(name, **options), body=request)
    return CreateRun(asked, b'{"status":"queued"}', PAGE, None, LEASE, most=10_000)


@contextmanager
def counted(database: Database) -> Iterator[list[str]]:
    """The statements that are written meanwhile."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(" ".join(statement.split()[:3]))

    event.listen(database.writer, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(database.writer, "before_cursor_execute", note)


async def test_orders_that_wait_together_are_a_few_statements(
    runs: RunStore, database: Database, project: Project
) -> None:
    writes = [ordered(f"{number}") for number in range(200)] + [ordered("theirs", project_id="proj_b")]
    with counted(database) as statements:
        made = await database.write(
            lambda session: session.write(lambda connection: CreateRun.apply(connection, writes))
        )
    assert [run and run.request for run in made] == [write.request for write in writes]
    assert statements.count("INSERT INTO runs") == 6
    assert len(statements) < 10
    # By their keys runs are taken, in a conversation one after the other.
    assert [run.key for run in made if run] == sorted(run.key for run in made if run)
    # Each has its own key, and its own log.
    for write, run in zip(writes, made, strict=True):
        found = await runs.find(write.request.project_id, write.request.id)
        assert found is not None
        assert found.key == (run and run.key)
        view = await runs.read_log(found.key, -1)
        assert view is not None
        assert view.pages == (PAGE,)


async def test_a_large_order_goes_in_by_a_statement_of_its_own(
    runs: RunStore, database: Database, project: Project
) -> None:
    large = {"large": 3 * 1024 * 1024, "next": 600_000, "last": 600_000}
    sizes = {f"small_{number}": 100 for number in range(4)} | large
    writes = [ordered(name, request=b"x" * size) for name, size in sizes.items()]
    with counted(database) as statements:
        await database.write(lambda session: session.write(lambda connection: CreateRun.apply(connection, writes)))
    assert statements.count("INSERT INTO runs") == 4
    for name, size in sizes.items():
        kept = await runs.read_request("proj_a", f"resp_{name}")
        assert kept is not None
        assert len(kept.body) == size


async def test_hundreds_of_orders_at_once_are_taken_up_to_the_limit_by_two_replicas(
    runs: RunStore, database_url: str, database: Database, project: Project
) -> None:
    other = Replica(database_url)
    try:
        stores = (runs, RunStore(other.database, other.writer))
        made = await asyncio.gather(
            *[
                store.create(order(f"{place}_{number}"), b"{}", PAGE, owner=None, lease_seconds=LEASE, most=500)
                for number in range(400)
                for place, store in enumerate(stores)
            ]
        )
    finally:
        await other.aclose()
    taken = [run for run in made if run is not None]
    assert len(taken) == len({run.key for run in taken}) == 500
    logs = select(func.count()).select_from(run_events)
    assert await database.read(lambda connection: connection.scalar(logs)) == 500
