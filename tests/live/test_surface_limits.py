"""Keys with limits on the surfaces beside responses: what they may say, and what their output adds up to."""

from typing import Any

import pytest

from app.state.policies import SCOPES, Budget, KeyPolicy, Limits
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.limited import keys_with
from tests.fakes.passthrough import MESSAGES, USED, posted
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live

CALL: Any = {"model": "gpt-4o-mini", "messages": MESSAGES}
COUNTED = Limits(tokens_per_minute=10_000_000, budgets=(Budget("day", usd=5.0),))
CAPPED = Limits(max_output_tokens=100)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"numbers": [1] * 20}}}


async def key_with(url: str, limits: Limits) -> str:
    [key] = await keys_with(url, KeyPolicy(scopes=SCOPES[:8], limits=limits))
    return key


@pytest.mark.parametrize(
    "members",
    [
        {"temperature": 0.2, "top_p": 1, "tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False},
        {"tools": [TOOL] * 2000, "response_format": {"type": "json_schema", "json_schema": {"any": [1] * 40_000}}},
        {"tools": 5, "functions": "f", "service_tier": ["auto"]},
    ],
    ids=["usual", "large", "of other types"],
)
async def test_a_limited_key_may_say_what_no_limit_is_about(
    sqlite_gateway: LiveGateway, sqlite_url: str, upstream: FakeUpstream, members: dict[str, Any]
) -> None:
    key = await key_with(sqlite_url, COUNTED)
    upstream.enqueue(Reply.json(200, {"id": "chatcmpl-1", "choices": [], "usage": USED}))
    answer = await posted(sqlite_gateway, "/chat/completions", key, **CALL, **members)
    assert (answer.status_code, upstream.requests[0].json) == (200, {**CALL, **members})


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({"prompt": ["a", "b"], "n": 2}, 25),
        ({"prompt": [[1, 2, 3], [4]]}, 50),
        ({"prompt": [1, 2, 3]}, 100),
        ({"prompt": ["a", "b"], "max_tokens": 51}, None),
        ({"prompt": ["a"] * 101}, None),
        ({"prompt": "a", "n": 101}, None),
    ],
)
async def test_a_cap_is_of_all_answers_to_all_prompts(
    sqlite_url: str, upstream: FakeUpstream, asked: dict[str, Any], sent: int | None
) -> None:
    upstream.enqueue(Reply.json(200, {"id": "cmpl-1", "choices": [], "usage": USED}))
    settings = [upstream_settings(upstream.url)]
    async with running_gateway(sqlite_url, settings, server={"surfaces": "completions"}) as gateway:
        key = await key_with(sqlite_url, CAPPED)
        answer = await posted(gateway, "/completions", key, model="m", **asked)
    if sent is None:
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "integer_above_max_value")
        assert upstream.requests == []
    else:
        assert (answer.status_code, upstream.requests[0].json["max_tokens"]) == (200, sent)


async def test_a_text_in_tokens_counts_its_tokens(
    sqlite_gateway: LiveGateway, sqlite_url: str, upstream: FakeUpstream
) -> None:
    key = await key_with(sqlite_url, Limits(tokens_per_minute=4000))
    upstream.enqueue(Reply.json(200, {"object": "list", "data": []}))
    answer = await posted(sqlite_gateway, "/embeddings", key, model="e", input=[7] * 3000)
    assert (answer.status_code, answer.headers["x-ratelimit-remaining-tokens"]) == (200, "1000")
