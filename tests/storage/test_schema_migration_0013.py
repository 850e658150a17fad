"""Migration 0013 on a database that holds conversations: the first of their days begins with it."""

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text

from app.settings.gateway import StorageSettings
from app.storage.conversations.expiry import ConversationExpiry
from app.storage.engine.database import Database
from app.storage.schema_migration import open_for_migration
from app.storage.writer.writer import Writer
from tests.storage.test_schema_migration_0002 import alembic

_ROOT = Path(__file__).parents[2]
_BEFORE = ScriptDirectory.from_config(Config(_ROOT / "alembic.ini")).get_revision("0013").down_revision
_DAY = 86_400


@pytest.fixture(params=["sqlite", "postgresql"])
def old_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of the schema before, with a conversation that was made long ago."""
    url = f"sqlite:///{tmp_path}/antiphon.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("empty_postgresql_url")
    command.upgrade(alembic(url), str(_BEFORE))
    with open_for_migration(url) as connection:
        connection.execute(text("INSERT INTO projects (id, name, created_at) VALUES ('proj_a', 'alpha', 0)"))
        connection.execute(text(_CONVERSATION), {"metadata": b"{}"})
    return url


_CONVERSATION = (
    "INSERT INTO conversations (project_id, id, created_at, item_count, metadata)"
    " VALUES ('proj_a', 'conv_old', 1, 0, :metadata)"
)


async def test_a_conversation_from_before_is_kept_for_its_days_from_then_on(old_url: str) -> None:
    command.upgrade(alembic(old_url), "head")
    database = Database(old_url, pool_size=1, commit_timeout=20.0)
    writer = Writer(database, 20.0)
    expiry = ConversationExpiry(database, writer, StorageSettings(retention_days=30))
    now = await database.tell_time()
    assert await expiry.remove(now + 29 * _DAY) == 0
    assert await expiry.remove(now + 31 * _DAY) == 1
    await writer.aclose()
    await database.aclose()
