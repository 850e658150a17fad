"""What the stores of projects, keys and facts promise, on every database."""

import asyncio
from dataclasses import replace

import pytest

from app.errors import ConfigurationError, StorageError
from app.state.records import ApiKey, Project
from app.storage.database import Database
from app.storage.key_store import KeyStore
from app.storage.meta_store import MetaStore
from app.storage.project_store import ProjectStore
from app.storage.writer import Writer
from tests.storage.conftest import NOW

KEY = ApiKey("key_1", "proj_b", "laptop", "wxyz", NOW, None, None)


async def test_projects_are_found_by_name_and_listed(database: Database, writer: Writer, project: Project) -> None:
    store = ProjectStore(database, writer)
    assert await store.find("alpha") == project
    assert await store.find("alph\x00") is None
    assert [(found.name, found.retention_days) for found in await store.list()] == [("alpha", None), ("beta", 7)]


async def test_a_taken_project_name_is_the_operators_mistake(
    database: Database, writer: Writer, project: Project
) -> None:
    store = ProjectStore(database, writer)
    with pytest.raises(ConfigurationError, match="already a project named 'alpha'"):
        await store.create(replace(project, id="proj_other"))
    assert await store.find("alpha") == project


async def test_a_key_is_found_by_its_hash_with_its_projects_retention(
    database: Database, writer: Writer, project: Project
) -> None:
    store = KeyStore(database, writer)
    await store.create(KEY, b"\x00hash")
    assert await store.find(b"\x00hash") == replace(KEY, retention_days=7)
    assert await store.find(b"\x00has") is None


async def test_keys_of_all_projects_are_listed_oldest_first(
    database: Database, writer: Writer, project: Project
) -> None:
    store = KeyStore(database, writer)
    await asyncio.gather(
        store.create(replace(KEY, id="key_2", project_id="proj_a", created_at=NOW + 1), b"2"), store.create(KEY, b"1")
    )
    assert [key.id for key in await store.list()] == ["key_1", "key_2"]


async def test_a_revoked_key_is_found_with_its_time_and_is_revoked_once(
    database: Database, writer: Writer, project: Project
) -> None:
    store = KeyStore(database, writer)
    await store.create(KEY, b"1")
    assert await store.revoke("key_1", NOW + 5)
    assert not await store.revoke("key_1", NOW + 6)
    assert not await store.revoke("key_unknown", NOW)
    found = await store.find(b"1")
    assert found is not None
    assert found.revoked_at == NOW + 5


async def test_a_key_needs_a_project_and_a_hash_of_its_own(
    database: Database, writer: Writer, project: Project
) -> None:
    store = KeyStore(database, writer)
    await store.create(KEY, b"1")
    outcomes = await asyncio.gather(
        store.create(replace(KEY, id="key_2"), b"1"),
        store.create(replace(KEY, id="key_3", project_id="proj_none"), b"3"),
        store.create(replace(KEY, id="key_4"), b"4"),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [StorageError, StorageError, type(None)]
    assert [key.id for key in await store.list()] == ["key_1", "key_4"]


async def test_the_first_value_of_a_name_is_kept(writer: Writer) -> None:
    store = MetaStore(writer)
    values = await asyncio.gather(store.write_once("fingerprint", "a"), store.write_once("fingerprint", "b"))
    assert list(values) == ["a", "a"]
    assert await store.write_once("fingerprint", "c") == "a"
