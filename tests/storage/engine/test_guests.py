"""A command beside the gateway that serves from a SQLite file leaves it to that to copy the log back."""

from pathlib import Path

import pytest

from app.runtime.compute_thread import ComputeThread
from app.state.records import Project
from app.storage.engine.database import Database
from app.storage.projects.store import CreateProject
from app.storage.responses.store import ResponseStore
from app.storage.writer.writer import Writer
from tests.conftest import COMMIT_TIMEOUT
from tests.storage.conftest import NOW, MakeResponse


@pytest.mark.parametrize("is_guest", [True, False])
async def test_a_guest_copies_nothing_of_the_log_into_the_file(
    sqlite_url: str, make_response: MakeResponse, is_guest: bool
) -> None:
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    serving = Database(sqlite_url, pool_size=1, commit_timeout=COMMIT_TIMEOUT)
    await serving.ping()
    other = Database(sqlite_url, pool_size=1, commit_timeout=COMMIT_TIMEOUT, is_guest=is_guest)
    writer = Writer(other, COMMIT_TIMEOUT)
    await writer.submit(CreateProject(Project("proj_a", "alpha", None, NOW)))
    before = file.read_bytes()
    store = ResponseStore(other, writer, ComputeThread())
    # More than a log is let grow to, and something that is erased from it.
    for number in range(3):
        await store.save(make_response(f"large {number}", body=bytes(8_000_000)))
    assert await store.delete("proj_a", "resp_large 0", NOW)
    await writer.aclose()
    await other.aclose()
    assert (file.read_bytes() == before) is is_guest
    assert await ResponseStore(serving, writer, ComputeThread()).read_body("proj_a", "resp_large 1", NOW) == bytes(
        8_000_000
    )
    await serving.aclose()
