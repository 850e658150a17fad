"""An administrator's key that ends leaves nothing behind that outlives it (ADR 17)."""

import asyncio
import time
from typing import Any

import orjson
import pytest

from app.administration.actor import Actor
from app.errors import ConflictError, InvalidRequestError, PermissionDeniedError
from app.state.policies import SCOPES
from app.state.records import ApiKey, Project
from tests.administration.conftest import MASTER, Office

pytestmark = pytest.mark.slow_on_postgresql

ADMIN: Any = {"scopes": list(SCOPES)}


async def make(office: Office, project: Project, by: Actor = MASTER, **members: Any) -> ApiKey:
    record, _ = await office.keys.create(by, project_id=project.id, **{"name": "key", "policy": ADMIN, **members})
    return record


def holder(key: ApiKey) -> Actor:
    """Who administers with this key, as it was read."""
    return Actor(f"{key.id} ({key.name})", None, expires_at=key.expires_at, key_id=key.id, key_version=key.version)


async def states(office: Office, *keys: ApiKey) -> list[str]:
    found = [await office.keys.get(key.id) for key in keys]
    return ["revoked" if key.revoked_at is not None else "active" for key in found]


async def test_the_keys_that_an_administrator_made_end_with_theirs(office: Office, project: Project) -> None:
    first = await make(office, project)
    second = await make(office, project, holder(first))
    third = await make(office, project, holder(second), policy={"scopes": ["admin:read"]})
    client = await make(office, project, holder(second), policy={})
    other = await make(office, project)
    assert [key.granted_by for key in (first, second, third, client, other)] == [None, first.id, second.id, None, None]
    office.changed.clear()
    await office.keys.revoke(MASTER, first.id)
    assert await states(office, first, second, third, client, other) == ["revoked"] * 3 + ["active"] * 2
    assert office.changed == [first.id, *sorted((second.id, third.id))]
    (record, *_) = await office.audit.list(subject=first.id)
    assert orjson.loads(record.details) == {"ends": sorted((second.id, third.id))}


async def test_a_key_that_was_given_the_right_or_shown_to_another_ends_with_that(
    office: Office, project: Project
) -> None:
    first, shown = [await make(office, project) for _ in range(2)]
    promoted = await make(office, project, policy={})
    promoted = await office.keys.update(holder(first), promoted.id, {"policy": ADMIN}, version=1)
    shown, _ = await office.keys.rotate(holder(first), shown.id, overlap_seconds=0)
    assert (promoted.granted_by, shown.granted_by) == (first.id, first.id)
    # By itself a key does not get rid of that; who is no key takes it over, and so does who makes it a client's.
    shown, _ = await office.keys.rotate(holder(shown), shown.id, overlap_seconds=60)
    assert shown.granted_by == first.id
    demoted = await office.keys.update(MASTER, promoted.id, {"policy": {}}, version=2)
    assert demoted.granted_by is None
    with pytest.raises(InvalidRequestError) as caught:
        await office.keys.rotate(MASTER, shown.id, overlap_seconds=60)
    assert caught.value.param == "overlap_seconds"
    taken = await make(office, project, holder(first))
    taken, _ = await office.keys.rotate(MASTER, taken.id, overlap_seconds=0)
    await office.keys.revoke(MASTER, first.id)
    assert await states(office, shown, demoted, taken) == ["revoked", "active", "active"]


async def test_a_shorter_life_is_one_for_what_was_made_too(office: Office, project: Project) -> None:
    now = int(time.time())
    first = await make(office, project, expires_at=now + 1000)
    second = await make(office, project, holder(first), expires_at=now + 900)
    with pytest.raises(PermissionDeniedError):
        await make(office, project, holder(first), expires_at=now + 1001)
    await office.keys.update(MASTER, first.id, {"expires_at": now + 500}, version=1)
    assert (await office.keys.get(second.id)).expires_at == now + 500


async def test_nobody_unblocks_a_key_that_may_more_than_theirs(office: Office, project: Project) -> None:
    strong = await make(office, project)
    short = await make(office, project, expires_at=int(time.time()) + 1000)
    await office.keys.block(MASTER, strong.id)
    with pytest.raises(PermissionDeniedError) as caught:
        await office.keys.unblock(holder(short), strong.id)
    assert caught.value.param == "expires_at"
    assert (await office.keys.get(strong.id)).blocked_at is not None


async def test_a_key_that_was_read_before_its_end_changes_nothing_after_it(
    replicas: tuple[Office, Office],
) -> None:
    here, there = replicas
    project = await here.projects.create(MASTER, name="team")
    leaked = [await make(here, project, name=name) for name in ("revoked", "rotated", "blocked")]
    before = list(map(holder, leaked))
    await here.keys.revoke(MASTER, leaked[0].id)
    await here.keys.rotate(MASTER, leaked[1].id, overlap_seconds=0)
    await here.keys.block(MASTER, leaked[2].id)
    for actor in before:
        for change in (
            make(there, project, actor),
            there.keys.rotate(actor, leaked[1].id, overlap_seconds=0),
            there.projects.create(actor, name="behind"),
        ):
            with pytest.raises(ConflictError):
                await change
    assert len(await there.keys.list()) == 3
    assert await there.projects.find("behind") is None


async def test_what_is_made_while_a_key_is_revoked_ends_or_is_not_made(replicas: tuple[Office, Office]) -> None:
    here, there = replicas
    project = await here.projects.create(MASTER, name="team")
    for _ in range(5):
        first = await make(here, project)
        second = await make(here, project, holder(first))
        outcomes = await asyncio.gather(
            here.keys.revoke(MASTER, first.id),
            *(make(there, project, holder(key)) for key in (first, second) for _ in range(3)),
            return_exceptions=True,
        )
        assert not [
            error for error in outcomes if isinstance(error, BaseException) and not isinstance(error, ConflictError)
        ]
        made = [key for key in outcomes[1:] if isinstance(key, ApiKey)]
        assert await states(there, first, second, *made) == ["revoked"] * (2 + len(made))
