"""Upstreams and keys of administrators: they serve at once, are sealed at rest, and outlive a change of secret."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.forked import ForkedGateway
from tests.fakes.gateway import SECRET, GatewayProcess
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live

SECONDS = 60.0
MASTER_KEY = "a master key for administration"
STORED = "sk-canary-stored-upstream-key"
OTHER_SECRET = "another secret of sixteen characters"


class Admin:
    """A gateway process, and its administrator."""

    def __init__(self, folder: Path, upstream: FakeUpstream, **environment: str) -> None:
        self.folder = folder
        self.upstream = upstream
        self.gateway = self.process(**environment)

    def process(self, **environment: str) -> GatewayProcess:
        defaults = {"ANTIPHON_ADMIN_KEY": MASTER_KEY, "ANTIPHON_ALLOW_PRIVATE_UPSTREAMS": "true"}
        return ForkedGateway(self.folder, {**defaults, **environment})

    async def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, status: int = 200
    ) -> dict[str, Any]:
        async with httpx.AsyncClient(base_url=f"{self.gateway.url}/admin/v1", timeout=SECONDS) as client:
            answer = await client.request(method, path, json=body, headers={"authorization": f"Bearer {MASTER_KEY}"})
        assert answer.status_code == status, answer.text
        assert STORED not in answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def make(self) -> dict[str, Any]:
        """The upstream `team` with a stored key; returns the key as it is shown."""
        await self.ask("POST", "/upstreams", {"name": "team", "base_url": self.upstream.url, "models": ["demo"]}, 201)
        return await self.ask("POST", "/upstreams/team/keys", {"secret": STORED, "name": "first"}, 201)

    async def call(self) -> str:
        """The upstream key that a call came with, once the gateway has heard of it."""

        def create() -> None:
            with self.gateway.client() as client:
                client.responses.create(model="demo", input="Hello!")

        before = len(self.upstream.requests)
        await asyncio.to_thread(create)
        calls = self.upstream.requests[before:]
        return calls[-1].headers.get("authorization", "").removeprefix("Bearer ") if calls else ""

    async def until_called_with(self, key: str) -> None:
        async with asyncio.timeout(SECONDS):
            while await self.call() != key:
                await asyncio.sleep(0.05)


@pytest.fixture
async def admin(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[Admin]:
    admin = Admin(tmp_path, upstream)
    await asyncio.to_thread(admin.gateway.start)
    yield admin
    await asyncio.to_thread(admin.gateway.stop)


async def test_a_stored_key_serves_without_a_restart_and_is_plain_nowhere(admin: Admin) -> None:
    assert await admin.call() == ""
    key = await admin.make()
    assert key["hint"] == STORED[-4:]
    await admin.until_called_with(STORED)
    (listed,) = (await admin.ask("GET", "/upstreams"))["data"]
    assert (listed["name"], listed["source"]) == ("team", "database")
    (account,) = listed["accounts"]
    assert (account["name"], account["key_id"], account["state"]) == (key["account"], key["id"], "usable")
    assert (await admin.ask("POST", f"/accounts/{key['account']}/test"))["ok"]
    await admin.ask("DELETE", f"/upstreams/team/keys/{key['id']}")
    await admin.until_called_with("")
    actions = [record["action"] for record in (await admin.ask("GET", "/audit"))["data"]]
    assert actions[:3] == ["upstream_key.delete", "upstream_key.create", "upstream.create"]
    for file in admin.folder.rglob("*"):
        if file.is_file():
            assert STORED.encode() not in file.read_bytes(), file


@pytest.mark.slow
async def test_a_stored_key_joins_those_of_the_configuration(tmp_path: Path, upstream: FakeUpstream) -> None:
    (tmp_path / "antiphon.toml").write_text(f'[[upstream]]\nname = "fake"\nbase_url = "{upstream.url}"\n')
    admin = Admin(tmp_path, upstream, ANTIPHON_CONFIG=str(tmp_path / "antiphon.toml"))
    await asyncio.to_thread(admin.gateway.start)
    try:
        assert await admin.call() == ""
        await admin.ask("POST", "/upstreams/fake/keys", {"secret": STORED}, 201)
        await admin.until_called_with(STORED)
        await admin.ask("POST", "/upstreams/fake/keys", {"secret": STORED}, 409)
        await admin.ask("DELETE", "/upstreams/fake", status=409)
        await admin.ask("POST", "/upstreams", {"name": "fake", "base_url": upstream.url}, 409)
        await admin.ask("POST", "/upstreams/none/keys", {"secret": STORED}, 404)
    finally:
        await asyncio.to_thread(admin.gateway.stop)


@pytest.mark.slow
async def test_a_disabled_account_is_called_no_more(admin: Admin) -> None:
    key = await admin.make()
    await admin.until_called_with(STORED)
    await admin.ask("POST", f"/accounts/{key['account']}/disable")
    (listed,) = (await admin.ask("GET", "/upstreams"))["data"]
    async with asyncio.timeout(SECONDS):
        while listed["accounts"][0]["state"] != "disabled":
            (listed,) = (await admin.ask("GET", "/upstreams"))["data"]
    before = len(admin.upstream.requests)
    async with httpx.AsyncClient(timeout=SECONDS) as client:
        answer = await client.post(
            f"{admin.gateway.url}/v1/responses",
            json={"model": "demo", "input": "Hello!"},
            headers={"authorization": f"Bearer {admin.gateway.key}"},
        )
    assert answer.status_code >= 400
    assert len(admin.upstream.requests) == before
    # It stays so over a restart.
    await asyncio.to_thread(admin.gateway.stop)
    await asyncio.to_thread(admin.gateway.start)
    (listed,) = (await admin.ask("GET", "/upstreams"))["data"]
    assert listed["accounts"][0]["state"] == "disabled"
    await admin.ask("POST", f"/accounts/{key['account']}/enable")
    async with asyncio.timeout(SECONDS):
        while listed["accounts"][0]["state"] != "usable":
            (listed,) = (await admin.ask("GET", "/upstreams"))["data"]
    assert await admin.call() == STORED


@pytest.mark.slow
async def test_another_secret_refuses_to_start_unless_the_previous_is_beside_it(admin: Admin) -> None:
    await admin.make()
    await admin.until_called_with(STORED)
    await asyncio.to_thread(admin.gateway.stop)
    key = admin.gateway.key

    admin.gateway = admin.process(ANTIPHON_SECRET_KEY=OTHER_SECRET)
    with pytest.raises(AssertionError, match=r"was made with [0-9a-f]{16}, this secret is [0-9a-f]{16}"):
        await asyncio.to_thread(admin.gateway.start)

    rotating = {"ANTIPHON_SECRET_KEY": OTHER_SECRET, "ANTIPHON_PREVIOUS_SECRET_KEYS": SECRET.decode()}
    admin.gateway = admin.process(**rotating)
    await asyncio.to_thread(admin.gateway.start)
    # The client's key and upstream's were both made under the secret before.
    assert admin.gateway.key == key
    assert await admin.call() == STORED
    await asyncio.to_thread(admin.gateway.stop)

    admin.gateway = admin.process(ANTIPHON_SECRET_KEY=OTHER_SECRET)
    await asyncio.to_thread(admin.gateway.start)
    assert await admin.call() == STORED


@pytest.mark.slow
async def test_a_stored_key_that_cannot_be_opened_is_named_at_start(admin: Admin) -> None:
    key = await admin.make()
    await asyncio.to_thread(admin.gateway.stop)
    with sqlite3.connect(admin.gateway.data_dir / "antiphon.db") as database:
        sealed = database.execute("SELECT secret FROM upstream_keys").fetchone()[0]
        version, _, text = sealed.split(".")
        database.execute("UPDATE upstream_keys SET secret = ?", (f"{version}.0123456789abcdef.{text}",))
    database.close()
    with pytest.raises(AssertionError, match=f"stored key {key['id']} .* under the secret 0123456789abcdef"):
        await asyncio.to_thread(admin.gateway.start)
