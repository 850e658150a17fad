"""Whose it is: another project's id and one that never existed get the same bytes back, on every route."""

from typing import Any
from urllib.parse import quote

import orjson
import pytest

from app.api.routes import API
from app.ids import new_id
from tests.fakes.gateway import LiveGateway
from tests.fakes.raw_http import Answer, RawClient
from tests.fakes.replies import Reply
from tests.fakes.streams import item, response
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live

THEIRS = "resp_theirs"
THEIR_ITEM = item("Hello.")["id"]

# The routes whose id belongs to a project, and those whose id is everybody's.
OWNED = (
    ("GET", "/responses/{response_id}"),
    ("DELETE", "/responses/{response_id}"),
    ("POST", "/responses/{response_id}/cancel"),
    ("GET", "/responses/{response_id}/input_items"),
)
# What a project has in its conversations, and what is sent there.
CONVERSED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("GET", "/conversations/{conversation_id}", {}),
    ("POST", "/conversations/{conversation_id}", {"metadata": {"a": "b"}}),
    ("DELETE", "/conversations/{conversation_id}", {}),
    ("POST", "/conversations/{conversation_id}/items", {"items": [{"role": "user", "content": "Mine?"}]}),
    ("GET", "/conversations/{conversation_id}/items", {}),
    ("GET", "/conversations/{conversation_id}/items/{item_id}", {}),
    ("DELETE", "/conversations/{conversation_id}/items/{item_id}", {}),
)
EVERYBODYS = (("GET", "/models/{model_id:path}"),)
QUERIES = (
    "",
    "?stream=true",
    "?stream=true&starting_after=1",
    "?include[]=reasoning.encrypted_content",
    "?include=nothing",
    f"?after={THEIR_ITEM}",
    f"?before={THEIR_ITEM}&order=asc&limit=1",
    "?limit=0",
)
REFERENCE = {"type": "item_reference", "id": THEIR_ITEM}
CREATES: tuple[dict[str, Any], ...] = (
    {"input": "Go on.", "previous_response_id": THEIRS},
    {"input": [REFERENCE]},
    {"input": [{"id": THEIR_ITEM}]},
    {"input": [REFERENCE], "previous_response_id": THEIRS},
    {"input": [{"type": "function_call_output", "call_id": "call_1", "output": "1"}], "previous_response_id": THEIRS},
)
MODES: tuple[dict[str, Any], ...] = ({}, {"stream": True}, {"store": False}, {"stream": True, "store": False})

PAYLOADS = (
    "' OR '1'='1",
    "'; DROP TABLE responses;--",
    '" OR ""="',
    f"{THEIRS}' --",
    f"{THEIRS}\x00",
    f"{THEIRS}\\",
    f"{THEIRS}%",
    f"{THEIRS} ",
    "resp_%",
    "resp_______",
    "%",
    "*",
    "RESP_THEIRS",
    "\uff52esp_theirs",
    "$1",
    ":response_id",
    "%(response_id)s",
    "{{7*7}}",
    "${jndi:ldap://x}",
    "null",
    "0",
    "..",
    "\u202e\u2028\x85",
)


def completed(response_id: str, text: str = "Hello.") -> dict[str, Any]:
    return response(response_id, "completed", [item(text)])


async def ask(gateway: LiveGateway, method: str, target: str, key: str | None = None, **body: Any) -> Answer:
    async with RawClient.to(gateway.url) as client:
        raw = orjson.dumps({"model": "demo", **body}) if body else b""
        return await client.ask(method, target, gateway.headers(key), raw)


async def create_theirs(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.json(200, completed(THEIRS)))
    created = await ask(gateway, "POST", "/v1/responses", gateway.other_key, input="A secret of theirs.")
    assert (created.status, created.json["id"]) == (200, THEIRS)


async def test_every_route_that_takes_an_id_is_tried_here(sqlite_gateway: LiveGateway) -> None:
    tried = {*OWNED, *((method, path) for method, path, _ in CONVERSED), *EVERYBODYS}
    assert {(method, path) for method, path, *_ in API if "{" in path} == tried
    served = {getattr(route, "path", "") for route in sqlite_gateway.app.routes}
    assert {path for path in served if "{" in path and path.startswith("/v1/")} == {f"/v1{path}" for _, path in tried}


async def test_a_foreign_id_gets_the_bytes_of_one_that_never_existed(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    async def tried() -> dict[str, Answer]:
        targets = [
            (method, f"/v1{path}{query}".replace("{response_id}", THEIRS))
            for method, path in OWNED
            for query in QUERIES
        ]
        return {f"{method} {target}": await ask(gateway, method, target) for method, target in targets}

    before = await tried()
    await create_theirs(gateway, upstream)
    after = await tried()
    assert {name: answer.lasting for name, answer in after.items()} == {
        name: answer.lasting for name, answer in before.items()
    }
    assert {answer.status for name, answer in after.items() if "?" not in name} == {404}
    assert {answer.status for answer in after.values()} == {400, 404}
    # Nothing that was tried, the deletions among it, has touched it.
    assert (await ask(gateway, "GET", f"/v1/responses/{THEIRS}", gateway.other_key)).status == 200


async def test_a_foreign_conversation_is_as_one_that_never_existed(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    async def tell(method: str, target: str, key: str, body: dict[str, Any]) -> Answer:
        async with RawClient.to(gateway.url) as client:
            return await client.ask(method, f"/v1{target}", gateway.headers(key), orjson.dumps(body) if body else b"")

    started = {"items": [{"role": "user", "content": "A secret of theirs."}]}
    theirs = (await tell("POST", "/conversations", gateway.other_key, started)).json["id"]
    before = await tell("GET", f"/conversations/{theirs}/items", gateway.other_key, {})
    item_id = before.json["first_id"]
    calls = [
        *CONVERSED,
        ("POST", "/responses", {"model": "demo", "input": "Hi.", "conversation": "{conversation_id}"}),
        ("POST", "/responses", {"model": "demo", "input": "Hi.", "conversation": {"id": "{conversation_id}"}}),
        ("GET", "/conversations/{conversation_id}/items?limit=0", {}),
        ("GET", "/conversations/{conversation_id}/items?after={item_id}", {}),
    ]
    for method, path, body in calls:
        answers = {}
        for name in (theirs, new_id("conv")):
            named = {"{conversation_id}": name, "{item_id}": item_id}
            target, sent = path, orjson.dumps(body).decode()
            for mark, value in named.items():
                target, sent = target.replace(mark, value), sent.replace(mark, value)
            status, headers, told = (await tell(method, target, gateway.key, orjson.loads(sent))).lasting
            answers[name] = status, headers, told.replace(name.encode(), b"")
        assert answers[theirs] == next(answer for name, answer in answers.items() if name != theirs)
        assert answers[theirs][0] == (400 if "limit=0" in path else 404)
    after = await tell("GET", f"/conversations/{theirs}/items", gateway.other_key, {})
    assert after.lasting == before.lasting
    # Nor can their items be had in a conversation of one's own.
    mine = (await tell("POST", "/conversations", gateway.key, {"metadata": None})).json["id"]
    reference = {"items": [{"type": "item_reference", "id": item_id}]}
    assert (await tell("POST", f"/conversations/{mine}/items", gateway.key, reference)).status == 404
    assert (await tell("GET", f"/conversations/{mine}/items/{item_id}", gateway.key, {})).status == 404
    assert upstream.requests == []


async def test_a_create_call_cannot_build_on_what_is_foreign(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    async def tried() -> list[Answer]:
        bodies = [{**create, **mode} for create in CREATES for mode in MODES]
        return [await ask(gateway, "POST", "/v1/responses", **body) for body in bodies]

    before = await tried()
    await create_theirs(gateway, upstream)
    after = await tried()
    assert [answer.lasting for answer in after] == [answer.lasting for answer in before]
    assert {answer.status for answer in after} == {400, 404}
    assert len(upstream.requests) == 1
    # Their owner can build on them, by the same calls.
    for create in CREATES[:3]:
        assert (await ask(gateway, "POST", "/v1/responses", gateway.other_key, **create)).status == 200


async def test_two_projects_with_the_same_id_see_each_their_own(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    target = "/v1/responses/resp_twin"
    for key, text in ((gateway.key, "Mine."), (gateway.other_key, "Theirs.")):
        upstream.enqueue(Reply.json(200, completed("resp_twin", text)))
        assert (await ask(gateway, "POST", "/v1/responses", key, input=text)).status == 200
    mine, theirs = [await ask(gateway, "GET", target, key) for key in (gateway.key, gateway.other_key)]
    assert b"Mine." in mine.body
    assert b"Theirs." in theirs.body
    upstream.enqueue(Reply.json(200, completed("resp_next")))
    referring = await ask(gateway, "POST", "/v1/responses", input=[{"type": "item_reference", "id": THEIR_ITEM}])
    assert referring.status == 200
    assert b"Mine." in upstream.requests[-1].body
    assert b"Theirs." not in upstream.requests[-1].body
    assert (await ask(gateway, "DELETE", target)).status == 200
    assert (await ask(gateway, "GET", target)).status == 404
    assert (await ask(gateway, "GET", target, gateway.other_key)).body == theirs.body


async def test_no_payload_in_an_id_finds_anything(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    await create_theirs(gateway, upstream)
    statuses = {}
    for payload in PAYLOADS:
        named = quote(payload, safe="")
        statuses[payload] = [
            (await ask(gateway, "GET", f"/v1/responses/{named}", gateway.other_key)).status,
            (await ask(gateway, "DELETE", f"/v1/responses/{named}", gateway.other_key)).status,
            (await ask(gateway, "GET", f"/v1/responses/{named}/input_items", gateway.other_key)).status,
            (await ask(gateway, "GET", f"/v1/responses/{THEIRS}/input_items?after={named}", gateway.other_key)).status,
            (
                await ask(gateway, "POST", "/v1/responses", gateway.other_key, input="Hi", previous_response_id=payload)
            ).status,
            (await ask(gateway, "POST", "/v1/responses", gateway.other_key, input=[{"id": payload}])).status,
        ]
    assert statuses == {payload: [404, 404, 404, 400, 400, 404] for payload in PAYLOADS}
    kept = await ask(gateway, "GET", f"/v1/responses/{THEIRS}", gateway.other_key)
    assert kept.json["output"] == [item("Hello.")]
