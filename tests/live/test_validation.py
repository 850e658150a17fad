"""What a call is held to, by who may serve it: on every surface that takes one."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from app.ids import new_id
from app.state.policies import KeyPolicy
from tests.fakes.background import BackgroundClient
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.limited import ADMINISTRATOR
from tests.fakes.raw_http import Answer, RawClient
from tests.fakes.replies import Reply
from tests.fakes.socket_client import SocketClient
from tests.fakes.streams import item, response, story
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

VENDORS_OWN: dict[str, Any] = {"service_tier": "on_demand", "reasoning": {"effort": "default"}}
LONG = "call_" + "g" * 90


def answering(request: Recorded) -> Reply:
    response_id = new_id("resp")
    if request.json.get("stream"):
        return Reply.sse(story(response_id))
    return Reply.json(200, response(response_id, "completed", [item("Hi.")]))


@pytest.fixture
async def gateway(sqlite_url: str, upstream: FakeUpstream) -> AsyncIterator[LiveGateway]:
    """Models `gpt-*` are of an upstream with OpenAI's rules, `llama-*` of one without, `both` of the two."""
    upstream.respond = answering
    upstreams = [
        upstream_settings(upstream.url, "sk-one", name="strict", models=("gpt-*", "both"), validation="openai"),
        upstream_settings(upstream.url, "sk-two", name="vendor", models=("llama-*", "both")),
    ]
    async with running_gateway(sqlite_url, upstreams) as gateway:
        yield gateway


async def post(gateway: LiveGateway, body: dict[str, Any], path: str = "/v1/responses") -> Answer:
    async with RawClient.to(gateway.url) as client:
        return await client.ask("POST", path, gateway.headers(), orjson.dumps(body))


async def test_a_vendors_values_reach_it_on_every_surface(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    for model in ("llama-4", "both"):
        asked = {"model": model, "input": "x", **VENDORS_OWN}
        assert (await post(gateway, asked)).status == 200
        assert (await post(gateway, {**asked, "stream": True})).status == 200
        assert (await post(gateway, asked, "/v1/responses/input_tokens")).status == 200
        async with BackgroundClient.to(gateway.url, gateway.key) as client:
            assert (await client.ended(await client.order(**asked)))["status"] == "completed"
        async with SocketClient.to(gateway) as socket:
            assert (await socket.respond(**asked))["status"] == "completed"
    for request in upstream.requests:
        assert request.json.items() >= VENDORS_OWN.items()
    assert len(upstream.requests) == 8


async def test_openais_rules_hold_where_openai_alone_serves(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    asked = {"model": "gpt-5", "input": "x", **VENDORS_OWN}
    expected = "Supported values are: 'none', 'minimal', 'low', 'medium', 'high', 'xhigh', and 'max'."
    for body, path in (
        (asked, "/v1/responses"),
        ({**asked, "background": True}, "/v1/responses"),
        (asked, "/v1/responses/compact"),
        (asked, "/v1/responses/input_tokens"),
    ):
        told = await post(gateway, body, path)
        assert (told.status, told.json["error"]["code"]) == (400, "invalid_value")
        assert expected in told.json["error"]["message"]
    async with SocketClient.to(gateway) as socket:
        told_there = await socket.turn(**asked)
        assert expected in told_there["error"]["message"]
    assert upstream.requests == []


async def test_a_call_id_of_upstreams_own_comes_back_to_it(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    call = {"id": "fc_1", "type": "function_call", "call_id": LONG, "name": "f", "arguments": "{}"}
    upstream.enqueue(Reply.json(200, response("resp_calls", "completed", [{**call, "status": "completed"}])))
    first = await post(gateway, {"model": "gpt-5", "input": "go"})
    output = {"type": "function_call_output", "call_id": LONG, "output": "1"}
    asked = {"model": "gpt-5", "previous_response_id": first.json["id"], "input": [output]}
    assert (await post(gateway, asked)).status == 200
    sent: Any = upstream.requests[-1].json["input"]
    assert [each.get("call_id") for each in sent[1:]] == [LONG, LONG]


@pytest.mark.parametrize("surface", ["JSON", "stream", "background", "socket"])
async def test_a_prompt_template_may_name_the_model(
    surface: str, sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    upstream.respond = answering
    asked = {"prompt": {"id": "pmpt_1", "version": "2"}}
    if surface == "background":
        async with BackgroundClient.to(sqlite_gateway.url, sqlite_gateway.key) as client:
            assert (await client.ended(await client.order(**asked, model=None, input="x")))["status"] == "completed"
    elif surface == "socket":
        async with SocketClient.to(sqlite_gateway) as socket:
            assert (await socket.respond(**asked, model=None))["status"] == "completed"
    else:
        assert (await post(sqlite_gateway, {**asked, "stream": surface == "stream"})).status == 200
    assert upstream.requests[-1].json.get("model") is None
    assert upstream.requests[-1].json["prompt"] == asked["prompt"]


async def test_no_model_of_a_template_gets_round_a_key_that_is_for_some(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    limited = await _key_for(sqlite_gateway, "gpt-*")
    async with RawClient.to(sqlite_gateway.url) as client:
        headers = sqlite_gateway.headers(limited)
        told = await client.ask("POST", "/v1/responses", headers, b'{"prompt":{"id":"pmpt_1"}}')
    assert (told.status, told.json["error"]["code"]) == (404, "model_not_found")
    assert upstream.requests == []


async def _key_for(gateway: LiveGateway, *models: str) -> str:
    services = gateway.app.state.services
    (project,) = [project for project in await services.projects.list() if project.name == "default"]
    policy = KeyPolicy(models=models)
    _, key = await services.keys.create(ADMINISTRATOR, project_id=project.id, name="limited", policy=policy)
    return str(key)


async def test_what_is_of_no_model_is_held_to_what_all_upstreams_share(
    gateway: LiveGateway, sqlite_url: str, upstream: FakeUpstream
) -> None:
    items = {"items": [{"role": "tool", "content": "x"}]}
    assert (await post(gateway, items, "/v1/conversations")).status == 200
    made = (await post(gateway, {"model": "gpt-5", "input": "x"})).json["id"]
    assert (await retrieved(gateway, f"{made}?include[]=vendor.extra")).status == 200
    openai_alone = [upstream_settings(upstream.url, "sk-one", validation="openai")]
    async with running_gateway(sqlite_url, openai_alone, keys_of=gateway) as strict:
        for told in (
            await post(strict, items, "/v1/conversations"),
            await retrieved(strict, f"{made}?include[]=vendor.extra"),
        ):
            assert (told.status, told.json["error"]["code"]) == (400, "invalid_value")


async def retrieved(gateway: LiveGateway, target: str) -> Answer:
    async with RawClient.to(gateway.url) as client:
        return await client.ask("GET", f"/v1/responses/{target}", gateway.headers())


async def test_a_malformed_conversation_id_is_told_so_everywhere(gateway: LiveGateway) -> None:
    async def check(told: Answer, param: str) -> None:
        error = told.json["error"]
        assert (told.status, error["code"], error["param"]) == (400, "invalid_value", param)
        assert error["message"] == f"Invalid '{param}': 'thread_1'. Expected an ID that begins with 'conv'."

    for path in ("/v1/responses", "/v1/responses/input_tokens"):
        await check(await post(gateway, {"model": "m", "input": "x", "conversation": "thread_1"}, path), "conversation")
    async with RawClient.to(gateway.url) as client:
        for method, path in (
            ("GET", ""),
            ("POST", ""),
            ("DELETE", ""),
            ("GET", "/items"),
            ("POST", "/items"),
            ("GET", "/items/msg_1"),
            ("DELETE", "/items/msg_1"),
        ):
            told = await client.ask(method, f"/v1/conversations/thread_1{path}", gateway.headers(), b"{}")
            await check(told, "conversation_id")
        # Who is not known is told nothing.
        assert (await client.ask("GET", "/v1/conversations/thread_1", {})).status == 401
