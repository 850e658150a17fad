"""One policy for every carrier of a key and every surface that takes one: who may not, may not anywhere."""

import time
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import replace
from typing import Any

import httpx2
import orjson
import pytest
from websockets.exceptions import InvalidStatus

from app.administration.actor import Actor
from app.api.admin.admin_routes import ADMIN
from app.api.routes import API, DIRECT, SOCKETS
from app.security.authentication import KeyHasher
from app.security.key_ring import KeyRing
from app.state.policies import CLIENT_SCOPES, SCOPES, Scope
from app.storage.keys.store import ChangeKey
from tests.fakes.gateway import SECRET, LiveGateway, running_gateway
from tests.fakes.socket_client import SocketClient

pytestmark = pytest.mark.live

MASTER_KEY = "the master key of these tests"
ADMINISTRATOR = Actor("master key")
BODY: Mapping[str, Any] = {"model": "demo", "input": "Hello!"}
METHODS = frozenset(method for method, *_ in ADMIN)
CARRIERS = ("authorization", "x-api-key", "api-key")
# Each endpoint that takes a body, in each of its ways.
BODIES: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "/responses": (
        BODY,
        {**BODY, "stream": True},
        {**BODY, "background": True},
        {**BODY, "stream": True, "store": False},
    ),
    "/responses/compact": (BODY,),
    "/responses/input_tokens": (BODY,),
    "/chat/completions": ({"model": "demo", "messages": [{"role": "user", "content": "Hello!"}]},),
    "/embeddings": (BODY,),
}
# What is served by default.
SERVED = [route for route in DIRECT if route[2] in CLIENT_SCOPES]


def carrying(key: str, carrier: str = "authorization") -> dict[str, str]:
    return {carrier: f"Bearer {key}" if carrier == "authorization" else key}


class Client:
    """Calls every surface of a gateway."""

    def __init__(self, gateway: LiveGateway, http: httpx2.AsyncClient) -> None:
        self.gateway = gateway
        self.http = http

    @property
    def keys(self) -> Any:
        return self.gateway.app.state.services.keys

    async def key(self, **members: Any) -> tuple[str, str]:
        """The id and the text of a new key."""
        (project,) = [p for p in await self.gateway.app.state.services.projects.list() if p.name == "default"]
        record, key = await self.keys.create(ADMINISTRATOR, project_id=project.id, name="test", **members)
        return record.id, key

    async def surfaces(self, headers: Mapping[str, str]) -> dict[tuple[str, str, Scope], list[tuple[int, str | None]]]:
        """What each surface under /v1 answers to a caller with these headers: statuses with the errors' codes."""
        told: dict[tuple[str, str, Scope], list[tuple[int, str | None]]] = {}
        for method, path, scope, _ in (*API, *SERVED):
            url = "/v1" + path.replace(":path", "")
            for body in BODIES.get(path, ({},)) if method == "POST" else (None,):
                answer = await self.http.request(method, url, json=body, headers=headers)
                told.setdefault((method, path, scope), []).append(outcome(answer.status_code, answer.content))
        for path, scope, _ in SOCKETS:
            told["WEBSOCKET", path, scope] = [await self.socket(f"/v1{path}", headers)]
        return told

    async def socket(self, path: str, headers: Mapping[str, str]) -> tuple[int, str | None]:
        try:
            async with SocketClient.to(self.gateway, path, additional_headers=headers) as socket:
                last = await socket.turn()
                return (200, None) if last["type"] == "response.completed" else (last["status"], last["error"]["code"])
        except InvalidStatus as refused:
            return outcome(refused.response.status_code, bytes(refused.response.body or b""))


def outcome(status: int, body: bytes) -> tuple[int, str | None]:
    code = orjson.loads(body)["error"]["code"] if status >= 400 else None
    return status, code


@pytest.fixture
async def client(sqlite_url: str) -> AsyncIterator[Client]:
    server = {"admin_key": MASTER_KEY, "trusted_proxies": ("127.0.0.0/8",)}
    access = {"client_address_header": "X-Forwarded-For"}
    async with (
        running_gateway(sqlite_url, server=server, access=access) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as http,
    ):
        yield Client(gateway, http)


async def test_a_good_key_is_let_in_everywhere_by_any_carrier(client: Client) -> None:
    _, key = await client.key()
    for carrier in CARRIERS:
        for surface, told in (await client.surfaces(carrying(key, carrier))).items():
            for status, code in told:
                assert status not in (401, 403, 500), (surface, carrier, status, code)
                assert code != "model_not_found" or surface[1].startswith("/models"), (surface, carrier)


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("fault", ["revoked", "blocked", "expired", "rotated", "address"])
async def test_a_key_that_is_no_good_is_good_nowhere(client: Client, fault: str, carrier: str) -> None:
    members: dict[str, Any] = {"policy": {"addresses": ["192.0.2.0/24"]}} if fault == "address" else {}
    key_id, key = await client.key(**members)
    match fault:
        case "revoked":
            await client.keys.revoke(ADMINISTRATOR, key_id)
        case "blocked":
            await client.keys.block(ADMINISTRATOR, key_id)
        case "rotated":
            await client.keys.rotate(ADMINISTRATOR, key_id, overlap_seconds=0)
        case "expired":
            ended = ChangeKey(key_id, 1, {"expires_at": int(time.time())})
            await client.gateway.app.state.services.authenticator._keys._writer.submit(ended)
    expected = (403, "ip_not_authorized") if fault == "address" else (401, "invalid_api_key")
    for surface, told in (await client.surfaces(carrying(key, carrier))).items():
        assert set(told) == {expected}, surface
    for method, path, _ in ADMIN:
        answer = await client.http.request(method, f"/admin/v1{path}", headers=carrying(key, carrier))
        assert outcome(answer.status_code, answer.content) == expected, path


@pytest.mark.parametrize("scope", CLIENT_SCOPES)
async def test_a_key_without_a_scope_is_refused_where_it_is_asked_for_and_only_there(
    client: Client, scope: Scope
) -> None:
    _, key = await client.key(policy={"scopes": [other for other in CLIENT_SCOPES if other != scope]})
    for carrier in CARRIERS:
        told = await client.surfaces(carrying(key, carrier))
        assert {needed for _, _, needed in told} == set(CLIENT_SCOPES)
        for surface, outcomes in told.items():
            is_refused = [outcome == (403, "insufficient_permissions") for outcome in outcomes]
            assert is_refused == [surface[2] == scope] * len(outcomes), surface


@pytest.mark.parametrize("whose", ["key", "project"])
async def test_a_model_that_is_not_for_the_caller_is_not_there(client: Client, whose: str) -> None:
    policy = {"models": ["gpt-5*"]}
    _, key = await client.key(**({"policy": policy} if whose == "key" else {}))
    projects = client.gateway.app.state.services.projects
    if whose == "project":
        (project,) = [project for project in await projects.list() if project.name == "default"]
        await projects.update(ADMINISTRATOR, project.id, {"policy": policy}, version=project.version)
    for carrier in CARRIERS:
        told = await client.surfaces(carrying(key, carrier))
        for method, path, _ in [*((m, p, s) for m, p, s, _ in SERVED), *(("WEBSOCKET", p, s) for p, s, _ in SOCKETS)]:
            (outcomes,) = [found for (m, p, _), found in told.items() if (m, p) == (method, path)]
            assert set(outcomes) == {(404, "model_not_found")}, path
    headers = carrying(key)
    assert (await client.http.get("/v1/models", headers=headers)).json()["data"] == []
    hidden = await client.http.get("/v1/models/demo", headers=headers)
    nowhere = await client.http.get("/v1/models/oops", headers=headers)
    assert hidden.status_code == 404
    assert hidden.text.replace("demo", "oops") == nowhere.text
    refused = (await client.http.post("/v1/responses", json=BODY, headers=headers)).json()["error"]
    assert refused == {
        "message": "The model 'demo' does not exist or you do not have access to it.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    # The other project's keys are not concerned.
    assert (await client.http.get("/v1/models", headers=carrying(client.gateway.other_key))).json()["data"]


async def test_a_key_and_its_project_both_have_to_allow_a_model(client: Client) -> None:
    _, key = await client.key(policy={"models": ["demo", "gpt*"]})
    projects = client.gateway.app.state.services.projects
    (project,) = [project for project in await projects.list() if project.name == "default"]
    for models, status in ((["*"], 200), (["gpt*"], 404), (["d?mo"], 200)):
        changes = {"policy": {"models": models}}
        project = await projects.update(ADMINISTRATOR, project.id, changes, version=project.version)
        assert (await client.http.post("/v1/responses", json=BODY, headers=carrying(key))).status_code == status


async def test_what_proxies_say_counts_where_they_are_trusted(client: Client) -> None:
    _, key = await client.key(policy={"addresses": ["192.0.2.0/24"]})
    for hops, status in (
        ("192.0.2.9", 200),
        ("203.0.113.1, 192.0.2.9", 200),
        ("192.0.2.9, 203.0.113.1", 403),
        ("203.0.113.1", 403),
        ("192.0.2.9, unknown", 403),
        ("", 403),
    ):
        headers = {**carrying(key), "x-forwarded-for": hops}
        assert (await client.http.get("/v1/models", headers=headers)).status_code == status, hops


async def test_a_key_that_ends_while_a_socket_is_open_takes_no_further_turn(client: Client) -> None:
    for end in (client.keys.revoke, client.keys.block):
        key_id, key = await client.key()
        async with SocketClient.to(client.gateway, additional_headers=carrying(key)) as socket:
            assert (await socket.turn())["type"] == "response.completed"
            await end(ADMINISTRATOR, key_id)
            last = await socket.turn()
            assert (last["type"], last["status"], last["error"]["code"]) == ("error", 401, "invalid_api_key")


async def test_a_change_takes_effect_at_once(client: Client) -> None:
    key_id, key = await client.key()
    get = client.http.get

    async def status() -> int:
        return (await get("/v1/models", headers=carrying(key))).status_code

    assert await status() == 200
    await client.keys.block(ADMINISTRATOR, key_id)
    assert await status() == 401
    await client.keys.unblock(ADMINISTRATOR, key_id)
    assert await status() == 200
    await client.keys.update(ADMINISTRATOR, key_id, {"policy": {"scopes": ["usage"]}}, version=3)
    assert await status() == 403
    rotated, other = await client.keys.rotate(ADMINISTRATOR, key_id, overlap_seconds=100)
    assert [await status(), rotated.version] == [403, 5]
    await client.keys.update(ADMINISTRATOR, key_id, {"policy": {}}, version=5)
    assert await status() == 200
    assert (await get("/v1/models", headers=carrying(other))).status_code == 200
    await client.keys.revoke(ADMINISTRATOR, key_id)
    assert await status() == 401
    assert (await get("/v1/models", headers=carrying(other))).status_code == 401


async def test_only_administrators_administer(client: Client) -> None:
    async def statuses(headers: Mapping[str, str], methods: Collection[str] = METHODS) -> set[int]:
        paths = [(method, path.replace(":path", "")) for method, path, _ in ADMIN if method in methods]
        return {
            (await client.http.request(method, f"/admin/v1{path}", headers=headers, json={})).status_code
            for method, path in paths
        }

    stored = KeyHasher(KeyRing(SECRET)).hash(client.gateway.key)
    for headers in ({}, carrying("sk-aph_nonsense"), carrying(MASTER_KEY[:-1]), carrying(stored.hex())):
        assert await statuses(headers) == {401}, headers
    for scopes in (CLIENT_SCOPES, ("usage",)):
        _, key = await client.key(policy={"scopes": scopes})
        assert await statuses(carrying(key)) == {403}
    for carrier in CARRIERS:
        for let_in in (MASTER_KEY, (await client.key(policy={"scopes": ["admin:read"]}))[1]):
            assert not {401, 403} & await statuses(carrying(let_in, carrier), {"GET"})
    # An administrator is no client, unless the key is one too.
    _, key = await client.key(policy={"scopes": ["admin"]})
    for surface, told in (await client.surfaces(carrying(key))).items():
        assert set(told) == {(403, "insufficient_permissions")}, surface
    assert {code for told in (await client.surfaces(carrying(MASTER_KEY))).values() for _, code in told} == {
        "invalid_api_key"
    }


async def test_who_may_only_look_cannot_change_and_no_key_outgrows_its_maker(client: Client) -> None:
    project_id = (await client.gateway.app.state.services.projects.list())[0].id
    reader_id, reader = await client.key(policy={"scopes": ["admin:read"]})
    maker_id, maker = await client.key(policy={"scopes": ["admin", "models"]})

    async def post(key: str, path: str, body: Any, method: str = "POST") -> int:
        return (await client.http.request(method, f"/admin/v1{path}", json=body, headers=carrying(key))).status_code

    new = {"project_id": project_id, "name": "x"}
    assert await post(reader, "/keys", new) == 403
    assert await post(reader, f"/keys/{reader_id}/block", {}) == 403
    assert await post(reader, "/projects", {"name": "x"}) == 403
    for scopes, status in ((["models"], 201), (["models", "admin"], 201), (list(SCOPES), 403), (["responses"], 403)):
        assert await post(maker, "/keys", {**new, "policy": {"scopes": scopes}}) == status, scopes
    grown = {"version": 1, "policy": {"scopes": list(SCOPES)}}
    assert await post(maker, f"/keys/{maker_id}", grown, "PATCH") == 403
    assert (await client.keys.get(maker_id)).policy.scopes == ("admin", "models")
    assert replace(await client.keys.get(reader_id), last_used_at=None).version == 1
