"""What embeddings and large completions cost: their usage wherever it stands, and the public prices."""

from typing import Any

import pytest

from app.demo.create_request import MODEL
from app.state.policies import SCOPES, Budget, KeyPolicy, Limits
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.limited import keys_with
from tests.fakes.passthrough import MESSAGES, ledger, posted
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live

PAYING = KeyPolicy(scopes=SCOPES[:8], limits=Limits(budgets=(Budget("day", usd=5.0),)))
LARGE = (
    b'{"id":"chatcmpl-1","choices":[{"message":{"content":"' + b"a" * 200_000 + b'"}}],"usage":'
    b'{"prompt_tokens":9,"completion_tokens":50000,"total_tokens":50009},"prompt_logprobs":"' + b"z" * 9000 + b'"}'
)


async def test_a_large_completion_is_paid_by_its_usage_wherever_that_stands(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply.body(200, LARGE))
    assert (await posted(sqlite_gateway, "/chat/completions", model="m", messages=MESSAGES)).content == LARGE
    entry = (await ledger(sqlite_gateway))[0]
    assert (entry["input_tokens"], entry["output_tokens"], entry["is_estimated"]) == (9, 50000, False)


async def test_a_large_completion_without_usage_is_estimated(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply.body(200, LARGE.replace(b'"usage"', b'"other"')))
    await posted(sqlite_gateway, "/chat/completions", model="m", messages=MESSAGES)
    entry = (await ledger(sqlite_gateway))[0]
    assert (entry["output_tokens"], entry["is_estimated"]) == (50000, True)


async def test_a_large_completion_that_breaks_off_is_an_error(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply.truncated(LARGE))
    answer = await posted(sqlite_gateway, "/chat/completions", model="m", messages=MESSAGES)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_disconnected")
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("size", [10, 100_000])
async def test_one_number_for_all_tokens_is_a_usage(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, size: int
) -> None:
    body = b'{"object":"list","data":[{"embedding":"%b"}],"model":"\xff","usage":{"total_tokens":7}}' % (b"A" * size)
    body = body if size > 1000 else body.replace(b"\xff", b"v")
    upstream.enqueue(Reply.body(200, body))
    assert (await posted(sqlite_gateway, "/embeddings", model="e", input="x")).content == body
    entry = (await ledger(sqlite_gateway))[0]
    assert (entry["input_tokens"], entry["output_tokens"], entry["is_estimated"]) == (7, 0, False)


async def test_embeddings_are_not_asked_for_a_stream(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.json(200, {"object": "list", "data": []}))
    await posted(sqlite_gateway, "/embeddings", model="e", input="x", stream=True)
    assert "stream_options" not in upstream.requests[0].json


async def test_a_model_that_only_embeds_needs_no_price_of_an_output(
    sqlite_gateway: LiveGateway, sqlite_url: str, upstream: FakeUpstream
) -> None:
    [key] = await keys_with(sqlite_url, PAYING)
    counted = {"prompt_tokens": 1000, "total_tokens": 1000}
    upstream.respond = lambda _: Reply.json(200, {"object": "list", "data": [], "usage": counted})
    for model in ("text-embedding-3-small", "gemini-embedding-001"):
        assert (await posted(sqlite_gateway, "/embeddings", key, model=model, input="x")).status_code == 200
    costs = [entry["cost_nano"] for entry in await ledger(sqlite_gateway, 2)]
    assert sorted(costs) == [20_000, 150_000]
    chat: Any = {"model": "gemini-embedding-001", "messages": MESSAGES}
    assert (await posted(sqlite_gateway, "/chat/completions", key, **chat)).status_code == 400


async def test_moderations_are_free_where_nobody_says_what_they_cost(sqlite_url: str, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.json(200, {"id": "modr-1", "results": []}))
    settings = [upstream_settings(upstream.url)]
    async with running_gateway(sqlite_url, settings, server={"surfaces": "moderations"}) as gateway:
        [key] = await keys_with(sqlite_url, PAYING)
        assert (await posted(gateway, "/moderations", key, input="x")).status_code == 200


async def test_a_model_that_cannot_embed_is_still_there_for_responses(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply.error(404, "model_not_found"))
    assert (await posted(sqlite_gateway, "/embeddings", model=MODEL, input="x")).status_code == 404
    assert (await posted(sqlite_gateway, "/embeddings", model=MODEL, input="x")).status_code == 400
    assert len(upstream.requests) == 1
    assert (await posted(sqlite_gateway, "/responses", model=MODEL, input="x")).status_code == 200
