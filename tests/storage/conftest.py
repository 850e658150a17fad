"""The stores on a fresh database, and turns to put into them."""

from collections.abc import Callable

import pytest

from app.state.records import Item, Project, StoredResponse, Usage
from app.storage.database import Database
from app.storage.project_store import ProjectStore
from app.storage.response_store import ResponseStore
from app.storage.writer import Writer

MakeResponse = Callable[..., StoredResponse]

NOW = 1_800_000_000


@pytest.fixture
async def project(database: Database, writer: Writer) -> Project:
    store = ProjectStore(database, writer)
    project = Project("proj_a", "alpha", None, NOW)
    await store.create(project)
    await store.create(Project("proj_b", "beta", 7, NOW))
    return project


@pytest.fixture
async def responses(database: Database, writer: Writer, project: Project) -> ResponseStore:
    return ResponseStore(database, writer)


@pytest.fixture
def make_response() -> MakeResponse:
    def make(
        name: str,
        parent_key: int | None = None,
        *,
        project_id: str = "proj_a",
        expires_at: int = NOW + 100,
        body: bytes = b"{}",
        items: tuple[Item, ...] | None = None,
        usage: Usage | None = None,
    ) -> StoredResponse:
        if items is None:
            items = (
                Item(f"msg_{name}_in", "message", is_output=False, content=b'{"in":"%b"}' % name.encode()),
                Item(f"msg_{name}_out", "message", is_output=True, content=b'{"out":"%b"}' % name.encode()),
            )
        return StoredResponse(
            id=f"resp_{name}",
            project_id=project_id,
            api_key_id="key_1",
            parent_key=parent_key,
            status="completed",
            model="gpt-5",
            account="account-1",
            created_at=NOW,
            expires_at=expires_at,
            body=body,
            usage=usage,
            items=items,
        )

    return make
