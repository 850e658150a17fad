"""POST /v1/responses/input_tokens: upstream's count where it has one to give, else an estimate that says so."""

from typing import Any

import pytest
from openai import APIStatusError, AsyncOpenAI, BadRequestError, NotFoundError

from tests.builders import user
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

COUNTED = {"object": "response.input_tokens", "input_tokens": 11}
TOOL: Any = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {"city": {}}}}


async def count(client: AsyncOpenAI, **fields: Any) -> tuple[int, str | None]:
    """The count, and the header that marks an estimate."""
    answer = await client.responses.input_tokens.with_raw_response.count(**fields)
    counted = answer.parse()
    assert counted.object == "response.input_tokens"
    return counted.input_tokens, answer.headers.get("x-antiphon-estimated")


def refused(error: APIStatusError) -> tuple[int, str | None, str | None]:
    return error.status_code, error.code, error.param


async def test_without_an_upstream_that_counts_the_answer_is_an_estimate(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    async with gateway.client() as client:
        short = await count(client, model="demo", input="Hello there.")
        assert short == (8, "true")
        for more in ({"instructions": "Be brief."}, {"tools": [TOOL]}, {"input": [user("Hello there, all of you.")]}):
            tokens, estimated = await count(client, **{"model": "demo", "input": "Hello there.", **more})
            assert (tokens > short[0], estimated) == (True, "true")
        assert await count(client) == (0, "true")
        assert await count(client, input="Hello there.") == short
    assert upstream.requests == []


async def test_what_the_input_continues_is_counted_in(gateway: LiveGateway) -> None:
    async with gateway.client() as client:
        first = await client.responses.create(model="demo", input="Tell me more. " * 40)
        alone, _ = await count(client, model="demo", input="And?")
        chained, _ = await count(client, model="demo", input="And?", previous_response_id=first.id)
        assert chained > alone + 100
        # A model is not needed for that.
        assert (await count(client, input="And?", previous_response_id=first.id))[0] == chained


async def test_a_conversation_is_counted_in_and_not_held(gateway: LiveGateway) -> None:
    async with gateway.client() as client:
        conversation = await client.conversations.create()
        await client.responses.create(model="demo", input="Tell me more. " * 40, conversation=conversation.id)
        alone, _ = await count(client, model="demo", input="And?")
        for _ in range(2):
            assert (await count(client, model="demo", input="And?", conversation=conversation.id))[0] > alone + 100
        await client.responses.create(model="demo", input="And?", conversation=conversation.id)
        with pytest.raises(NotFoundError):
            await count(client, model="demo", input="And?", conversation="conv_unknown")


async def test_upstreams_own_count_is_of_the_whole_input(sqlite_url: str, upstream: FakeUpstream) -> None:
    having = upstream_settings(upstream.url, "sk-one", endpoints=["input_tokens"])
    async with running_gateway(sqlite_url, [having]) as gateway, gateway.client() as client:
        first = await client.responses.create(model="demo", input="Hello.")
        upstream.enqueue(Reply.json(200, COUNTED))
        asked = {"input": "And?", "previous_response_id": first.id, "personality": "friendly", "tools": [TOOL]}
        assert await count(client, model="demo", **asked) == (11, None)
    request = upstream.requests[-1]
    assert request.path == "/v1/responses/input_tokens"
    assert request.json.keys() == {"model", "input", "personality", "tools"}
    given = request.json["input"]
    assert isinstance(given, list)
    assert [item["role"] for item in given] == ["user", "assistant", "user"]


async def test_the_walk_through_the_pool_ends_at_the_first_account_that_does_not_count(
    sqlite_url: str, upstream: FakeUpstream
) -> None:
    upstreams = [
        upstream_settings(upstream.url, "sk-one", endpoints=["input_tokens"]),
        upstream_settings(upstream.url, "sk-two", name="other"),
    ]
    upstream.enqueue(Reply.error(500))
    async with running_gateway(sqlite_url, upstreams) as gateway, gateway.client() as client:
        assert await count(client, model="demo", input="Hello there.") == (8, "true")
    assert [request.path for request in upstream.requests] == ["/v1/responses/input_tokens"]


async def test_what_is_wrong_is_refused_as_in_a_create_call(sqlite_gateway: LiveGateway) -> None:
    async with sqlite_gateway.client() as client:
        with pytest.raises(BadRequestError) as error:
            await count(client, model="demo", input="Hi.", previous_response_id="resp_unknown")
        assert refused(error.value) == (400, "previous_response_not_found", "previous_response_id")
        with pytest.raises(BadRequestError) as error:
            await count(client, model="demo", input="Hi.", tools=[{"type": "function"}])
        assert refused(error.value) == (400, "missing_required_parameter", "tools[0].name")


async def test_a_model_that_nobody_serves_is_not_counted_for(sqlite_url: str, upstream: FakeUpstream) -> None:
    one = upstream_settings(upstream.url, "sk-one", models=["demo"])
    async with running_gateway(sqlite_url, [one]) as gateway, gateway.client() as client:
        with pytest.raises(BadRequestError) as error:
            await count(client, model="gpt-9", input="Hi.")
    assert refused(error.value) == (400, "model_not_found", "model")
