"""A key's policy, and members that an upstream may take for those it is about: on every surface."""

from typing import Any

import httpx2
import orjson
import pytest

from app.state.policies import KeyPolicy, Limits
from tests.fakes.gateway import LiveGateway
from tests.fakes.limited import ADMINISTRATOR
from tests.fakes.replies import Reply
from tests.fakes.socket_client import SocketClient
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live

SECONDS = 30.0
BODY: dict[str, Any] = {"model": "ok-1", "input": "Hello!"}
SYNONYMS: dict[str, Any] = {
    "Model": "gpt-5-pro",
    "models": ["gpt-5-pro"],
    "MAX_OUTPUT_TOKENS": 99_999,
    "max_completion_tokens": 99_999,
    "Previous_Response_Id": "resp_of_another_project",
    "\u017ftore": True,
    "extra_body": {"model": "gpt-5-pro"},
}
SURFACES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/responses", {}),
    ("/responses", {"stream": True}),
    ("/responses", {"background": True}),
    ("/responses", {"store": False}),
    ("/responses/compact", {}),
    ("/responses/input_tokens", {}),
)


ANSWER = Reply.json(
    200,
    {"id": "resp_1", "object": "response", "status": "completed", "model": "ok-1", "output": [], "created_at": 1},
)


async def restricted_key(gateway: LiveGateway) -> str:
    services = gateway.app.state.services
    (project,) = [project for project in await services.projects.list() if project.name == "default"]
    policy = KeyPolicy(models=("ok-*",), limits=Limits(max_output_tokens=50))
    _, key = await services.keys.create(ADMINISTRATOR, project_id=project.id, name="restricted", policy=policy)
    return str(key)


async def test_no_surface_lets_a_synonym_round_a_policy(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    key = await restricted_key(sqlite_gateway)
    async with httpx2.AsyncClient(base_url=sqlite_gateway.base_url, timeout=SECONDS) as client:
        headers = sqlite_gateway.headers(key)
        made = (await client.post("/conversations", json={}, headers=headers)).json()["id"]
        for name, value in SYNONYMS.items():
            for path, members in (*SURFACES, ("/responses", {"conversation": made})):
                answer = await client.post(path, json={**BODY, **members, name: value}, headers=headers)
                assert answer.status_code == 400, (path, members, name)
                assert answer.json()["error"]["param"] == name
            async with SocketClient.to(sqlite_gateway, additional_headers=headers) as socket:
                last = await socket.turn(**{**BODY, name: value})
                assert (last["type"], last["status"], last["error"]["param"]) == ("error", 400, name)
    assert upstream.requests == []


async def test_for_a_key_without_a_policy_they_pass_unchanged(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    upstream.enqueue(ANSWER)
    async with httpx2.AsyncClient(base_url=sqlite_gateway.base_url, timeout=SECONDS) as client:
        answer = await client.post("/responses", json={**BODY, **SYNONYMS}, headers=sqlite_gateway.headers())
    assert answer.status_code == 200
    sent = orjson.loads(upstream.requests[0].body)
    assert {name: sent[name] for name in SYNONYMS} == SYNONYMS


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"gpt-5-pro","input":"x","model":"ok-1"}',
        b'{"model":"gpt-5-pro","input":"x","mod\\u0065l":"ok-1"}',
        b'{"mod\\u0065l":"gpt-5-pro","input":"x","model":"ok-1","max_output_tokens":9000,"max_output_tokens":20}',
    ],
)
async def test_of_a_repeated_member_upstream_hears_the_one_that_was_checked(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, raw: bytes
) -> None:
    headers = sqlite_gateway.headers(await restricted_key(sqlite_gateway))
    upstream.enqueue(ANSWER)
    async with httpx2.AsyncClient(base_url=sqlite_gateway.base_url, timeout=SECONDS) as client:
        assert (await client.post("/responses", content=raw, headers=headers)).status_code == 200
        other = raw.removesuffix(b"}") + b',"model":"x"}'
        assert (await client.post("/responses", content=other, headers=headers)).status_code == 404
    (sent,) = upstream.requests
    assert b"gpt-5-pro" not in sent.body
    assert b"9000" not in sent.body
    assert sent.body.count(b'"model"') == sent.body.count(b'"max_output_tokens"') == 1
