"""What administrators can do to keys, what they cannot, and what is written down of it."""

import asyncio
import time
from typing import Any

import orjson
import pytest

from app.administration.actor import Actor
from app.errors import ApiError, ConflictError, InvalidRequestError, NotFoundError, PermissionDeniedError
from app.state.policies import CLIENT_SCOPES, NEW_KEY, SCOPES, STORED_SCOPES, Budget, KeyPolicy, Limits
from app.state.records import ApiKey, Project
from tests.administration.conftest import MASTER, Office

pytestmark = pytest.mark.slow_on_postgresql

FULL_POLICY = {
    "scopes": ["responses", "models", "responses"],
    "models": ["gpt-5*", "o?"],
    "addresses": ["10.1.2.3/8", "2001:db8::1", "::ffff:192.0.2.9/120"],
    "limits": {
        "requests_per_minute": 1,
        "tokens_per_minute": 2,
        "concurrent_streams": 3,
        "max_output_tokens": 4,
        "budgets": [{"period": "day", "tokens": 5}, {"period": "month", "usd": 0.5}],
    },
}


async def make(office: Office, project: Project, **members: Any) -> tuple[ApiKey, str]:
    members.setdefault("name", "laptop")
    return await office.keys.create(MASTER, project_id=project.id, **members)


async def test_a_key_has_what_it_was_given(office: Office, project: Project) -> None:
    later = int(time.time()) + 100
    record, key = await make(
        office, project, name="CI ✓", owner="Ada", tags=["a", "b", "a"], policy=FULL_POLICY, expires_at=later
    )
    assert (record.name, record.owner, record.tags, record.expires_at) == ("CI ✓", "Ada", ("a", "b"), later)
    assert record.policy == KeyPolicy(
        scopes=("responses", "models"),
        models=("gpt-5*", "o?"),
        addresses=("10.0.0.0/8", "2001:db8::1/128", "192.0.2.0/24"),
        limits=Limits(1, 2, 3, 4, (Budget("day", tokens=5), Budget("month", usd=0.5))),
    )
    assert record.hint == key[-4:]
    found = await office.store.find(office.hasher.hash(key))
    assert found is not None
    assert found.key == record == await office.keys.get(record.id)


async def test_a_plain_key_may_what_clients_may(office: Office, project: Project) -> None:
    record, _ = await make(office, project)
    assert record.policy == NEW_KEY
    assert record.policy.scopes == CLIENT_SCOPES


async def test_a_surface_that_is_new_opens_to_no_key_by_itself(office: Office, project: Project) -> None:
    """Neither by an upgrade nor by a change of something else, nor from an administrator of before it."""
    record, _ = await make(office, project, policy=KeyPolicy(scopes=STORED_SCOPES))
    changed = await office.keys.update(MASTER, record.id, {"policy": {"models": ["gpt-5*"]}}, version=1)
    assert changed.policy.scopes == STORED_SCOPES
    old = Actor("old", scopes=(*STORED_SCOPES, "admin:read", "admin"))
    made, _ = await office.keys.create(old, project_id=project.id, name="theirs")
    assert made.policy.scopes == STORED_SCOPES


async def test_neither_a_key_nor_its_hash_is_recorded(office: Office, project: Project) -> None:
    record, key = await make(office, project)
    _, rotated = await office.keys.rotate(MASTER, record.id, overlap_seconds=60)
    told = b"".join(each.details for each in await office.audit.list())
    for secret in (key, rotated):
        hashed = office.hasher.hash(secret)
        assert not [form for form in (secret.encode(), hashed, hashed.hex().encode()) if form in told]


async def test_a_key_of_no_project_is_not_made(office: Office) -> None:
    with pytest.raises(NotFoundError) as caught:
        await office.keys.create(MASTER, project_id="proj_none", name="laptop")
    assert caught.value.param == "project_id"


@pytest.mark.parametrize("member", ["role", "id", "project_id", "key_hash", "is_admin", "scopes", "version", "hint"])
async def test_what_is_no_members_to_change_is_refused(office: Office, project: Project, member: str) -> None:
    record, _ = await make(office, project)
    with pytest.raises(InvalidRequestError) as caught:
        await office.keys.update(MASTER, record.id, {"name": "x", member: "admin"}, version=1)
    assert (caught.value.code, caught.value.param) == ("unknown_parameter", member)
    assert await office.keys.get(record.id) == record


async def test_of_two_administrators_who_edit_a_key_one_is_told_to_look_again(office: Office, project: Project) -> None:
    record, _ = await make(office, project)
    outcomes = await asyncio.gather(
        *(office.keys.update(MASTER, record.id, {"name": name}, version=1) for name in ("one", "two")),
        return_exceptions=True,
    )
    kept = [outcome for outcome in outcomes if isinstance(outcome, ApiKey)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, ConflictError)]
    assert (len(kept), len(refused)) == (1, 1)
    assert (refused[0].status, refused[0].param) == (409, "version")
    assert await office.keys.get(record.id) == kept[0]
    assert (await office.actions()).count("key.update") == 1
    assert office.changed == [record.id]


async def test_a_change_says_what_it_was_before_and_one_of_nothing_is_none(office: Office, project: Project) -> None:
    record, _ = await make(office, project)
    policy = {"models": ["gpt-5*"], "limits": {"requests_per_minute": 5}}
    changed = await office.keys.update(MASTER, record.id, {"owner": "Ada", "policy": policy}, version=1)
    assert (changed.version, changed.policy.models, changed.policy.scopes) == (2, ("gpt-5*",), CLIENT_SCOPES)
    again = await office.keys.update(MASTER, record.id, {"owner": "Ada", "policy": policy}, version=2)
    assert again == changed
    last, first = await office.audit.list(subject=record.id)
    assert (last.action, last.actor, last.address) == ("key.update", "master key", "192.0.2.1")
    details = orjson.loads(last.details)
    assert details["owner"] == {"from": None, "to": "Ada"}
    assert details["policy"] == {"from": {"scopes": [*CLIENT_SCOPES]}, "to": {"scopes": [*CLIENT_SCOPES], **policy}}
    assert (first.action, orjson.loads(first.details)["name"]) == ("key.create", "laptop")
    assert last.at <= int(time.time())


async def test_a_rotated_key_works_beside_the_new_one_until_the_overlap_ends(office: Office, project: Project) -> None:
    record, key = await make(office, project)
    rotated, other = await office.keys.rotate(MASTER, record.id, overlap_seconds=3600)
    assert other != key
    assert (rotated.id, rotated.hint, rotated.version) == (record.id, other[-4:], 2)
    current, before = [await office.store.find(office.hasher.hash(each)) for each in (other, key)]
    assert current is not None
    assert before is not None
    assert current.until is None
    assert before.until is not None
    assert abs(before.until - time.time() - 3600) < 60
    assert office.changed == [record.id]
    for overlap in (-1, 30 * 86_400 + 1, True, "1"):
        with pytest.raises(InvalidRequestError) as caught:
            await office.keys.rotate(MASTER, record.id, overlap_seconds=overlap)  # type: ignore[arg-type]
        assert caught.value.param == "overlap_seconds"


async def test_a_key_is_blocked_unblocked_and_revoked_each_once(office: Office, project: Project) -> None:
    record, _ = await make(office, project)
    for act in (office.keys.block, office.keys.block, office.keys.unblock, office.keys.unblock):
        await act(MASTER, record.id)
    assert (await office.keys.block(MASTER, record.id)).blocked_at is not None
    revoked = await office.keys.revoke(MASTER, record.id)
    assert revoked.revoked_at is not None
    assert await office.keys.revoke(MASTER, record.id) == revoked
    assert await office.actions() == [
        "project.create",
        "key.create",
        "key.block",
        "key.unblock",
        "key.block",
        "key.revoke",
    ]
    with pytest.raises(InvalidRequestError, match="revoked"):
        await office.keys.rotate(MASTER, record.id, overlap_seconds=0)
    with pytest.raises(InvalidRequestError, match="revoked"):
        await office.keys.update(MASTER, record.id, {"name": "x"}, version=revoked.version)


async def test_a_key_that_nobody_made_is_not_found(office: Office) -> None:
    keys = office.keys
    for ask in (
        keys.get("key_none"),
        keys.update(MASTER, "key_none", {"name": "x"}, version=1),
        keys.rotate(MASTER, "key_none", overlap_seconds=0),
        keys.block(MASTER, "key_none"),
        keys.revoke(MASTER, "key_none"),
    ):
        with pytest.raises(NotFoundError):
            await ask


async def test_who_may_only_look_changes_nothing(office: Office, project: Project) -> None:
    record, _ = await make(office, project)
    before = await office.audit.list()
    reader = Actor("key_r (reader)", None, can_write=False)
    keys, projects = office.keys, office.projects
    for change in (
        keys.create(reader, project_id=project.id, name="x"),
        keys.update(reader, record.id, {"name": "x"}, version=1),
        keys.rotate(reader, record.id, overlap_seconds=0),
        keys.block(reader, record.id),
        keys.unblock(reader, record.id),
        keys.revoke(reader, record.id),
        projects.create(reader, name="x"),
        projects.update(reader, project.id, {"name": "x"}, version=1),
    ):
        with pytest.raises(PermissionDeniedError) as caught:
            await change
        assert (caught.value.status, caught.value.code) == (403, "insufficient_permissions")
    assert await office.keys.list() == [record]
    assert await office.audit.list() == before


async def test_no_key_makes_or_shows_one_that_may_more_than_itself(office: Office, project: Project) -> None:
    strong, _ = await make(office, project, policy={"scopes": list(SCOPES)})
    weak, _ = await make(office, project, policy={"scopes": ["models"]})
    actor = Actor("key_a (half an administrator)", None, scopes=("admin", "models"))

    async def refused(change: Any) -> None:
        with pytest.raises(ApiError) as caught:
            await change
        assert caught.value.status == 403
        assert "responses" in caught.value.message

    keys = office.keys
    await refused(keys.create(actor, project_id=project.id, name="x"))
    await refused(keys.create(actor, project_id=project.id, name="x", policy={"scopes": ["models", "responses"]}))
    await refused(keys.update(actor, weak.id, {"policy": {"scopes": ["responses"]}}, version=1))
    await refused(keys.rotate(actor, strong.id, overlap_seconds=0))
    # It may do with keys what gives nobody more: take scopes away, keep those that are there, block, revoke.
    await keys.create(actor, project_id=project.id, name="x", policy={"scopes": ["models"]})
    await keys.update(actor, strong.id, {"policy": {"scopes": ["responses", "admin"]}}, version=1)
    await keys.rotate(actor, weak.id, overlap_seconds=0)
    await keys.block(actor, strong.id)


async def test_an_administrator_with_an_end_or_a_place_makes_none_without(office: Office, project: Project) -> None:
    now = int(time.time())
    made, _ = await make(
        office, project, expires_at=now + 100, policy={"scopes": list(SCOPES), "addresses": ["10.0.0.0/8"]}
    )
    free, _ = await make(office, project, policy={"scopes": ["admin:read"]})
    actor = Actor("key_a", None, scopes=SCOPES, expires_at=made.expires_at, addresses=made.policy.addresses)

    async def refused(param: str, change: Any) -> None:
        with pytest.raises(PermissionDeniedError) as caught:
            await change
        assert (caught.value.status, caught.value.param) == (403, param)

    def policy(scope: str, *addresses: str) -> dict[str, Any]:
        return {"scopes": [scope], "addresses": addresses}

    keys = office.keys
    bounds: dict[str, Any] = {"name": "x", "project_id": project.id}
    await refused("expires_at", keys.create(actor, policy=policy("admin", "10.0.0.0/8"), **bounds))
    for addresses in ((), ("10.0.0.1", "192.0.2.1"), ("0.0.0.0/0",), ("::/0",)):
        change = keys.create(actor, policy=policy("admin:read", *addresses), expires_at=now + 90, **bounds)
        await refused("policy.addresses", change)
    # Nor of itself, nor by showing another.
    await refused("expires_at", keys.update(actor, made.id, {"expires_at": None}, version=1))
    await refused("policy.addresses", keys.update(actor, made.id, {"policy": policy("admin")}, version=1))
    await refused("expires_at", keys.rotate(actor, free.id, overlap_seconds=0))
    assert await keys.get(made.id) == made
    # Clients' keys it makes as it likes, and those that may no more than it.
    await keys.create(actor, **bounds)
    await keys.create(actor, policy=policy("admin", "10.1.0.0/16", "10.2.3.4"), expires_at=now + 90, **bounds)
    await keys.update(actor, free.id, {"policy": policy("models")}, version=1)
    await keys.rotate(actor, made.id, overlap_seconds=0)


async def test_of_two_administrators_on_two_replicas_one_is_told_to_look_again(
    replicas: tuple[Office, Office],
) -> None:
    here, there = replicas
    project = await here.projects.create(MASTER, name="team")
    record, _ = await make(here, project)
    for version in range(1, 6):
        outcomes = await asyncio.gather(
            *(
                office.keys.update(MASTER, record.id, {"name": f"{place} {version}"}, version=version)
                for place, office in (("here", here), ("there", there))
            ),
            return_exceptions=True,
        )
        (kept,) = [outcome for outcome in outcomes if isinstance(outcome, ApiKey)]
        (refused,) = [outcome for outcome in outcomes if isinstance(outcome, ConflictError)]
        assert (refused.param, kept.version) == ("version", version + 1)
        assert await there.keys.get(record.id) == kept
    assert (await here.actions()).count("key.update") == 5


async def test_there_is_an_administrator_while_one_key_is_good_for_it(office: Office, project: Project) -> None:
    keys = office.keys
    await make(office, project)
    await make(office, project, policy={"scopes": ["admin:read"]})
    assert not await keys.has_administrator()
    admin, _ = await make(office, project, policy={"scopes": ["admin"]})
    assert await keys.has_administrator()
    await keys.block(MASTER, admin.id)
    assert not await keys.has_administrator()
    await keys.unblock(MASTER, admin.id)
    assert await keys.has_administrator()
    await keys.revoke(MASTER, admin.id)
    assert not await keys.has_administrator()
