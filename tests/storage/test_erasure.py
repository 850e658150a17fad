"""What was deleted is not left anywhere on the disk."""

from pathlib import Path

from app.offload import Offload
from app.state.records import Item, Project
from app.storage.database import Database
from app.storage.project_store import CreateProject
from app.storage.response_store import ResponseStore
from app.storage.writer import Writer
from tests.storage.conftest import NOW, MakeResponse


async def test_deleted_content_is_nowhere_in_sqlites_files(
    sqlite_url: str, tmp_path: Path, make_response: MakeResponse
) -> None:
    database = Database(sqlite_url, pool_size=1, commit_timeout=5.0)
    writer = Writer(database, 5.0)
    await writer.submit(CreateProject(Project("proj_a", "a", None, NOW)))
    store = ResponseStore(database, writer, Offload())
    content = b"very private words" * 1000
    await store.save(make_response("one", body=content, items=(Item("i", "message", False, content),)))

    def files_with_content() -> list[str]:
        return [file.name for file in tmp_path.iterdir() if b"very private words" in file.read_bytes()]

    assert files_with_content() != []
    assert await store.delete("proj_a", "resp_one", NOW)
    assert files_with_content() == []
    await writer.aclose()
    await database.aclose()
