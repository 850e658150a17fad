import asyncio
from typing import Any

import httpx
import pytest
import respx

from app.settings.upstreams import UpstreamSettings
from app.upstream.model_catalogue import ModelCatalogue
from app.upstream.pool.pool import Pool
from app.upstream.transport import Transport
from tests.fakes.httpx_transport import HttpxTransport
from tests.fakes.replies import Act, Reply
from tests.fakes.upstream import FakeUpstream
from tests.upstream.rig import KEYS, cooling, upstream_settings


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def listing(*ids: str) -> Reply:
    return Reply.json(200, {"object": "list", "data": [model(name) for name in ids]})


def model(name: str, owner: str = "up", created: int = 7) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


def catalogue(transport: Transport, *upstreams: UpstreamSettings, clock: Clock | None = None) -> ModelCatalogue:
    return ModelCatalogue(Pool(upstreams, 10.0), lambda _: transport, 300.0, clock or Clock())


async def test_the_list_is_what_the_globs_let_through(upstream: FakeUpstream, transport: Transport) -> None:
    upstream.enqueue(listing("gpt-5", "whisper-1", "o3"))
    models = catalogue(transport, upstream_settings(upstream.url, models=("gpt-*", "o3")))
    assert await models.list() == [model("gpt-5"), model("o3")]
    assert (upstream.requests[0].method, upstream.requests[0].path) == ("GET", "/v1/models")
    assert upstream.requests[0].headers["authorization"] == f"Bearer {KEYS[0]}"
    assert upstream.requests[0].body == b""


async def test_the_first_upstream_wins_and_each_is_asked_with_its_own_key() -> None:
    network = respx.MockRouter()
    first = network.get("https://first.test/v1/models").respond(json={"data": [model("gpt-5")]})
    second = network.get("https://second.test/v1/models").respond(
        json={"data": [model("gpt-5", "2"), model("o3", "2")]}
    )
    models = catalogue(
        HttpxTransport(httpx.MockTransport(network.async_handler)),
        upstream_settings("https://first.test/v1", KEYS[0], name="first"),
        upstream_settings("https://second.test/v1", KEYS[1], name="second"),
    )
    assert await models.list() == [model("gpt-5"), model("o3", "2")]
    for route, key in ((first, KEYS[0]), (second, KEYS[1])):
        assert [call.request.headers["authorization"] for call in route.calls] == [f"Bearer {key}"]


async def test_one_model_is_found_by_its_id(upstream: FakeUpstream, transport: Transport) -> None:
    upstream.enqueue(listing("gpt-5"))
    models = catalogue(transport, upstream_settings(upstream.url))
    assert await models.get("gpt-5") == model("gpt-5")
    assert await models.get("gpt-6") is None
    assert len(upstream.requests) == 1


async def test_concurrent_callers_share_one_fetch(upstream: FakeUpstream, transport: Transport) -> None:
    whole = listing("gpt-5").steps
    upstream.enqueue(Reply([0.05, *whole]))
    models = catalogue(transport, upstream_settings(upstream.url))
    lists = await asyncio.gather(*(models.list() for _ in range(10)))
    assert lists == [[model("gpt-5")]] * 10
    assert len(upstream.requests) == 1


async def test_a_cancelled_fetch_is_made_by_the_next_caller(upstream: FakeUpstream, transport: Transport) -> None:
    upstream.enqueue(Reply.stall(), listing("gpt-5"))
    models = catalogue(transport, upstream_settings(upstream.url))
    first = asyncio.ensure_future(models.list())
    await upstream.request()
    second = asyncio.ensure_future(models.list())
    first.cancel()
    assert await second == [model("gpt-5")]
    assert first.cancelled()


async def test_a_list_is_fetched_again_when_it_is_old(upstream: FakeUpstream, transport: Transport) -> None:
    clock = Clock()
    upstream.enqueue(listing("gpt-5"), listing("gpt-6"))
    models = catalogue(transport, upstream_settings(upstream.url), clock=clock)
    assert await models.get("gpt-5")
    clock.now += 299
    assert await models.get("gpt-5")
    clock.now += 1
    assert await models.get("gpt-6")


FAILURES = [
    Reply.error(500),
    Reply.error(401),
    Reply.html(200),
    Reply.json(200, []),
    Reply.json(200, {"data": "none"}),
    Reply.sse([], then=Act.CLOSE),
    Reply.truncated(b'{"data":['),
    Reply.close_delimited([b" " * 1_000_000] * 9),
    Reply.redirect("http://127.0.0.1:1/"),
]


@pytest.mark.parametrize("fault", FAILURES, ids=range(len(FAILURES)))
async def test_an_upstream_that_fails_keeps_its_old_list(
    fault: Reply, upstream: FakeUpstream, transport: Transport
) -> None:
    clock = Clock()
    upstream.enqueue(listing("gpt-5"), fault, listing("gpt-6"))
    models = catalogue(transport, upstream_settings(upstream.url), clock=clock)
    for seconds, name in ((0, "gpt-5"), (300, "gpt-5"), (29, "gpt-5"), (1, "gpt-6")):
        clock.now += seconds
        assert [found["id"] for found in await models.list()] == [name]
    assert len(upstream.requests) == 3


async def test_an_upstream_that_never_listed_offers_the_names_in_its_settings(
    upstream: FakeUpstream, transport: Transport
) -> None:
    upstream.enqueue(Reply.error(404))
    models = catalogue(transport, upstream_settings(upstream.url, models=("gpt-*", "llama3", "o[34]", "qwen?")))
    assert await models.list() == [{"id": "llama3", "object": "model", "created": 0, "owned_by": "main"}]


async def test_an_empty_list_is_a_list(upstream: FakeUpstream, transport: Transport) -> None:
    upstream.enqueue(listing())
    models = catalogue(transport, upstream_settings(upstream.url, models=("llama3",)))
    assert await models.list() == []


async def test_what_is_no_model_is_passed_over(upstream: FakeUpstream, transport: Transport) -> None:
    upstream.enqueue(Reply.json(200, {"data": ["x", {"id": 3}, {}, model("gpt-5")]}))
    assert await catalogue(transport, upstream_settings(upstream.url)).list() == [model("gpt-5")]


async def test_a_resting_account_is_not_asked(upstream: FakeUpstream, transport: Transport) -> None:
    settings = upstream_settings(upstream.url, *KEYS[:2])
    pool = Pool([settings], 10.0)
    models = ModelCatalogue(pool, lambda _: transport, 0.0)
    one, two = pool.accounts()
    pool.apply([cooling(one, 60)])
    upstream.enqueue(listing("gpt-5"))
    assert await models.get("gpt-5")
    assert upstream.requests[0].headers["authorization"] == f"Bearer {KEYS[1]}"
    pool.apply([cooling(two, 60)])
    assert await models.get("gpt-5")
    assert len(upstream.requests) == 1


async def test_a_stalled_list_is_closed_with_its_caller(upstream: FakeUpstream, transport: Transport) -> None:
    upstream.enqueue(Reply.sse([b'{"data"'], then=Act.STALL))
    call = asyncio.ensure_future(catalogue(transport, upstream_settings(upstream.url)).list())
    await upstream.request()
    await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await upstream.wait_until_idle()
