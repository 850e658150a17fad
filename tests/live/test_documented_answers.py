"""Each answer that the OpenAPI document promises is given by a live gateway, as the document says it.

That none is other than the document says is held in every live test (tests/fakes/described.py).
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from tests.fakes.described import Described
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live

MASTER_KEY = "the master key of these tests"
_FIRST_ERROR = 400


class Client:
    """Asks one gateway, as an administrator below /admin."""

    def __init__(self, gateway: LiveGateway, http: httpx2.AsyncClient) -> None:
        self.gateway = gateway
        self.http = http

    async def ask(self, method: str, path: str, body: Any = None, status: int = 200, **headers: str) -> httpx2.Response:
        """The answer, which has this status."""
        key = MASTER_KEY if path.startswith("/admin") else self.gateway.key
        told = {"authorization": f"Bearer {key}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        answer = await self.http.request(method, path, json=body, headers=told)
        assert answer.status_code == status, (method, path, answer.text)
        return answer

    async def made(self, path: str, body: Any, status: int = 201) -> dict[str, Any]:
        """What a POST makes."""
        found: dict[str, Any] = (await self.ask("POST", path, body, status)).json()
        return found


@pytest.fixture
async def client(sqlite_url: str) -> AsyncIterator[Client]:
    async with FakeUpstream() as upstream:
        settings = upstream_settings(upstream.url, "sk-upstream-one", name="configured")
        server = {"admin_key": SecretStr(MASTER_KEY)}
        async with (
            running_gateway(sqlite_url, [settings], server=server) as gateway,
            httpx2.AsyncClient(base_url=gateway.url, timeout=60) as http,
        ):
            yield Client(gateway, http)


async def test_each_is_given(client: Client) -> None:
    await ask_for_responses(client)
    await ask_for_conversations(client)
    await ask_in_passing(client)
    await ask_for_the_rest(client)
    await administer_keys(client)
    await administer_upstreams(client)
    await look_around(client)
    described: Described | None = client.gateway.described
    assert described is not None
    promised = {answer for answer in described.description.documented() if answer[1] < str(_FIRST_ERROR)}
    promised.add(("get_readyz", "503", "application/json"))
    assert promised - described.seen == set()


async def ask_for_responses(client: Client) -> None:
    asked = {"model": "demo", "input": "Hello!", "instructions": "Be brief.", "temperature": 1, "metadata": {"a": "b"}}
    first = await client.made("/v1/responses", asked, 200)
    named = f"/v1/responses/{first['id']}"
    chained = {"model": "demo", "input": [{"role": "user", "content": "Go on."}], "previous_response_id": first["id"]}
    await client.ask("POST", "/v1/responses", {**chained, "stream": True})
    await client.ask("GET", f"{named}?include[]=reasoning.encrypted_content")
    await client.ask("GET", f"{named}/input_items?limit=1&order=asc")
    run = await client.made(
        "/v1/responses", {"model": "demo", "input": "[words:100] [slow:5000]", "background": True}, 200
    )
    await client.ask("POST", f"/v1/responses/{run['id']}/cancel")
    streamed = await client.ask("POST", "/v1/responses", {**asked, "background": True, "stream": True})
    run_id = streamed.text.partition('"id":"')[2].partition('"')[0]
    await client.ask("GET", f"/v1/responses/{run_id}?stream=true&starting_after=1")
    await client.ask("POST", "/v1/responses/compact", {"model": "demo", "input": "Hello!"})
    await client.ask("POST", "/v1/responses/input_tokens", {"model": "demo", "input": "Hello!", "tools": []})
    await client.ask("DELETE", named)


async def ask_for_conversations(client: Client) -> None:
    made = (await client.ask("POST", "/v1/conversations", idempotency_key="one")).json()
    path = f"/v1/conversations/{made['id']}"
    await client.ask("POST", path, {"metadata": {"topic": "teal"}})
    await client.ask("GET", path)
    items = [{"type": "message", "role": "user", "content": "Hi"}]
    added = await client.made(f"{path}/items", {"items": items}, 200)
    assert (await client.ask("GET", f"{path}/items")).json()["data"] == added["data"]
    item = f"{path}/items/{added['first_id']}"
    await client.ask("GET", item)
    await client.ask("DELETE", item)
    await client.ask("DELETE", path)


async def ask_in_passing(client: Client) -> None:
    chat = {"model": "demo", "messages": [{"role": "user", "content": "Hello!"}]}
    await client.ask("POST", "/v1/chat/completions", chat)
    await client.ask("POST", "/v1/chat/completions", {**chat, "stream": True})
    await client.ask("POST", "/v1/embeddings", {"model": "demo", "input": "Hello!"})


async def ask_for_the_rest(client: Client) -> None:
    model = (await client.ask("GET", "/v1/models")).json()["data"][0]["id"]
    await client.ask("GET", f"/v1/models/{model}")
    await client.ask("GET", "/v1/usage?group_by=model")
    for path in ("/livez", "/health", "/healthz", "/readyz"):
        await client.ask("GET", path)
        await client.ask("HEAD", path)
    readiness = client.gateway.app.state.services.readiness
    readiness.waits("the database")
    for method in ("GET", "HEAD"):
        await client.ask(method, "/readyz", status=503)
    readiness.serves()


async def administer_keys(client: Client) -> None:
    limits = {"requests_per_minute": 5, "budgets": [{"period": "month", "usd": 20.5}, {"period": "day", "tokens": 9}]}
    project = await client.made("/admin/v1/projects", {"name": "team", "policy": {"models": ["d*"], "limits": limits}})
    path = f"/admin/v1/projects/{project['id']}"
    await client.ask("GET", path)
    await client.ask("PATCH", path, {"version": 1, "retention_days": 7})
    await client.ask("GET", "/admin/v1/projects?limit=1")
    new = {"project_id": project["id"], "name": "ada", "owner": "ada", "tags": ["x"], "policy": {"scopes": ["usage"]}}
    key = await client.made("/admin/v1/keys", new)
    named = f"/admin/v1/keys/{key['id']}"
    told = {"authorization": f"Bearer {key['key']}"}
    assert (await client.http.get("/v1/usage", headers=told)).json()["limits"] != []
    await client.ask("GET", named)
    await client.ask("PATCH", named, {"version": 1, "policy": {"addresses": ["10.0.0.0/8"], "limits": limits}})
    await client.ask("POST", f"{named}/rotate", {"overlap_seconds": 60})
    for action in ("block", "unblock", "revoke"):
        await client.ask("POST", f"{named}/{action}")
    await client.ask("GET", f"/admin/v1/keys?project={project['id']}")
    await client.ask("DELETE", path, status=202)


async def administer_upstreams(client: Client) -> None:
    new = {"name": "stored", "base_url": "https://8.8.8.8/v1", "models": ["none"], "aliases": {"a": "b"}, "tier": 3}
    await client.made("/admin/v1/upstreams", {**new, "strip": ["x"], "endpoints": ["compact"], "validation": "openai"})
    path = "/admin/v1/upstreams/stored"
    await client.ask("PATCH", path, {"version": 1, "endpoints": None, "state": "upstream"})
    spec = {"secret": "sk-a-key-that-is-long-enough", "name": "second", "weight": 0.5, "requests_per_minute": 60}
    key = await client.made(f"{path}/keys", spec)
    listed = (await client.ask("GET", "/admin/v1/upstreams")).json()["data"]
    account = next(each for each in listed if each["name"] == "configured")["accounts"][0]["name"]
    for action in ("test", "drain", "disable", "enable"):
        await client.ask("POST", f"/admin/v1/accounts/{account}/{action}")
    await client.ask("DELETE", f"{path}/keys/{key['id']}")
    await client.ask("DELETE", path)


async def look_around(client: Client) -> None:
    await client.ask("GET", "/admin/v1/usage?group_by=project,key,model,upstream,day")
    await client.ask("GET", "/admin/v1/usage?format=csv")
    async with asyncio.timeout(60):
        # The ledger is written behind.
        while not (await client.ask("GET", "/admin/v1/usage/entries?limit=100")).json()["data"]:
            await asyncio.sleep(0.05)
    await client.ask("GET", "/admin/v1/settings")
    await client.ask("GET", "/admin/v1/audit?subject=stored")
