"""A retention that became shorter holds for what is stored, whoever does it and whatever ended them before."""

from dataclasses import replace

import pytest
from sqlalchemy import select

from app.storage.engine.database import Database
from app.storage.projects.store import ChangeProject
from app.storage.responses import retention as retention_module
from app.storage.responses.retention import Retention
from app.storage.responses.store import ResponseStore
from app.storage.tables import projects
from app.storage.tables import responses as responses_table
from app.storage.writer.writer import Writer
from tests.storage.conftest import MakeResponse

DAY = 86_400


async def expiries(database: Database) -> dict[str, int]:
    query = select(responses_table.c.id, responses_table.c.expires_at)
    rows = await database.read(lambda connection: connection.execute(query).all())
    return {row.id: row.expires_at for row in rows}


async def marks(database: Database) -> list[bool]:
    query = select(projects.c.shortened_at.is_not(None)).order_by(projects.c.id)
    return list(await database.read(lambda connection: connection.scalars(query).all()))


@pytest.fixture
async def now(database: Database, responses: ResponseStore, make_response: MakeResponse) -> int:
    """With a response that was made now, one of five days ago and one of the other project, all kept for 30 days."""
    now = await database.tell_time()
    for name, project_id, age in (("new", "proj_a", 0), ("old", "proj_a", 5), ("theirs", "proj_b", 5)):
        made = make_response(name, project_id=project_id, expires_at=now + (30 - age) * DAY)
        await responses.save(replace(made, created_at=now - age * DAY))
    return now


async def test_each_response_of_the_project_expires_so_long_after_it_was_made_or_now(
    database: Database, writer: Writer, now: int
) -> None:
    retention = Retention(database, writer, 30)
    await retention.shorten("proj_a", 3)
    found = await expiries(database)
    assert found["resp_new"] == now + 3 * DAY
    assert now <= found["resp_old"] < now + 60
    assert found["resp_theirs"] == now + 25 * DAY
    # Nothing is given more time than it had.
    await retention.shorten("proj_a", 10)
    assert await expiries(database) == found


async def test_what_is_marked_is_done_by_whoever_comes_by_until_others_know_of_it(
    database: Database, writer: Writer, now: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await writer.submit(ChangeProject("proj_a", 1, {"retention_days": 3}, shortens=True))
    await Retention(database, writer, 30).apply()
    assert (await expiries(database))["resp_new"] == now + 3 * DAY
    assert await marks(database) == [True, False]
    monkeypatch.setattr(retention_module, "_STALE_SECONDS", -5)
    await Retention(database, writer, 30).apply()
    assert await marks(database) == [False, False]


async def test_a_setting_that_is_lower_at_a_start_holds_for_projects_without_their_own(
    database: Database, writer: Writer, now: int
) -> None:
    for days, marked in ((30, False), (60, False), (4, True)):
        await Retention(database, writer, days).apply()
        assert await marks(database) == [marked, False]
    found = await expiries(database)
    assert (found["resp_new"], found["resp_theirs"]) == (now + 4 * DAY, now + 25 * DAY)
