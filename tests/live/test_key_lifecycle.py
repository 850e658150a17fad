"""A key's life as its holder and its administrators see it: on this replica at once, on others within five seconds."""

import asyncio
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.administration.actor import Actor
from app.api.admin.admin_routes import ADMIN
from app.state.policies import SCOPES
from tests.fakes.gateway import GatewayProcess, LiveGateway
from tests.fakes.replies import Reply
from tests.fakes.streams import story
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live

ADMINISTRATOR = Actor("master key")
MASTER_KEY = "the master key of these tests"
ELSEWHERE_SECONDS = 5.0
SLACK_SECONDS = 5.0


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_a_stream_outlives_its_key_and_the_next_call_does_not(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    frames = story("resp_long")
    go = asyncio.Event()
    upstream.enqueue(Reply.held(frames[:3], go, frames[3:]))
    keys = gateway.app.state.services.keys
    (key,) = [key for key in await keys.list() if key.name == "live"]
    async with httpx2.AsyncClient(base_url=gateway.base_url, headers=bearer(gateway.key), timeout=60) as client:
        asked = {"model": "demo", "input": "Tell me.", "stream": True}
        async with client.stream("POST", "/responses", json=asked) as answer:
            chunks = answer.aiter_bytes()
            heard = await anext(chunks)
            await keys.revoke(ADMINISTRATOR, key.id)
            refused = await client.post("/responses", json=asked)
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
            go.set()
            heard += b"".join([chunk async for chunk in chunks])
    assert heard == b"".join(frames)
    assert len(upstream.requests) == 1


@pytest.fixture
def replicas(tmp_path: Path, empty_postgresql_url: str) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    """Two gateways on one database. The first was there before."""
    here, there = [
        GatewayProcess(tmp_path / name, {"DATABASE_URL": empty_postgresql_url, "ANTIPHON_DRAIN_SECONDS": "1"})
        for name in ("here", "there")
    ]
    for gateway in (here, there):
        gateway.log.parent.mkdir()
    try:
        yield here.start(), there.start()
    finally:
        here.stop()
        there.stop()


def until(seconds: float, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_change_on_one_replica_is_known_on_the_other_within_seconds(
    replicas: tuple[GatewayProcess, GatewayProcess],
) -> None:
    here, there = replicas
    administration = f"{here.url}/admin/v1"
    with httpx2.Client(timeout=60) as client:

        def status(gateway: GatewayProcess, key: str) -> int:
            return client.get(f"{gateway.url}/v1/models", headers=bearer(key)).status_code

        def ask(path: str, body: Any) -> dict[str, Any]:
            answer = client.post(administration + path, json=body, headers=bearer(here.admin_key))
            assert answer.status_code in (200, 201), answer.text
            found: dict[str, Any] = answer.json()
            return found

        listed = client.get(f"{administration}/keys", headers=bearer(here.admin_key)).json()["data"]
        made = ask("/keys", {"project_id": listed[0]["project_id"], "name": "team"})
        assert [status(gateway, made["key"]) for gateway in replicas] == [200, 200]
        rotated = ask(f"/keys/{made['id']}/rotate", {"overlap_seconds": 3600})
        assert [status(here, rotated["key"]), status(here, made["key"])] == [200, 200]
        assert [status(there, rotated["key"]), status(there, made["key"])] == [200, 200]
        ask(f"/keys/{made['id']}/block", {})
        assert [status(here, each["key"]) for each in (made, rotated)] == [401, 401]
        until(ELSEWHERE_SECONDS + SLACK_SECONDS, lambda: status(there, rotated["key"]) == 401)
        until(ELSEWHERE_SECONDS + SLACK_SECONDS, lambda: status(there, made["key"]) == 401)
        ask(f"/keys/{made['id']}/unblock", {})
        assert status(here, rotated["key"]) == 200
        until(ELSEWHERE_SECONDS + SLACK_SECONDS, lambda: status(there, rotated["key"]) == 200)
        ask(f"/keys/{made['id']}/revoke", {})
        assert status(here, rotated["key"]) == 401
        until(ELSEWHERE_SECONDS + SLACK_SECONDS, lambda: status(there, rotated["key"]) == 401)
        actions = client.get(f"{administration}/audit", headers=bearer(here.admin_key)).json()["data"]
        assert [record["action"] for record in actions] == [
            "key.revoke",
            "key.unblock",
            "key.block",
            "key.rotate",
            "key.create",
            "gateway.found",
        ]
        assert {record["address"] for record in actions[:-1]} == {"127.0.0.1"}


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(tmp_path, {"ANTIPHON_DRAIN_SECONDS": "1"})
    try:
        yield gateway
    finally:
        gateway.stop()


@pytest.mark.slow
def test_the_first_start_makes_an_administrator_and_says_where_its_key_is(fresh: GatewayProcess) -> None:
    fresh.start()
    file = fresh.data_dir / "first-admin-key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    # What is written here may be kept as a log: it names the file, and shows the key to a terminal alone.
    assert f"Your first admin key is in {file}\n" in fresh.banner.read_text()
    assert fresh.admin_key not in fresh.banner.read_text()
    with httpx2.Client(base_url=fresh.url, timeout=60) as client:
        listed = client.get("/admin/v1/keys", headers=bearer(fresh.admin_key)).json()["data"]
        assert [(key["name"], set(key["policy"]["scopes"]) == set(SCOPES)) for key in reversed(listed)] in (
            [("first", False), ("first admin", True)],
            [("first admin", True), ("first", False)],
        )
        assert client.get("/admin/v1/keys", headers=bearer(fresh.key)).status_code == 403
        assert client.get("/admin/v1/keys").status_code == 401
    fresh.stop()
    key = fresh.admin_key
    fresh.start()
    assert key not in fresh.banner.read_text()
    assert fresh.admin_key == key


@pytest.mark.slow
def test_with_a_master_key_no_admin_key_is_made(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, {"ANTIPHON_ADMIN_KEY": MASTER_KEY, "ANTIPHON_HOST": "0.0.0.0"})
    try:
        gateway.start()
        assert not (gateway.data_dir / "first-admin-key").exists()
        assert "admin key" not in gateway.banner.read_text()
        with httpx2.Client(base_url=gateway.url, timeout=60) as client:
            for path in {path for method, path, _ in ADMIN if method == "GET" and "{" not in path}:
                assert client.get(f"/admin/v1{path}", headers=bearer(MASTER_KEY)).status_code == 200, path
        assert MASTER_KEY not in gateway.banner.read_text() + gateway.log.read_text()
    finally:
        gateway.stop()


def refused_start(gateway: GatewayProcess) -> str:
    """What a start that is refused says."""
    command = [sys.executable, "-m", "app", "serve", "--port", "0"]
    done = subprocess.run(command, env=gateway._environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1, done.stdout
    return done.stderr.decode()


@pytest.mark.slow
def test_a_gateway_that_others_reach_does_not_start_without_an_administrator(tmp_path: Path) -> None:
    everywhere = {"ANTIPHON_HOST": "0.0.0.0", "ANTIPHON_DRAIN_SECONDS": "1"}
    gateway = GatewayProcess(tmp_path, everywhere)
    try:
        # The first start makes one.
        gateway.start()
        admin = gateway.admin_key
        with httpx2.Client(base_url=gateway.url, timeout=60, headers=bearer(admin)) as client:
            (first,) = [key for key in client.get("/admin/v1/keys").json()["data"] if key["name"] == "first admin"]
            assert client.post(f"/admin/v1/keys/{first['id']}/revoke").status_code == 200
            assert client.get("/admin/v1/keys").status_code == 401
        gateway.stop()
        told = refused_start(gateway)
        assert "ANTIPHON_ADMIN_KEY" in told
        assert "0.0.0.0" in told
        assert len(told.splitlines()) == 1
        # On this machine alone it may; and with a master key.
        for way in ({"ANTIPHON_HOST": "127.0.0.1"}, {**everywhere, "ANTIPHON_ADMIN_KEY": MASTER_KEY}):
            other = GatewayProcess(tmp_path, way)
            try:
                other.start()
            finally:
                other.stop()
    finally:
        gateway.stop()
