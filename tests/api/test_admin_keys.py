"""Projects and keys over HTTP: made, read, changed, ended; and the log of it."""

import time
from typing import Any

from app.state.policies import CLIENT_SCOPES
from tests.fakes.administrator import Administrator, administering

DAY = 86_400


async def test_a_project_is_made_read_and_changed(admin: Administrator) -> None:
    policy = {"models": ["gpt-*"], "limits": {"requests_per_minute": 60, "budgets": [{"period": "day", "usd": 5}]}}
    made = await admin.project("research", retention_days=7, policy=policy)
    assert (made["object"], made["name"], made["retention_days"], made["version"]) == ("project", "research", 7, 1)
    assert made["policy"]["models"] == ["gpt-*"]
    assert made["policy"]["limits"] == {
        "requests_per_minute": 60,
        "tokens_per_minute": None,
        "concurrent_streams": None,
        "max_output_tokens": None,
        "budgets": [{"period": "day", "tokens": None, "usd": 5.0}],
    }
    assert await admin.ask("GET", f"/projects/{made['id']}") == made
    changed = await admin.ask("PATCH", f"/projects/{made['id']}", {"version": 1, "retention_days": None})
    assert changed == {**made, "retention_days": None, "version": 2}
    assert (await admin.ask("GET", "/projects"))["data"] == [changed]


async def test_what_was_read_of_a_policy_can_be_sent_back(sqlite_admin: Administrator) -> None:
    project = await sqlite_admin.project(policy={"models": ["a"]})
    key = await sqlite_admin.key(project, policy={"scopes": ["models"], "limits": {"tokens_per_minute": 5}})
    for path, made in ((f"/projects/{project['id']}", project), (f"/keys/{key['id']}", key)):
        sent = await sqlite_admin.ask("PATCH", path, {"version": 1, "policy": made["policy"]})
        assert (sent["policy"], sent["version"]) == (made["policy"], 1)


async def test_a_name_that_is_taken_is_a_conflict(sqlite_admin: Administrator) -> None:
    await sqlite_admin.project("research")
    assert await sqlite_admin.refused("POST", "/projects", {"name": "research"}, status=409) == "name"


async def test_a_key_is_shown_in_the_answer_that_makes_it_and_in_no_other(admin: Administrator) -> None:
    made = await admin.key(await admin.project(), owner="ada", tags=["ci"], expires_at=int(time.time()) + DAY)
    key = made.pop("key")
    assert key.startswith("sk-aph_")
    assert (made["object"], made["state"], made["hint"], made["owner"], made["tags"]) == (
        "api_key",
        "active",
        key[-4:],
        "ada",
        ["ci"],
    )
    assert made["policy"]["scopes"] == [*CLIENT_SCOPES]
    assert await admin.ask("GET", f"/keys/{made['id']}") == made
    for path in ("/keys", "/audit"):
        answer = await admin.answer("GET", path)
        assert key not in answer.text
        assert answer.headers["cache-control"] == "no-store"
    assert (await admin.ask("GET", "/keys"))["data"] == [made]


async def test_a_key_is_changed_blocked_unblocked_rotated_and_revoked(admin: Administrator) -> None:
    made = await admin.key(await admin.project())
    path = f"/keys/{made['id']}"
    changed = await admin.ask("PATCH", path, {"version": 1, "name": "desk", "policy": {"models": ["gpt-5*"]}})
    assert (changed["name"], changed["policy"]["models"], changed["version"]) == ("desk", ["gpt-5*"], 2)
    assert (await admin.ask("POST", f"{path}/block"))["state"] == "blocked"
    assert (await admin.ask("POST", f"{path}/unblock", {}))["state"] == "active"
    rotated = await admin.ask("POST", f"{path}/rotate", {"overlap_seconds": 60})
    assert rotated["key"] != made["key"]
    assert rotated["hint"] == rotated["key"][-4:]
    assert (await admin.ask("POST", f"{path}/revoke"))["state"] == "revoked"
    records = (await admin.ask("GET", f"/audit?subject={made['id']}"))["data"]
    actions = ["key.revoke", "key.rotate", "key.unblock", "key.block", "key.update", "key.create"]
    assert [record["action"] for record in records] == actions
    assert {record["actor"] for record in records} == {"master key"}
    assert records[4]["details"]["name"] == {"from": "laptop", "to": "desk"}


async def test_an_administrator_that_is_revoked_is_one_nowhere_and_neither_are_those_it_made(
    admin: Administrator, database_url: str
) -> None:
    project = await admin.project()
    policy = {"scopes": ["responses", "conversations", "models", "usage", "admin"]}
    first = await admin.key(project, policy=policy)
    body = {"project_id": project["id"], "name": "made by it"}
    async with administering(database_url) as elsewhere:
        made = await elsewhere.ask("POST", "/keys", {**body, "policy": policy}, status=201, key=first["key"])
        client = await elsewhere.ask("POST", "/keys", body, status=201, key=first["key"])
        assert (made["granted_by"], client["granted_by"]) == (first["id"], None)
        await elsewhere.ask("GET", "/keys", key=made["key"])
        await admin.ask("POST", f"/keys/{first['id']}/revoke")
        # Another process, which has read both keys a moment ago, asks again for who administers.
        for key in (first, made):
            assert await elsewhere.refused("POST", "/keys", body, status=401, key=key["key"]) == "invalid_api_key"
            assert await elsewhere.refused("GET", "/keys", status=401, key=key["key"]) == "invalid_api_key"
    states = {key["id"]: key["state"] for key in (await admin.ask("GET", "/keys"))["data"]}
    assert states == {first["id"]: "revoked", made["id"]: "revoked", client["id"]: "active"}


async def test_the_key_before_a_rotation_makes_nothing_that_outlives_its_overlap(admin: Administrator) -> None:
    policy = {"scopes": ["responses", "conversations", "models", "usage", "admin"]}
    before = await admin.key(await admin.project(), policy=policy)
    path = f"/keys/{before['id']}/rotate"
    await admin.ask("POST", path, {"overlap_seconds": 3600})
    old = before["key"]
    body = {"project_id": before["project_id"], "name": "made by it", "policy": policy}
    assert await admin.refused("POST", "/keys", body, status=403, key=old) == "expires_at"
    assert await admin.refused("POST", path, {"overlap_seconds": 3600}, status=403, key=old) == "expires_at"
    made = await admin.ask("POST", "/keys", {**body, "expires_at": int(time.time()) + 60}, status=201, key=old)
    assert made["granted_by"] == before["id"]


async def test_of_two_administrators_who_edit_the_second_is_told(admin: Administrator) -> None:
    project = await admin.project()
    key = await admin.key(project)
    for path, change in ((f"/keys/{key['id']}", {"name": "x"}), (f"/projects/{project['id']}", {"retention_days": 3})):
        await admin.ask("PATCH", path, {"version": 1, **change})
        other = {name: "y" if name == "name" else 4 for name in change}
        assert await admin.refused("PATCH", path, {"version": 1, **other}, status=409) == "version"
        assert change.items() <= (await admin.ask("GET", path)).items()


async def test_lists_are_read_page_by_page_each_entry_once(admin: Administrator) -> None:
    project = await admin.project("first")
    await admin.project("second")
    made = [(await admin.key(project, f"key {number}"))["id"] for number in range(5)]
    for path, size in (("/keys", 2), (f"/keys?project={project['id']}", 2), ("/audit", 3), ("/projects", 1)):
        pages = await read_pages(admin, path, size)
        found = [entry["id"] for page in pages for entry in page["data"]]
        assert len(found) == len(set(found)) == {"/audit": 7, "/projects": 2}.get(path, 5)
        assert all(len(page["data"]) == size for page in pages[:-1])
        assert "/keys" not in path or sorted(found) == sorted(made)


async def read_pages(admin: Administrator, path: str, size: int) -> list[dict[str, Any]]:
    pages: list[dict[str, Any]] = []
    after = ""
    while not pages or pages[-1]["has_more"]:
        sign = "&" if "?" in path else "?"
        page = await admin.ask("GET", f"{path}{sign}limit={size}{after}")
        assert page["object"] == "list"
        assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
        pages.append(page)
        after = f"&after={page['last_id']}"
    return pages


async def test_an_empty_list_is_one(sqlite_admin: Administrator) -> None:
    empty: dict[str, Any] = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert await sqlite_admin.ask("GET", "/keys?project=proj_unknown") == empty


async def test_what_there_is_not_is_not_found(sqlite_admin: Administrator) -> None:
    for method, path, body in (
        ("GET", "/projects/proj_x", None),
        ("PATCH", "/projects/proj_x", {"version": 1, "name": "x"}),
        ("GET", "/keys/key_x", None),
        ("PATCH", "/keys/key_x", {"version": 1, "name": "x"}),
        ("POST", "/keys/key_x/rotate", {"overlap_seconds": 0}),
        ("POST", "/keys/key_x/revoke", None),
        ("POST", "/keys", {"project_id": "proj_x", "name": "x"}),
    ):
        assert await sqlite_admin.refused(method, path, body, status=404) in {"project_id", "key_id"}, path
