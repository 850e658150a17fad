"""SQLite's log is copied back in steps, between groups of writes: no commit has to wait for all of it."""

import asyncio
from pathlib import Path

from app.runtime.compute_thread import ComputeThread
from app.state.records import Project
from app.storage.engine.database import Database
from app.storage.projects.store import CreateProject
from app.storage.responses.store import ResponseStore
from app.storage.writer.writer import Writer
from tests.conftest import COMMIT_TIMEOUT
from tests.storage.conftest import NOW, MakeResponse

RESPONSES, IN_FLIGHT = 1600, 32


async def test_the_log_stays_short_while_responses_are_stored(sqlite_url: str, make_response: MakeResponse) -> None:
    database = Database(sqlite_url, pool_size=1, commit_timeout=COMMIT_TIMEOUT)
    writer = Writer(database, COMMIT_TIMEOUT)
    await writer.submit(CreateProject(Project("proj_a", "alpha", None, NOW)))
    responses = ResponseStore(database, writer, ComputeThread())

    async def store(first: int) -> None:
        for number in range(first, RESPONSES, IN_FLIGHT):
            await responses.save(make_response(str(number), body=b"x" * 4000))

    await asyncio.gather(*map(store, range(IN_FLIGHT)))
    # Copied by commits alone it would be 16 MB long.
    length = Path(f"{sqlite_url.removeprefix('sqlite:///')}-wal").stat().st_size
    await writer.aclose()
    await database.aclose()
    assert 0 < length < 8_000_000
