"""A call with an Idempotency-Key is made once: repeats attach to it, or get its answer byte for byte."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI

from app.state.idempotency import Answer, Fingerprint
from app.state.policies import Limits
from app.storage.idempotency.store import IdempotencyStore
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.keyed import KeyedClient, LosingFront, asked, client_to, code
from tests.fakes.limited import limited_keys
from tests.fakes.replies import Reply
from tests.fakes.streams import response, story
from tests.fakes.upstream import FakeUpstream

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

_SECONDS = 60.0
ANSWER = response("resp_theirs", "completed")


@pytest.fixture
async def client(gateway: LiveGateway) -> AsyncIterator[KeyedClient]:
    async with client_to(gateway) as client:
        yield client


@pytest.fixture
async def sqlite_client(sqlite_gateway: LiveGateway) -> AsyncIterator[KeyedClient]:
    async with client_to(sqlite_gateway) as client:
        yield client


async def test_a_repeat_gets_the_same_bytes_and_upstream_is_asked_once(
    client: KeyedClient, upstream: FakeUpstream
) -> None:
    first, repeat = await client.post(), await client.post()
    assert (repeat.status_code, repeat.content) == (first.status_code, first.content)
    assert (first.status_code, len(upstream.requests)) == (200, 1)
    assert "idempotent-replayed" not in first.headers
    assert repeat.headers["idempotent-replayed"] == "true"
    other = await client.post(idempotency="two")
    assert other.json()["id"] != first.json()["id"]


async def test_a_repeat_of_a_stream_gets_the_same_bytes(client: KeyedClient, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.sse(story("resp_theirs")))
    first, repeat = await client.post(**asked(stream=True)), await client.post(**asked(stream=True))
    assert first.content == b"".join(story("resp_theirs"))
    assert (repeat.content, len(upstream.requests)) == (first.content, 1)
    assert repeat.headers["content-type"] == first.headers["content-type"]


@pytest.mark.slow_on_postgresql
async def test_another_body_under_the_key_is_a_conflict(client: KeyedClient, upstream: FakeUpstream) -> None:
    await client.post()
    other = await client.post(**asked(temperature=0.5))
    assert code(other) == (409, "idempotency_key_reused")
    assert other.headers["x-should-retry"] == "false"
    assert len(upstream.requests) == 1


@pytest.mark.slow_on_postgresql
async def test_the_key_is_its_callers_own(gateway: LiveGateway, client: KeyedClient, upstream: FakeUpstream) -> None:
    first = await client.post()
    theirs = await client.post(key=gateway.other_key, **asked(input="Something else"))
    assert (theirs.status_code, len(upstream.requests)) == (200, 2)
    assert theirs.json()["id"] != first.json()["id"]


@pytest.mark.slow_on_postgresql
async def test_a_repeat_of_a_running_stream_hears_it_from_its_beginning_as_it_comes(
    client: KeyedClient, upstream: FakeUpstream
) -> None:
    go, frames = asyncio.Event(), story("resp_theirs")
    upstream.enqueue(Reply.held(frames[:3], go, frames[3:]))
    async with client.streaming() as first, client.streaming() as repeat:
        heard = [await anext(first), await anext(repeat)]
        go.set()
        for number, chunks in enumerate((first, repeat)):
            heard[number] += b"".join([chunk async for chunk in chunks])
    assert heard == [b"".join(frames)] * 2
    assert len(upstream.requests) == 1


@pytest.mark.slow_on_postgresql
async def test_a_call_goes_on_when_its_client_leaves_and_is_told_to_the_repeat(
    client: KeyedClient, upstream: FakeUpstream
) -> None:
    go, frames = asyncio.Event(), story("resp_theirs")
    upstream.enqueue(Reply.held(frames[:3], go, frames[3:]))
    async with client.streaming() as first:
        await anext(first)
    async with client.streaming() as repeat:
        heard = await anext(repeat)
        go.set()
        heard += b"".join([chunk async for chunk in repeat])
    assert (heard, len(upstream.requests)) == (b"".join(frames), 1)


async def test_repeats_that_come_at_once_are_one_call(client: KeyedClient, upstream: FakeUpstream) -> None:
    go = asyncio.Event()
    body = Reply.json(200, ANSWER).steps
    upstream.enqueue(Reply([go, *body]))
    posts = [asyncio.create_task(client.post()) for _ in range(8)]
    await upstream.request(timeout=_SECONDS)
    go.set()
    answers = await asyncio.gather(*posts)
    assert {(answer.status_code, answer.content) for answer in answers} == {(200, answers[0].content)}
    assert len(upstream.requests) == 1


async def test_of_a_call_that_is_not_stored_only_the_fact_is_kept(
    gateway: LiveGateway, client: KeyedClient, upstream: FakeUpstream
) -> None:
    first, repeat = await client.post(**asked(store=False)), await client.post(**asked(store=False))
    assert first.status_code == 200
    assert code(repeat) == (409, "idempotency_answer_not_kept")
    assert repeat.headers["x-should-retry"] == "false"
    assert len(upstream.requests) == 1
    kept = await rows(gateway, "SELECT headers, body FROM idempotency_keys")
    assert kept == [(None, None)]


@pytest.mark.slow_on_postgresql
async def test_a_call_that_upstream_refused_is_made_again(client: KeyedClient, upstream: FakeUpstream) -> None:
    upstream.enqueue(*[Reply.error(400, "invalid_prompt")])
    first, repeat = await client.post(), await client.post()
    assert (first.status_code, repeat.status_code, len(upstream.requests)) == (400, 200, 2)


async def test_a_repeat_that_waits_for_a_call_that_is_refused_makes_it_itself(
    sqlite_client: KeyedClient, upstream: FakeUpstream
) -> None:
    go = asyncio.Event()
    upstream.enqueue(Reply([go, *Reply.error(400, "invalid_prompt").steps]))
    first = asyncio.create_task(sqlite_client.post())
    await upstream.request(timeout=_SECONDS)
    repeat = asyncio.create_task(sqlite_client.post())
    assert code(await sqlite_client.post(**asked(temperature=0.5))) == (409, "idempotency_key_reused")
    go.set()
    assert [(await first).status_code, (await repeat).status_code] == [400, 200]
    assert len(upstream.requests) == 2


async def test_a_repeat_makes_the_call_whose_owner_died_once_its_lease_is_over(
    gateway: LiveGateway, client: KeyedClient, upstream: FakeUpstream
) -> None:
    [(project_id, key_id)] = await rows(gateway, "SELECT project_id, id FROM api_keys WHERE name = 'live'")
    hashed = Fingerprint("one", b"/v1/responses?")
    hashed.of(lambda _body, _depth: None)(httpx2.Request("POST", gateway.url, json=asked()).content, 9)
    dead = hashed.request(project_id, key_id)
    store: IdempotencyStore = gateway.app.state.services.idempotency.store
    assert await store.claim(dead, "dead", lease_seconds=2) is None
    answer = await client.post()
    assert (answer.status_code, len(upstream.requests)) == (200, 1)
    await store.finish(dead, "dead", Answer(200, (), b"late"))
    assert (await client.post()).content == answer.content


async def test_a_call_that_may_have_been_paid_for_is_not_made_again(
    sqlite_client: KeyedClient, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply.json(200, {"no": "response"}))
    first = await sqlite_client.post()
    asked_before = len(upstream.requests)
    repeat = await sqlite_client.post()
    assert (first.status_code, repeat.status_code, repeat.content) == (502, 502, first.content)
    assert len(upstream.requests) == asked_before


async def test_a_response_that_is_deleted_takes_its_answer_with_it(
    gateway: LiveGateway, client: KeyedClient, upstream: FakeUpstream
) -> None:
    made = (await client.post()).json()
    await client.http.delete(f"{gateway.base_url}/responses/{made['id']}", headers=gateway.headers())
    assert code(await client.post()) == (409, "idempotency_answer_not_kept")
    assert len(upstream.requests) == 1


async def test_items_are_added_once(gateway: LiveGateway, client: KeyedClient) -> None:
    made, again = (
        await client.post("/conversations", metadata={"a": "b"}),
        await client.post("/conversations", metadata={"a": "b"}),
    )
    assert made.content == again.content
    path = f"/conversations/{made.json()['id']}/items"
    items: dict[str, Any] = {"items": [{"type": "message", "role": "user", "content": "Once."}]}
    first, repeat = [await client.post(path, idempotency="items", **items) for _ in range(2)]
    assert (first.status_code, repeat.content) == (200, first.content)
    missing = await client.post("/conversations/conv_none/items", idempotency="missing", **items)
    assert missing.status_code == 404
    listed = await client.http.get(f"{gateway.base_url}{path}", headers=gateway.headers())
    assert len(listed.json()["data"]) == 1
    await client.http.delete(f"{gateway.base_url}{path}/{listed.json()['data'][0]['id']}", headers=gateway.headers())
    assert code(await client.post(path, idempotency="items", **items)) == (409, "idempotency_answer_not_kept")


async def test_an_order_in_the_background_is_made_once(client: KeyedClient, upstream: FakeUpstream) -> None:
    first, repeat = [await client.post(**asked(background=True)) for _ in range(2)]
    assert (first.json()["status"], repeat.content) == ("queued", first.content)
    heard = [await client.post(idempotency="two", **asked(background=True, stream=True)) for _ in range(2)]
    assert heard[0].status_code == 200
    assert heard[0].content == heard[1].content
    assert heard[0].content.endswith(b"data: [DONE]\n\n")
    await upstream.request(1, timeout=_SECONDS)
    assert len(upstream.requests) == 2


async def test_a_key_has_a_length(sqlite_client: KeyedClient) -> None:
    assert (await sqlite_client.post(idempotency="x" * 255)).status_code == 200
    assert code(await sqlite_client.post(idempotency="x" * 256)) == (400, "invalid_idempotency_key")
    assert code(await sqlite_client.post(idempotency="")) == (400, "invalid_idempotency_key")


async def test_a_repeat_counts_as_a_request_and_takes_no_tokens(
    sqlite_gateway: LiveGateway, sqlite_client: KeyedClient
) -> None:
    secret = sqlite_gateway.settings.storage.database_url
    assert secret is not None
    [key] = await limited_keys(secret.get_secret_value(), Limits(requests_per_minute=3, tokens_per_minute=100_000))
    answers = [await sqlite_client.post(key=key) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers[:3]] == ["2", "1", "0"]


async def test_a_project_has_so_many_keys(sqlite_url: str, upstream: FakeUpstream) -> None:
    settings = [upstream_settings(upstream.url, "sk-upstream-one")]
    limits = {"idempotency_keys": 2}
    async with running_gateway(sqlite_url, settings, limits=limits) as gateway, client_to(gateway) as client:
        answers = [await client.post(idempotency=name) for name in ("one", "two", "three", "one")]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 200]
    assert code(answers[2]) == (429, "rate_limit_exceeded")


async def test_what_does_not_fit_is_known_and_not_kept(sqlite_url: str, upstream: FakeUpstream) -> None:
    settings = [upstream_settings(upstream.url, "sk-upstream-one")]
    limits = {"idempotency_bytes": 10}
    async with running_gateway(sqlite_url, settings, limits=limits) as gateway, client_to(gateway) as client:
        assert (await client.post()).status_code == 200
        assert code(await client.post()) == (409, "idempotency_answer_not_kept")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_the_sdks_own_retry_gets_the_answer_that_was_lost(
    gateway: LiveGateway, upstream: FakeUpstream, *, stream: bool
) -> None:
    async with (
        LosingFront.to(gateway) as (front, url),
        AsyncOpenAI(base_url=url, api_key=gateway.key, max_retries=2) as client,
    ):
        # All that has the SDK name its calls: each of a call's retries has the same name then.
        client._idempotency_header = "Idempotency-Key"
        if stream:
            told = [event async for event in await client.responses.create(model="demo", input="Hi!", stream=True)]
            assert told[-1].type == "response.completed"
        else:
            assert (await client.responses.create(model="demo", input="Hi!")).output_text
    assert (front.lost, len(upstream.requests)) == (1, 1)


async def rows(gateway: LiveGateway, query: str) -> list[tuple[Any, ...]]:
    found = await gateway.database.read(lambda connection: connection.exec_driver_sql(query).all())
    return [tuple(row) for row in found]
