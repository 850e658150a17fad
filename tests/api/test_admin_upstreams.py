"""Upstreams over HTTP: made, given keys, tested, drained, ended; and the settings in effect."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from app.settings.upstreams import KeySettings, UpstreamSettings
from tests.fakes.administrator import MASTER_KEY, SECRET, Administrator, administering
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.slow_on_postgresql

CONFIGURED_KEY = "sk-configured-0123456789"
STORED_KEY = "sk-stored-0123456789-wxyz"


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture
async def desk(database_url: str, upstream: FakeUpstream) -> AsyncIterator[Administrator]:
    """An administrator of a gateway with one upstream in its configuration, who may add others on this machine."""
    configured = UpstreamSettings(
        name="configured", base_url=upstream.url, keys=(KeySettings(secret=SecretStr(CONFIGURED_KEY), name="one"),)
    )
    async with administering(database_url, (configured,), {"allow_private_upstreams": True}) as admin:
        yield admin


async def shown(desk: Administrator, name: str) -> dict[str, Any]:
    """The upstream as the list has it, once this process has taken over what was changed."""
    listed = (await desk.ask("GET", "/upstreams"))["data"]
    found: dict[str, Any] = next(each for each in listed if each["name"] == name)
    return found


async def test_an_upstream_that_speaks_chat_keeps_what_was_said_of_it(
    desk: Administrator, upstream: FakeUpstream
) -> None:
    # The value of a default is said all the same: the host may be known for another.
    body = {
        "name": "chatting",
        "base_url": upstream.url,
        "api": "chat",
        "chat": {"include_usage": True, "omit": ["seed"]},
    }
    made = await desk.ask("POST", "/upstreams", body, status=201)
    assert body.items() <= made.items()
    kept = await desk.ask("PATCH", "/upstreams/chatting", {"version": 1, "tier": 3})
    assert kept["chat"] == body["chat"]
    change = {"version": 2, "chat": {"system_role": "developer"}}
    assert (await desk.ask("PATCH", "/upstreams/chatting", change))["chat"] == {"system_role": "developer"}
    assert await desk.refused("PATCH", "/upstreams/chatting", {"version": 3, "endpoints": ["compact"]}) == "endpoints"
    assert (
        await desk.refused("PATCH", "/upstreams/chatting", {"version": 3, "chat": {"omit": ["a b"]}}) == "chat.omit[0]"
    )


async def test_what_is_configured_is_shown_and_changed_in_the_configuration_alone(desk: Administrator) -> None:
    found = await shown(desk, "configured")
    (account,) = found["accounts"]
    assert (found["source"], found["version"], account["source"], account["state"]) == (
        "config",
        None,
        "config",
        "usable",
    )
    assert (account["key_name"], account["key_id"], account["hint"], account["models"]) == ("one", None, None, [])
    assert await desk.refused("PATCH", "/upstreams/configured", {"version": 1, "tier": 3}, status=409) == "name"
    assert await desk.refused("DELETE", "/upstreams/configured", status=409) == "name"
    body = {"name": "configured", "base_url": "https://example.org/v1"}
    assert await desk.refused("POST", "/upstreams", body, status=409) == "name"


async def test_an_upstream_is_made_changed_and_deleted(desk: Administrator, upstream: FakeUpstream) -> None:
    body = {"name": "second", "base_url": upstream.url, "models": ["demo-*"], "aliases": {"fast": "demo-small"}}
    made = await desk.ask("POST", "/upstreams", body, status=201)
    assert body.items() <= made.items()
    change = {"version": made["version"], "models": ["*"]}
    changed = await desk.ask("PATCH", "/upstreams/second", change)
    assert (changed["models"], changed["aliases"], changed["version"]) == (["*"], {"fast": "demo-small"}, 2)
    for version in (1, -1, 2**63):
        assert await desk.refused("PATCH", "/upstreams/second", {**change, "version": version}, status=409) == "version"
    # What is no change makes no new version, and is not recorded.
    assert await desk.ask("PATCH", "/upstreams/second", {"version": 2, "models": ["*"]}) == changed
    assert (await desk.ask("DELETE", "/upstreams/second"))["deleted"]
    assert await desk.refused("DELETE", "/upstreams/second", status=404) == "name"
    records = (await desk.ask("GET", "/audit?subject=second"))["data"]
    assert [record["action"] for record in records] == ["upstream.delete", "upstream.update", "upstream.create"]
    assert records[1]["details"] == {"models": {"from": ["demo-*"], "to": None}}


async def test_a_key_goes_to_no_other_host_than_it_was_given_for(desk: Administrator, upstream: FakeUpstream) -> None:
    made = await desk.ask("POST", "/upstreams", {"name": "second", "base_url": upstream.url}, status=201)
    key = await desk.ask("POST", "/upstreams/second/keys", {"secret": STORED_KEY}, status=201)
    away = {"version": made["version"], "base_url": "https://example.org/v1"}
    assert await desk.refused("PATCH", "/upstreams/second", away, status=409) == "base_url"
    elsewhere = {"version": made["version"], "base_url": f"{upstream.url}/other"}
    assert (await desk.ask("PATCH", "/upstreams/second", elsewhere))["base_url"] == elsewhere["base_url"]
    await desk.ask("DELETE", f"/upstreams/second/keys/{key['id']}")
    assert (await desk.ask("PATCH", "/upstreams/second", {**away, "version": 2}))["version"] == 3


async def test_keys_of_an_upstream_that_the_configuration_had_wait_for_it_alone(
    database_url: str, upstream: FakeUpstream
) -> None:
    configured = UpstreamSettings(name="configured", base_url=upstream.url)
    async with administering(database_url, (configured,)) as admin:
        key = await admin.ask("POST", "/upstreams/configured/keys", {"secret": STORED_KEY}, status=201)
    async with administering(database_url) as admin:
        body = {"name": "configured", "base_url": "https://example.org/v1"}
        assert await admin.refused("POST", "/upstreams", body, status=409) == "name"
        await admin.ask("DELETE", f"/upstreams/configured/keys/{key['id']}")
        await admin.ask("POST", "/upstreams", body, status=201)


async def test_a_key_goes_in_and_never_comes_out(desk: Administrator) -> None:
    body = {"secret": STORED_KEY, "name": "two", "weight": 2, "tier": 1, "quota_group": "org"}
    made = await desk.ask("POST", "/upstreams/configured/keys", body, status=201)
    assert (made["upstream"], made["name"], made["hint"]) == ("configured", "two", "wxyz")
    assert await desk.refused("POST", "/upstreams/configured/keys", body, status=409) == "secret"
    answers = [(await desk.answer("GET", path)).text for path in ("/upstreams", "/audit", "/settings")]
    secrets = (STORED_KEY, CONFIGURED_KEY, MASTER_KEY, SECRET.decode())
    assert [secret for secret in secrets for answer in (*answers, str(made)) if secret in answer] == []
    removed = f"/upstreams/configured/keys/{made['id']}"
    assert (await desk.ask("DELETE", removed))["deleted"]
    assert await desk.refused("DELETE", removed, status=404) == "key_id"
    assert await desk.refused("POST", "/upstreams/nowhere/keys", body, status=404) == "name"


async def test_an_account_is_tested_with_its_own_key(desk: Administrator, upstream: FakeUpstream) -> None:
    name = (await shown(desk, "configured"))["accounts"][0]["name"]
    upstream.enqueue(Reply.error(401))
    for is_taken, status in ((False, 401), (True, 200)):
        result = await desk.ask("POST", f"/accounts/{name}/test")
        assert (result["object"], result["account"], result["ok"]) == ("account.test", name, is_taken)
        assert result["status"] == status
    assert upstream.requests[0].headers["authorization"] == f"Bearer {CONFIGURED_KEY}"


async def test_an_account_is_drained_disabled_and_enabled(desk: Administrator) -> None:
    name = (await shown(desk, "configured"))["accounts"][0]["name"]
    for verb, control in (("drain", "draining"), ("disable", "disabled"), ("enable", "enabled")):
        # The second time there is nothing to change, nor to record.
        for _ in range(2):
            done = await desk.ask("POST", f"/accounts/{name.replace('/', '%2F')}/{verb}")
            assert done == {"object": "account", "name": name, "control": control}
    records = (await desk.ask("GET", f"/audit?subject={name}"))["data"]
    assert [record["action"] for record in records] == ["account.enabled", "account.disabled", "account.draining"]
    for verb in ("test", "drain", "disable", "enable"):
        assert await desk.refused("POST", f"/accounts/configured/nothing/{verb}", status=404) == "account"


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"keys": ["sk-x"]}, "keys"),
        ({"role": "admin"}, "role"),
        ({"version": 1}, "version"),
        ({"name": "Not A Name"}, "name"),
        ({"base_url": "ftp://example.org"}, "base_url"),
        ({"base_url": "https://user:secret@example.org"}, "base_url"),
        ({"base_url": "http://169.254.169.254/latest"}, "base_url"),
        ({"tier": "first"}, "tier"),
        ({"tier": -1}, "tier"),
        ({"tier": 2**63}, "tier"),
        ({"base_url": "https://example.org/" + "x" * 10_240}, "base_url"),
        ({"models": ["x" * 201]}, "models[0]"),
        ({"models": ["*", "a\x00"]}, "models[1]"),
        ({"models": [""]}, "models[0]"),
        ({"strip": ["a b"]}, "strip[0]"),
        ({"aliases": {"fast": "a\r\nb"}}, "aliases.fast"),
        ({"models": []}, "models"),
        ({"models": "*"}, "models"),
        ({"aliases": {"fast": 1}}, "aliases.fast"),
        ({"state": "elsewhere"}, "state"),
        ({"endpoints": ["files"]}, "endpoints[0]"),
    ],
)
async def test_an_upstream_of_another_form_is_refused(
    sqlite_admin: Administrator, members: dict[str, Any], param: str
) -> None:
    body = {"name": "second", "base_url": "https://example.org/v1", **members}
    assert await sqlite_admin.refused("POST", "/upstreams", body) == param


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"secret": "two words"}, "secret"),
        ({"secret": ""}, "secret"),
        ({"secret": None}, "secret"),
        ({"secret": "sk-" + "x" * 10_240}, "secret"),
        ({"organization": "x" * 10_240}, "organization"),
        ({"tokens_per_minute": 10**15}, "tokens_per_minute"),
        ({"tier": 2**63}, "tier"),
        ({"weight": 0}, "weight"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"concurrency": 1.5}, "concurrency"),
        ({"organization": "a\r\nb"}, "organization"),
        ({"is_admin": True}, "is_admin"),
    ],
)
async def test_a_key_of_another_form_is_refused_and_not_quoted(
    desk: Administrator, members: dict[str, Any], param: str
) -> None:
    body = {"secret": STORED_KEY, **members}
    answer = await desk.answer("POST", "/upstreams/configured/keys", body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert STORED_KEY not in answer.text
    assert "two words" not in answer.text


async def test_an_upstream_on_this_machine_is_for_the_operator_to_allow(sqlite_admin: Administrator) -> None:
    for url in ("http://127.0.0.1:9/v1", "http://10.0.0.1/v1", "http://[::ffff:127.0.0.1]/v1", "http://2130706433/v1"):
        assert await sqlite_admin.refused("POST", "/upstreams", {"name": "second", "base_url": url}) == "base_url"


async def test_settings_are_shown_with_their_source_and_without_secrets(sqlite_admin: Administrator) -> None:
    settings = {each["name"]: each for each in (await sqlite_admin.ask("GET", "/settings"))["data"]}
    assert (settings["server.admin_key"]["value"], settings["storage.database_url"]["value"]) == ("***", "***")
    assert settings["server.port"] == {"object": "setting", "name": "server.port", "value": 8000, "source": "default"}
