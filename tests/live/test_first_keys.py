"""The first keys are made by the first start that can show or save them, whatever commands were typed before."""

from pathlib import Path

import httpx
import pytest

from app.boot.installation import open_installation
from app.security.key_ring import KeyRing
from app.storage.engine.database import Database
from app.storage.projects.store import ChangeProject, ProjectStore
from app.storage.writer.writer import Writer
from tests.conftest import COMMIT_TIMEOUT
from tests.fakes.founded import found, patient_storage
from tests.fakes.gateway import GatewayProcess

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

RING = KeyRing(b"a secret of sixteen characters and more")


async def test_first_keys_are_made_once(database_url: str) -> None:
    made = await found(database_url, RING, with_keys=True)
    assert made is not None
    assert made.admin_key is not None
    assert await found(database_url, RING, with_keys=True) is None


async def test_a_start_that_could_not_keep_them_leaves_them_to_the_next(database_url: str) -> None:
    assert await found(database_url, RING) is None
    async with open_installation(patient_storage(database_url), RING) as installation:
        (default,) = await installation.projects.list()
        await installation.create_key("made by hand", default)
    made = await found(database_url, RING, with_keys=True)
    assert made is not None
    async with open_installation(patient_storage(database_url), RING) as installation:
        assert {key.project_id for key in await installation.keys.list()} == {default.id}
        assert {key.name for key in await installation.keys.list()} == {"made by hand", "first", "first admin"}


async def test_a_default_project_that_was_renamed_is_not_made_again(database_url: str) -> None:
    await found(database_url, RING, with_keys=True)
    database = Database(database_url, pool_size=1, commit_timeout=COMMIT_TIMEOUT)
    writer = Writer(database, COMMIT_TIMEOUT)
    (default,) = await ProjectStore(database).list()
    assert await writer.submit(ChangeProject(default.id, 1, {"name": "team"}))
    for with_keys in (True, False):
        assert await found(database_url, RING, with_keys=with_keys) is None
    assert [project.name for project in await ProjectStore(database).list()] == ["team"]
    await writer.aclose()
    await database.aclose()


@pytest.mark.slow
def test_commands_before_the_first_start_change_nothing_of_it(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, {"ANTIPHON_SECRET_KEY": "", "ANTIPHON_HOST": "0.0.0.0"})
    typed = [("projects", "list"), ("keys", "create", "--name", "early"), ("projects", "create", "early")]
    for commands in (typed, [("migrate",), *typed]):
        for command in commands:
            if command == ("migrate",):
                gateway.run(*command)
                continue
            with pytest.raises(AssertionError, match=r"antiphon serve"):
                gateway.run(*command)
    try:
        gateway.start()
        for key, path in ((gateway.key, "/v1/models"), (gateway.admin_key, "/admin/v1/keys")):
            answer = httpx.get(f"{gateway.url}{path}", headers={"authorization": f"Bearer {key}"})
            assert answer.status_code == 200
    finally:
        gateway.stop()
