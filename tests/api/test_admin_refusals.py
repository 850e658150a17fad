"""What the administration refuses: whom, and which bodies and queries, in OpenAI's shape."""

from typing import Any

import pytest

from app.api.admin.admin_routes import ADMIN
from tests.fakes.administrator import MASTER_KEY, Administrator

# What attackers of other gateways sent along (CVE-2026-47101, CVE-2026-47102, CVE-2026-35029).
SMUGGLED: tuple[dict[str, Any], ...] = (
    {"role": "admin"},
    {"team_id": "team_1"},
    {"is_admin": True},
    {"budget": 1e9},
    {"scopes": ["admin"]},
    {"allowed_routes": ["*"]},
    {"allowed_models": ["*"]},
    {"id": "key_1"},
    {"key": "sk-aph_mine"},
    {"key_hash": "00"},
    {"hint": "abcd"},
    {"state": "active"},
    {"created_at": 1},
    {"revoked_at": None},
    {"blocked_at": None},
    {"last_used_at": 1},
    {"object": "api_key"},
)


@pytest.mark.parametrize("smuggled", SMUGGLED, ids=lambda members: next(iter(members)))
async def test_a_member_that_is_not_to_be_given_is_refused_by_name(
    sqlite_admin: Administrator, smuggled: dict[str, Any]
) -> None:
    (name,) = smuggled
    project = await sqlite_admin.project()
    key = await sqlite_admin.key(project)
    paths = [f"/projects/{project['id']}", f"/keys/{key['id']}"]
    before = [await sqlite_admin.ask("GET", path) for path in paths]
    forms = [
        ("POST", "/projects", {"name": "x"}, ""),
        ("POST", "/keys", {"name": "x", "project_id": project["id"]}, ""),
        ("PATCH", paths[0], {"version": 1}, ""),
        ("PATCH", paths[1], {"version": 1}, ""),
        ("POST", f"{paths[1]}/rotate", {"overlap_seconds": 0}, ""),
        ("POST", f"{paths[1]}/block", {}, ""),
        ("POST", f"{paths[1]}/revoke", {}, ""),
        ("PATCH", paths[0], {"version": 1, "policy": {}}, "policy"),
        ("PATCH", paths[1], {"version": 1, "policy": {"limits": {}}}, "policy.limits"),
        ("POST", "/projects", {"name": "x", "policy": {"limits": {}}}, "policy.limits"),
        ("POST", "/accounts/demo/none/disable", {}, ""),
        ("POST", "/accounts/demo/none/test", {}, ""),
    ]
    for method, path, form, place in forms:
        assert await sqlite_admin.refused(method, path, put(form, place, smuggled)) == f"{place}.{name}".lstrip(".")
    assert [await sqlite_admin.ask("GET", path) for path in paths] == before
    assert len((await sqlite_admin.ask("GET", "/audit"))["data"]) == 2


def put(form: dict[str, Any], place: str, members: dict[str, Any]) -> dict[str, Any]:
    """The form with these members at the place ("policy.limits"), beside what stands there."""
    name, _, rest = place.partition(".")
    return {**form, name: put(form[name], rest, members)} if name else {**form, **members}


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"name": 1}, "name"),
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"owner": ["ada"]}, "owner"),
        ({"tags": "ci"}, "tags"),
        ({"tags": [1]}, "tags[0]"),
        ({"tags": ["x"] * 17}, "tags"),
        ({"expires_at": 1}, "expires_at"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"expires_at": True}, "expires_at"),
        ({"expires_at": 1e300}, "expires_at"),
        ({"policy": None}, "policy"),
        ({"policy": {"scopes": ["root"]}}, "policy.scopes[0]"),
        ({"policy": {"scopes": []}}, "policy.scopes"),
        ({"policy": {"models": []}}, "policy.models"),
        ({"policy": {"addresses": ["everywhere"]}}, "policy.addresses[0]"),
        ({"policy": {"limits": {"requests_per_minute": 0}}}, "policy.limits.requests_per_minute"),
        ({"policy": {"limits": {"requests_per_minute": 1.5}}}, "policy.limits.requests_per_minute"),
        ({"policy": {"limits": {"budgets": [{"tokens": 1}]}}}, "policy.limits.budgets[0].period"),
        ({"policy": {"limits": {"budgets": [{"period": "year"}]}}}, "policy.limits.budgets[0].period"),
        ({"policy": {"limits": {"budgets": [{"period": "day", "usd": -1}]}}}, "policy.limits.budgets[0].usd"),
    ],
)
async def test_a_member_of_the_wrong_kind_is_refused_by_its_path(
    sqlite_admin: Administrator, members: dict[str, Any], param: str
) -> None:
    project = await sqlite_admin.project()
    body = {"name": "x", "project_id": project["id"], **members}
    assert await sqlite_admin.refused("POST", "/keys", body) == param


async def test_what_is_missing_is_named(sqlite_admin: Administrator) -> None:
    assert await sqlite_admin.refused("POST", "/keys", {"name": "x"}) == "project_id"
    assert await sqlite_admin.refused("PATCH", "/keys/key_x", {"name": "x"}) == "version"
    assert await sqlite_admin.refused("POST", "/keys/key_x/rotate", {}) == "overlap_seconds"


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=many", "limit"),
        ("limit=1e2", "limit"),
        ("after=" + "x" * 201, "after"),
        ("order=asc", "order"),
        ("offset=5", "offset"),
    ],
)
async def test_a_query_outside_its_form_is_refused(sqlite_admin: Administrator, query: str, param: str) -> None:
    for path in ("/projects", "/keys", "/audit", "/usage/entries"):
        if (path, param) != ("/usage/entries", "after"):
            assert await sqlite_admin.refused("GET", f"{path}?{query}") == param


async def test_what_is_searched_for_is_no_pattern(admin: Administrator) -> None:
    project = await admin.project("100%_team")
    await admin.key(project)
    for sought in ("%25", "_", "%00", "%FF", "'%20OR%201=1--", "x" * 200):
        for path in (f"/keys?project={sought}", f"/keys?after={sought}", f"/audit?subject={sought}"):
            assert (await admin.ask("GET", path))["data"] == [], path
        for name in ("project", "key", "model", "upstream"):
            assert (await admin.ask("GET", f"/usage?group_by=key&{name}={sought}"))["data"] == []
        assert await admin.refused("GET", f"/keys/{sought}", status=404) == "key_id"
        assert await admin.refused("GET", f"/projects/{sought}", status=404) == "project_id"


async def test_a_refused_change_leaves_no_record(sqlite_admin: Administrator) -> None:
    project = await sqlite_admin.project()
    key = await sqlite_admin.key(project)
    looker = await sqlite_admin.key(project, "looker", policy={"scopes": ["admin:read"]})
    before = await sqlite_admin.ask("GET", "/audit")
    path = f"/keys/{key['id']}"
    for method, at, body, status, by in (
        ("POST", "/keys", {"project_id": project["id"], "name": ""}, 400, MASTER_KEY),
        ("POST", "/keys", {"project_id": "proj_x", "name": "x"}, 404, MASTER_KEY),
        ("PATCH", path, {"version": 7, "name": "x"}, 409, MASTER_KEY),
        ("POST", "/projects", {"name": "team"}, 409, MASTER_KEY),
        ("POST", f"{path}/revoke", None, 403, looker["key"]),
        ("POST", f"{path}/revoke", {"role": "admin"}, 400, MASTER_KEY),
        ("DELETE", "/upstreams/nowhere", None, 404, MASTER_KEY),
        ("POST", "/accounts/nowhere/none/disable", None, 404, MASTER_KEY),
    ):
        await sqlite_admin.refused(method, at, body, status=status, key=by)
    assert await sqlite_admin.ask("GET", "/audit") == before


async def test_a_body_that_is_no_json_object_is_refused(sqlite_admin: Administrator) -> None:
    for body, status in ((b"", 400), (b"{", 400), (b"[]", 400), (b'"x"', 400), (b'{"name":"\xff"}', 400)):
        headers = {"authorization": "Bearer the master key of these tests", "content-type": "application/json"}
        answer = await sqlite_admin.client.post("/admin/v1/projects", content=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["type"]) == (status, "invalid_request_error"), body
    answer = await sqlite_admin.client.post(
        "/admin/v1/projects", content=b"{}", headers={"authorization": "Bearer the master key of these tests"}
    )
    assert answer.status_code == 415


async def test_every_route_asks_who_administers(sqlite_admin: Administrator) -> None:
    client = (await sqlite_admin.key(await sqlite_admin.project()))["key"]
    for method, path, _ in ADMIN:
        for key, status in ((None, 401), ("sk-wrong", 401), (client, 403)):
            answer = await sqlite_admin.answer(method, path, {"version": 1}, key=key)
            assert answer.status_code == status, (method, path, key)
            assert answer.json()["error"].keys() == {"message", "type", "param", "code"}


async def test_one_who_may_look_may_not_write(sqlite_admin: Administrator) -> None:
    project = await sqlite_admin.project()
    looker = await sqlite_admin.key(project, "looker", policy={"scopes": ["admin:read"]})
    other = await sqlite_admin.key(project, "other")
    for path in ("/projects", "/keys", "/audit", "/usage", "/usage/entries", "/settings", "/upstreams"):
        await sqlite_admin.ask("GET", path, key=looker["key"])
    for method, path, body in (
        ("POST", "/projects", {"name": "mine"}),
        ("PATCH", f"/projects/{project['id']}", {"version": 1, "name": "mine"}),
        ("POST", "/keys", {"project_id": project["id"], "name": "mine"}),
        ("PATCH", f"/keys/{looker['id']}", {"version": 1, "policy": {"scopes": ["admin"]}}),
        ("POST", f"/keys/{other['id']}/rotate", {"overlap_seconds": 0}),
        ("POST", f"/keys/{other['id']}/block", None),
        ("POST", f"/keys/{other['id']}/unblock", None),
        ("POST", f"/keys/{other['id']}/revoke", None),
        ("POST", "/upstreams", {"name": "mine", "base_url": "https://mine.example/v1"}),
        ("POST", "/accounts/demo/none/disable", None),
        ("POST", "/accounts/demo/none/test", None),
    ):
        refused = await sqlite_admin.refused(method, path, body, status=403, key=looker["key"])
        assert refused in {"insufficient_permissions", "policy.scopes"}, path


async def test_no_key_makes_one_that_may_more_than_itself(sqlite_admin: Administrator) -> None:
    project = await sqlite_admin.project()
    maker = await sqlite_admin.key(project, "maker", policy={"scopes": ["admin", "admin:read", "models"]})
    made = await sqlite_admin.ask(
        "POST",
        "/keys",
        {"project_id": project["id"], "name": "weak", "policy": {"scopes": ["models"]}},
        status=201,
        key=maker["key"],
    )
    stronger = {"project_id": project["id"], "name": "strong", "policy": {"scopes": ["responses"]}}
    assert await sqlite_admin.refused("POST", "/keys", stronger, status=403, key=maker["key"]) == "policy.scopes"
    change = {"version": 1, "policy": {"scopes": ["responses"]}}
    refused = await sqlite_admin.refused("PATCH", f"/keys/{made['id']}", change, status=403, key=maker["key"])
    assert refused == "policy.scopes"
