"""What administrators can do to projects."""

import asyncio
from typing import Any

import orjson
import pytest
from sqlalchemy import select

from app.administration.actor import Actor
from app.errors import ConflictError, InvalidRequestError, NotFoundError, PermissionDeniedError
from app.state.policies import Budget, Limits, ProjectPolicy
from app.state.records import Project
from app.storage.engine.database import Database
from app.storage.tables import projects
from tests.administration.conftest import MASTER, Office

pytestmark = pytest.mark.slow_on_postgresql


async def test_a_project_has_what_it_was_given_and_changes_by_its_version(office: Office) -> None:
    policy: dict[str, Any] = {"models": ["gpt*"], "limits": {"budgets": [{"period": "week", "tokens": 9}]}}
    made = await office.projects.create(MASTER, name="team", retention_days=7, policy=policy)
    kept = ProjectPolicy(("gpt*",), Limits(budgets=(Budget("week", tokens=9),)))
    assert (made.name, made.retention_days, made.policy, made.version) == ("team", 7, kept, 1)
    assert await office.projects.get(made.id) == made == await office.projects.find("team")
    changed = await office.projects.update(
        MASTER, made.id, {"name": "crew", "retention_days": None, "policy": {}}, version=1
    )
    assert changed == Project(made.id, "crew", None, made.created_at, version=2)
    assert office.changed == [made.id]
    with pytest.raises(ConflictError):
        await office.projects.update(MASTER, made.id, {"name": "late"}, version=1)
    last, first = await office.audit.list(subject=made.id)
    assert (first.action, last.action) == ("project.create", "project.update")
    assert orjson.loads(last.details)["name"] == {"from": "team", "to": "crew"}


async def test_a_name_is_taken_once(office: Office, project: Project) -> None:
    with pytest.raises(ConflictError) as caught:
        await office.projects.create(MASTER, name="team")
    assert (caught.value.status, caught.value.code, caught.value.param) == (409, "name_taken", "name")
    other = await office.projects.create(MASTER, name="other")
    with pytest.raises(ConflictError) as caught:
        await office.projects.update(MASTER, other.id, {"name": "team"}, version=1)
    assert caught.value.code == "name_taken"
    assert await office.actions() == ["project.create", "project.create"]


async def test_of_many_who_give_the_same_name_at_once_one_does(office: Office) -> None:
    made = [await office.projects.create(MASTER, name=f"p{number}") for number in range(8)]
    await at_once(office, [office.projects.update(MASTER, each.id, {"name": "same"}, version=1) for each in made])


async def test_so_it_is_on_several_replicas(replicas: tuple[Office, Office]) -> None:
    here, there = replicas
    for turn in range(3):
        made = [await here.projects.create(MASTER, name=f"p{turn}-{number}") for number in range(6)]
        name = f"same {turn}"
        renamed = [
            office.projects.update(MASTER, each.id, {"name": name}, version=1)
            for each, office in zip(made, (here, there) * 3, strict=True)
        ]
        await at_once(there, [*renamed, *(office.projects.create(MASTER, name=name) for office in replicas)], name)


async def at_once(office: Office, changes: list[Any], name: str = "same") -> None:
    outcomes = await asyncio.gather(*changes, return_exceptions=True)
    (kept,) = [outcome for outcome in outcomes if isinstance(outcome, Project)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, ConflictError)]
    assert len(refused) == len(changes) - 1, outcomes
    assert {(each.status, each.code, each.param) for each in refused} == {(409, "name_taken", "name")}
    assert [each.id for each in await office.projects.list(limit=100) if each.name == name] == [kept.id]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"name": ""}, "name"),
        ({"retention_days": 0}, "retention_days"),
        ({"retention_days": 36_501}, "retention_days"),
        ({"retention_days": "7"}, "retention_days"),
        ({"conversation_days": 0}, "conversation_days"),
        ({"erasing_at": 1}, "erasing_at"),
        ({"policy": {"scopes": ["admin"]}}, "policy.scopes"),
        ({"policy": {"models": "gpt"}}, "policy.models"),
        ({"owner": "x"}, "owner"),
        ({"id": "x"}, "id"),
    ],
)
async def test_what_a_project_cannot_have_is_refused_by_name(
    office: Office, project: Project, changes: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await office.projects.update(MASTER, project.id, changes, version=1)
    assert caught.value.param == param
    assert await office.projects.get(project.id) == project


async def test_a_project_that_nobody_made_is_not_found(office: Office) -> None:
    assert await office.projects.find("none") is None
    with pytest.raises(NotFoundError):
        await office.projects.get("proj_none")
    with pytest.raises(NotFoundError):
        await office.projects.update(MASTER, "proj_none", {"name": "x"}, version=1)


async def test_records_are_paged_latest_first(office: Office, project: Project) -> None:
    for version in range(1, 5):
        name = f"team {version}"
        await office.projects.update(Actor(f"admin {version}"), project.id, {"name": name}, version=version)
    pages: list[list[str]] = []
    after = None
    while page := await office.audit.list(after=after, limit=2):
        pages.append([record.actor for record in page])
        after = page[-1].id
    assert pages == [["admin 4", "admin 3"], ["admin 2", "admin 1"], ["master key"]]


@pytest.mark.parametrize(
    ("before", "after", "is_shorter"),
    [(None, 7, True), (90, None, True), (7, 8, False), (7, 7, False), (None, 30, False)],
)
async def test_only_a_retention_that_becomes_shorter_is_applied_to_what_is_stored(
    office: Office, database: Database, before: int | None, after: int | None, is_shorter: bool
) -> None:
    """Of a setting of 30 days."""
    made = await office.projects.create(MASTER, name="team", retention_days=before)
    await office.projects.update(MASTER, made.id, {"retention_days": after}, version=1)
    marked = select(projects.c.id).where(projects.c.shortened_at.is_not(None))
    assert (await database.read(lambda connection: connection.scalar(marked)) == made.id) is is_shorter


async def test_nobody_erases_a_project_who_may_only_look_or_that_is_not_there(office: Office, project: Project) -> None:
    with pytest.raises(PermissionDeniedError):
        await office.projects.erase(Actor("onlooker", can_write=False), project.id)
    with pytest.raises(NotFoundError):
        await office.projects.erase(MASTER, "proj_none")
    assert await office.projects.get(project.id) == project
