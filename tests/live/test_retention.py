"""What is kept is kept for its time over the whole way, and what is under way loses nothing that it builds on."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import httpx2
import pytest
from sqlalchemy import select, update

from app.storage.tables import conversations, projects, responses
from tests.fakes.background import BackgroundClient
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.socket_client import SocketClient
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

ADMIN_KEY = "a master key of the tests"
DAY = 86_400


class Client:
    """Bare HTTP with the gateway's key, and its duties, made when a test wants them."""

    def __init__(self, gateway: LiveGateway, http: httpx2.AsyncClient) -> None:
        self.gateway = gateway
        self.http = http

    async def ask(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> httpx2.Response:
        url, headers = f"{self.gateway.url}{path}", self.gateway.headers(key)
        return await self.http.request(method, url, json=body, headers=headers)

    async def create(self, **members: Any) -> httpx2.Response:
        return await self.ask("POST", "/v1/responses", {"model": "demo", "input": "Hello!", **members})

    async def make(self, duty: str) -> None:
        steps = {each.name: each.step for each in self.gateway.app.state.services.periodic_tasks._tasks}
        await steps[duty]()

    async def expire(self, response_id: str) -> None:
        """Have the response expire so long ago that the next sweep takes it."""
        now = await self.gateway.database.tell_time()
        changed = update(responses).where(responses.c.id == response_id).values(expires_at=now - 100)
        await self.gateway.database.write(lambda session: session.write(lambda connection: connection.execute(changed)))


@pytest.fixture
async def client(database_url: str, upstream: FakeUpstream) -> Any:
    upstreams = [upstream_settings(upstream.url, "sk-upstream-one")]
    async with (
        running_gateway(
            database_url,
            upstreams,
            server={"admin_key": ADMIN_KEY},
            storage={"purge_interval_seconds": 3600},
        ) as gateway,
        httpx2.AsyncClient(timeout=60) as http,
    ):
        yield Client(gateway, http)


Way = Callable[[Client, str], Coroutine[Any, Any, str]]


async def whole(client: Client, parent: str) -> str:
    return str((await client.create(previous_response_id=parent)).json()["id"])


async def streamed(client: Client, parent: str) -> str:
    answer = await client.create(previous_response_id=parent, stream=True)
    assert "response.completed" in answer.text
    return answer.text.partition('"id":"')[2].partition('"')[0]


async def in_the_background(client: Client, parent: str) -> str:
    async with BackgroundClient.to(client.gateway.url, client.gateway.key) as background:
        response_id = await background.order(previous_response_id=parent)
        assert (await background.ended(response_id))["status"] == "completed"
        return response_id


async def over_a_socket(client: Client, parent: str) -> str:
    async with SocketClient.to(client.gateway) as connection:
        return str((await connection.respond(previous_response_id=parent))["id"])


@pytest.mark.parametrize("way", [whole, streamed, in_the_background, over_a_socket], ids=lambda way: way.__name__)
async def test_a_parent_that_expires_while_its_child_is_made_is_kept(
    client: Client, upstream: FakeUpstream, way: Way
) -> None:
    parent, free = [(await client.create()).json()["id"] for _ in range(2)]
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slowly(_: Recorded) -> None:
        asked.set()
        await answer.wait()

    upstream.respond = slowly  # type: ignore[assignment]  # it leaves the answer to the demo model
    making = asyncio.create_task(way(client, parent))
    async with asyncio.timeout(60):
        await asked.wait()
        for response_id in (parent, free):
            await client.expire(response_id)
        await client.make("continued turns")
        await client.make("purge of responses")
        answer.set()
        child = await making
    continued = await client.create(previous_response_id=child)
    assert continued.status_code == 200, continued.text
    assert await _kept(client) == [True, False]
    # Nobody continues it any more, but its child.
    assert not client.gateway.app.state.services.registry.continued


async def _kept(client: Client) -> list[bool]:
    """Of the first two responses, whether their rows are there."""
    query = select(responses.c.key).where(responses.c.key <= 2)
    keys = await client.gateway.database.read(lambda connection: connection.scalars(query).all())
    return [key in keys for key in (1, 2)]


async def test_an_order_in_the_background_keeps_what_it_continues_for_as_long_as_it_may_wait(client: Client) -> None:
    parent = (await client.create()).json()["id"]
    query = select(responses.c.expires_at).where(responses.c.id == parent)
    now = await client.gateway.database.tell_time()
    soon = update(responses).where(responses.c.id == parent).values(expires_at=now + 60)
    await client.gateway.database.write(lambda session: session.write(lambda connection: connection.execute(soon)))
    assert (await client.create(previous_response_id=parent, background=True)).status_code == 200
    expires_at = await client.gateway.database.read(lambda connection: connection.scalar(query))
    assert expires_at is not None
    assert expires_at >= now + DAY


async def test_an_expired_ancestor_can_be_deleted(client: Client) -> None:
    parent = (await client.create()).json()["id"]
    child = (await client.create(previous_response_id=parent)).json()["id"]
    await client.expire(parent)
    await client.make("purge of responses")
    assert (await client.ask("GET", f"/v1/responses/{parent}")).status_code == 404
    assert (await client.create(previous_response_id=child)).status_code == 200
    assert (await client.ask("DELETE", f"/v1/responses/{parent}")).status_code == 200
    assert (await client.ask("DELETE", f"/v1/responses/{parent}")).status_code == 404
    assert (await client.create(previous_response_id=child)).status_code == 400


async def test_an_idle_conversation_is_gone_and_one_that_is_used_goes_on(client: Client) -> None:
    idle, used = [(await client.ask("POST", "/v1/conversations", {})).json()["id"] for _ in range(2)]
    for conversation_id in (idle, used):
        assert (await client.create(conversation=conversation_id)).status_code == 200
    now = await client.gateway.database.tell_time()
    long_ago = update(conversations).values(created_at=now - 31 * DAY)
    await client.gateway.database.write(lambda session: session.write(lambda connection: connection.execute(long_ago)))
    assert (await client.create(conversation=used)).status_code == 200
    await client.make("purge of conversations")
    assert (await client.ask("GET", f"/v1/conversations/{idle}")).status_code == 404
    assert (await client.create(conversation=idle)).status_code == 404
    assert (await client.create(conversation=used)).status_code == 200


async def test_a_shorter_retention_holds_for_what_is_stored_and_a_project_can_be_erased(client: Client) -> None:
    response_id = (await client.create()).json()["id"]
    listed = (await client.ask("GET", "/admin/v1/projects", key=ADMIN_KEY)).json()["data"]
    (project,) = [each for each in listed if each["name"] == "default"]
    path = f"/admin/v1/projects/{project['id']}"
    change = {"version": project["version"], "retention_days": 1, "conversation_days": 2}
    changed = (await client.ask("PATCH", path, change, key=ADMIN_KEY)).json()
    assert (changed["retention_days"], changed["conversation_days"], changed["erasing_at"]) == (1, 2, None)
    query = select(responses.c.expires_at - responses.c.created_at)
    assert await client.gateway.database.read(lambda connection: connection.scalars(query).all()) == [DAY]

    assert (await client.ask("DELETE", path)).status_code == 403
    assert (await client.ask("DELETE", path, key=ADMIN_KEY)).status_code == 202
    assert (await client.ask("GET", f"/v1/responses/{response_id}")).status_code == 401
    await client.make("project erasure")
    assert (await client.ask("GET", path, key=ADMIN_KEY)).status_code == 404
    left = select(responses.c.key).union_all(select(projects.c.created_at).where(projects.c.name == "default"))
    assert await client.gateway.database.read(lambda connection: connection.execute(left).all()) == []
    actions = [each["action"] for each in (await client.ask("GET", "/admin/v1/audit", key=ADMIN_KEY)).json()["data"]]
    assert actions[:2] == ["project.erased", "project.erase"]


async def test_a_wrong_clock_is_told_and_what_is_written_by_it_expires_by_the_databases(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = (await client.create()).json()["id"]
    real = time.time
    monkeypatch.setattr("time.time", lambda: real() + 40 * DAY)
    async with asyncio.timeout(60):
        with pytest.raises(Exception, match="removes nothing"):
            await client.make("clock")
    await client.make("purge of responses")
    assert (await client.ask("GET", f"/v1/responses/{kept}")).status_code == 200
    written = (await client.create(previous_response_id=kept)).json()["id"]
    query = select(responses.c.expires_at).where(responses.c.id == written)
    expires_at = await client.gateway.database.read(lambda connection: connection.scalar(query))
    assert expires_at is not None
    assert abs(expires_at - real() - 30 * DAY) < 60
