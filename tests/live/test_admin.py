"""A team's story over HTTP, on a real process: a project, two keys, their use, their changes, their end, the log."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.fakes.databases import sqlite_first
from tests.fakes.forked import ForkedGateway
from tests.fakes.gateway import GatewayProcess

pytestmark = pytest.mark.live

MASTER_KEY = "the master key of these tests"
SECONDS = 60.0
Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def serving(tmp_path: Path, database_url: str) -> Iterator[GatewayProcess]:
    gateway = ForkedGateway(tmp_path, {"ANTIPHON_ADMIN_KEY": MASTER_KEY, "DATABASE_URL": database_url})
    try:
        yield gateway.start()
    finally:
        gateway.stop()


@pytest.fixture
def ask(serving: GatewayProcess) -> Iterator[Ask]:
    headers = {"authorization": f"Bearer {MASTER_KEY}"}
    with httpx.Client(base_url=f"{serving.url}/admin/v1", headers=headers, timeout=SECONDS) as client:

        def ask(method: str, path: str, body: Any = None, *, status: int = 200) -> dict[str, Any]:
            answer = client.request(method, path, json=body)
            assert answer.status_code == status, answer.text
            found: dict[str, Any] = answer.json()
            return found

        yield ask


def says(gateway: GatewayProcess, key: str) -> str:
    with gateway.client(key) as client:
        return client.responses.create(model="demo", input="My city is Utrecht.").status or ""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_team_gets_its_keys_uses_them_and_loses_one(serving: GatewayProcess, ask: Ask) -> None:
    project = ask("POST", "/projects", {"name": "team", "retention_days": 7}, status=201)
    wanted: dict[str, dict[str, Any]] = {
        "ada": {"owner": "ada@example.org"},
        "bot": {"tags": ["ci"], "policy": {"models": ["other-*"]}},
    }
    keys = {
        name: ask("POST", "/keys", {"project_id": project["id"], "name": name, **members}, status=201)
        for name, members in wanted.items()
    }
    ada, bot = (keys[name]["key"] for name in ("ada", "bot"))
    assert says(serving, ada) == "completed"
    with pytest.raises(openai.NotFoundError):
        says(serving, bot)

    opened = {"version": keys["bot"]["version"], "policy": {"models": ["demo"]}}
    ask("PATCH", f"/keys/{keys['bot']['id']}", opened)
    ask("PATCH", f"/keys/{keys['bot']['id']}", opened, status=409)
    assert says(serving, bot) == "completed"

    ask("POST", f"/keys/{keys['bot']['id']}/block")
    with pytest.raises(openai.AuthenticationError):
        says(serving, bot)
    ask("POST", f"/keys/{keys['bot']['id']}/unblock")
    assert says(serving, bot) == "completed"

    rotated = ask("POST", f"/keys/{keys['ada']['id']}/rotate", {"overlap_seconds": 3600})
    assert says(serving, rotated["key"]) == says(serving, ada) == "completed"
    ask("POST", f"/keys/{keys['ada']['id']}/revoke")
    for key in (rotated["key"], ada):
        with pytest.raises(openai.AuthenticationError):
            says(serving, key)

    actions = [record["action"] for record in ask("GET", f"/audit?subject={keys['bot']['id']}")["data"]]
    assert actions == ["key.unblock", "key.block", "key.update", "key.create"]
    wait_for(lambda: sum(each["requests"] for each in ask("GET", f"/usage?project={project['id']}")["data"]) >= 5)
    by_key = ask("GET", f"/usage?project={project['id']}&group_by=key")["data"]
    assert {each["api_key_id"] for each in by_key} == {keys["ada"]["id"], keys["bot"]["id"]}
    for path in ("/keys", "/audit", "/usage/entries", "/settings"):
        shown = str(ask("GET", path))
        assert not any(secret in shown for secret in (ada, bot, rotated["key"], MASTER_KEY)), path
    logged = serving.log.read_text() + serving.banner.read_text()
    assert not any(secret in logged for secret in (ada, bot, rotated["key"], MASTER_KEY))


@sqlite_first
def test_an_api_key_is_no_administrator(serving: GatewayProcess) -> None:
    for key, status in ((serving.key, 403), (MASTER_KEY[:-1], 401)):
        answer = httpx.get(f"{serving.url}/admin/v1/keys", headers={"authorization": f"Bearer {key}"}, timeout=SECONDS)
        assert answer.status_code == status
    assert httpx.get(f"{serving.url}/admin/v1/keys", timeout=SECONDS).status_code == 401


@sqlite_first
def test_the_document_has_the_administration_under_a_tag_of_its_own(serving: GatewayProcess) -> None:
    paths = httpx.get(f"{serving.url}/openapi.json", timeout=SECONDS).json()["paths"]
    for path, methods in paths.items():
        for operation in methods.values():
            assert (operation["tags"] == ["admin"]) is path.startswith("/admin/v1"), path
