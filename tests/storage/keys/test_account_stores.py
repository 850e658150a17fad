"""What the stores of projects and facts promise, on every database."""

import asyncio
from dataclasses import replace

from app.state.policies import Limits, ProjectPolicy
from app.state.records import Project
from app.storage.engine.database import Database
from app.storage.meta import MetaStore, Replace
from app.storage.projects.store import ChangeProject, CreateProject, ProjectStore
from app.storage.writer.writer import Writer
from tests.storage.conftest import NOW


async def test_projects_are_found_by_name_and_listed(database: Database, writer: Writer, project: Project) -> None:
    store = ProjectStore(database)
    assert await store.find("alpha") == project
    assert await store.find("alph\x00") is None
    assert [(found.name, found.retention_days) for found in await store.list()] == [("beta", 7), ("alpha", None)]


async def test_a_project_is_not_made_under_a_name_that_is_taken(
    database: Database, writer: Writer, project: Project
) -> None:
    assert not await writer.submit(CreateProject(replace(project, id="proj_other")))
    assert not await writer.submit(CreateProject(replace(project, name="other")))
    assert await ProjectStore(database).find("alpha") == project


async def test_projects_are_paged_newest_first(database: Database, writer: Writer) -> None:
    store = ProjectStore(database)
    for number in range(5):
        await writer.submit(CreateProject(Project(f"proj_{number}", f"p{number}", None, NOW + number // 2)))
    pages: list[list[str]] = []
    after = None
    while page := await store.list(after=after, limit=2):
        pages.append([project.id for project in page])
        after = page[-1].id
    assert pages == [["proj_4", "proj_3"], ["proj_2", "proj_1"], ["proj_0"]]
    assert await store.list(after="proj_unknown") == []


async def test_of_two_editors_of_a_project_the_second_changes_nothing(
    writer: Writer, database: Database, project: Project
) -> None:
    store = ProjectStore(database)
    policy = ProjectPolicy(models=("gpt-5*",), limits=Limits(requests_per_minute=3))
    assert await writer.submit(ChangeProject("proj_a", 1, {"policy": policy}))
    assert not await writer.submit(ChangeProject("proj_a", 1, {"retention_days": 3}))
    assert await store.get("proj_a") == replace(project, policy=policy, version=2)
    assert await writer.submit(ChangeProject("proj_a", 2, {"policy": ProjectPolicy(), "retention_days": 3}))
    assert await store.get("proj_a") == replace(project, retention_days=3, version=3)


async def test_the_first_value_of_a_name_is_kept(database: Database, writer: Writer) -> None:
    store = MetaStore(database, writer)
    values = await asyncio.gather(store.write_once("fingerprint", "a"), store.write_once("fingerprint", "b"))
    assert list(values) == ["a", "a"]
    assert await store.write_once("fingerprint", "c") == "a"
    assert (await store.get("fingerprint"), await store.get("none")) == ("a", None)


async def test_a_value_is_replaced_by_who_knows_it_and_takes_others_with_it(database: Database, writer: Writer) -> None:
    store = MetaStore(database, writer)
    for name in ("name", "keys.a", "keys.b", "keys_c"):
        await store.write_once(name, "old")
    assert not await writer.submit(Replace("name", "other", "new", ["keys.a"]))
    assert await store.below("keys.") == {"a": "old", "b": "old"}
    assert await writer.submit(Replace("name", "old", "new", ["keys.a"]))
    assert await store.get("name") == "new"
    assert await store.below("keys.") == {"b": "old"}
