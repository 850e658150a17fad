"""The surfaces beside responses: which are served, who may use them, what is refused and what is counted."""

from typing import Any

import httpx
import pytest

from app.state.policies import CLIENT_SCOPES, STORED_SCOPES, KeyPolicy, Limits
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.limited import keys_with
from tests.fakes.passthrough import MESSAGES, USED, posted
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live


@pytest.mark.parametrize(
    ("path", "body", "message", "code", "param"),
    [
        ("/chat/completions", {"messages": MESSAGES}, "Missing required parameter: 'model'.", None, "model"),
        ("/chat/completions", {"model": "m"}, "Missing required parameter: 'messages'.", None, "messages"),
        (
            "/chat/completions",
            {"model": "m", "messages": []},
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            "empty_array",
            "messages",
        ),
        (
            "/chat/completions",
            {"model": "m", "messages": ["Hi"]},
            "Invalid type for 'messages[0]': expected an object, but got a string instead.",
            "invalid_type",
            "messages[0]",
        ),
        (
            "/chat/completions",
            {"model": "m", "messages": MESSAGES, "stream": "yes"},
            "Invalid type for 'stream': expected a boolean, but got a string instead.",
            "invalid_type",
            "stream",
        ),
        (
            "/chat/completions",
            {"model": "m", "messages": MESSAGES, "n": 0},
            "Invalid 'n': integer below minimum value. Expected a value >= 1, but got 0 instead.",
            "integer_below_min_value",
            "n",
        ),
        (
            "/embeddings",
            {"model": "e", "input": 5},
            "Invalid type for 'input': expected one of a string or array, but got an integer instead.",
            "invalid_type",
            "input",
        ),
    ],
)
async def test_bad_input_is_refused_before_upstream_is_asked(  # noqa: PLR0917
    sqlite_gateway: LiveGateway,
    upstream: FakeUpstream,
    path: str,
    body: dict[str, Any],
    message: str,
    code: str | None,
    param: str,
) -> None:
    answer = await posted(sqlite_gateway, path, **body)
    error = answer.json()["error"]
    assert (answer.status_code, error["message"], error["param"]) == (400, message, param)
    assert error["code"] == (code or "missing_required_parameter")
    assert upstream.requests == []


async def test_a_surface_that_is_not_served_is_not_there(
    sqlite_url: str, upstream: FakeUpstream, sqlite_gateway: LiveGateway
) -> None:
    off = await posted(sqlite_gateway, "/moderations", input="x")
    assert (off.status_code, off.json()["error"]["message"]) == (404, "Invalid URL (POST /v1/moderations)")
    found = {"id": "modr-1", "model": "omni", "results": []}
    upstream.enqueue(Reply.json(200, found))
    settings = [upstream_settings(upstream.url)]
    [key] = await keys_with(sqlite_url, KeyPolicy(scopes=("moderations",)))
    surfaces = {"surfaces": "moderations"}
    async with running_gateway(sqlite_url, settings, server=surfaces, keys_of=sqlite_gateway) as gateway:
        answer = await posted(gateway, "/moderations", key, input="x")
        assert answer.json() == found
        assert (await posted(gateway, "/chat/completions", model="m", messages=MESSAGES)).status_code == 404
    assert upstream.requests[0].json == {"model": "omni-moderation-latest", "input": "x"}


async def test_a_key_of_before_the_surfaces_gets_none_of_them(
    gateway: LiveGateway, upstream: FakeUpstream, database_url: str
) -> None:
    old, new = await keys_with(database_url, KeyPolicy(scopes=STORED_SCOPES), KeyPolicy(scopes=CLIENT_SCOPES))
    for path in ("/chat/completions", "/embeddings"):
        refused = await posted(gateway, path, old, model="m", messages=MESSAGES, input="x")
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_permissions")
    assert upstream.requests == []
    upstream.enqueue(Reply.json(200, {"id": "chatcmpl-1", "choices": []}))
    assert (await posted(gateway, "/chat/completions", new, model="m", messages=MESSAGES)).status_code == 200


async def test_limits_count_every_surface_and_cap_its_output(
    gateway: LiveGateway, upstream: FakeUpstream, database_url: str
) -> None:
    limits = Limits(tokens_per_minute=2000, max_output_tokens=300)
    [key] = await keys_with(database_url, KeyPolicy(scopes=CLIENT_SCOPES, limits=limits))
    upstream.respond = lambda _: Reply.json(200, {"id": "chatcmpl-1", "choices": [], "usage": USED})
    answer = await posted(gateway, "/chat/completions", key, model="m", messages=MESSAGES, n=3)
    assert answer.headers["x-ratelimit-limit-tokens"] == "2000"
    assert upstream.requests[0].json["max_tokens"] == 100
    above = await posted(gateway, "/chat/completions", key, model="m", messages=MESSAGES, max_tokens=200, n=2)
    assert (above.status_code, above.json()["error"]["param"]) == (400, "max_tokens")
    other = await posted(gateway, "/chat/completions", key, model="m", messages=MESSAGES, max_output_tokens=9)
    assert (other.status_code, other.json()["error"]["param"]) == (400, "max_output_tokens")
    large = await posted(gateway, "/embeddings", key, model="e", input="x" * 9000)
    assert (large.status_code, large.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    async with httpx.AsyncClient() as client:
        told = (await client.get(f"{gateway.base_url}/usage", headers=gateway.headers(key))).json()
    assert [limit["used"] for limit in told["limits"] if limit["name"] == "tokens_per_minute"] == [13]
