"""What runs in the background take of limits: until they end, whatever ends them; and their listeners are streams."""

import asyncio
from typing import Any

import httpx2
import pytest
from sqlalchemy import delete, update

from app.administration.actor import Actor
from app.errors import StorageError
from app.state.policies import Budget, Limits
from app.storage.limits.tables import limit_counts
from app.storage.tables import api_keys, runs
from app.storage.usage.tables import usage
from tests.fakes.background import BackgroundClient, until
from tests.fakes.databases import sqlite_first
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.ledger import rows
from tests.fakes.limited import limited_keys
from tests.fakes.replies import Reply
from tests.fakes.streams import events, frame, response, story
from tests.fakes.upstream import FakeUpstream
from tests.live.conftest import GatewayWith

pytestmark = [pytest.mark.live]

SECONDS = 30.0
ADMINISTRATOR = Actor("a test")
ONE_STREAM = Limits(concurrent_streams=1)


async def key_of(gateway: LiveGateway, limits: Limits, project: Limits | None = None) -> str:
    secret = gateway.settings.storage.database_url
    assert secret is not None
    [key] = await limited_keys(secret.get_secret_value(), limits, project=project)
    return key


async def used(gateway: LiveGateway, key: str) -> dict[str, float]:
    async with httpx2.AsyncClient(timeout=SECONDS) as client:
        answer = await client.get(f"{gateway.base_url}/usage", headers=gateway.headers(key))
    return {f"{one['of']} {one['name']}": one["used"] for one in answer.json()["limits"]}


async def until_used(gateway: LiveGateway, key: str, wanted: dict[str, float]) -> None:
    async with asyncio.timeout(SECONDS):
        while await used(gateway, key) != wanted:
            await asyncio.sleep(0.05)


@sqlite_first
async def test_a_listener_is_a_stream_wherever_it_came_from(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    key, go = await key_of(gateway, ONE_STREAM), asyncio.Event()
    frames = story("resp_theirs")
    upstream.enqueue(Reply.held(frames[:3], go, frames[3:]))
    async with BackgroundClient.to(gateway.url, key) as client:
        async with client.listening(None) as chunks:
            response_id = events(await until(chunks, b"Once upon "))[0]["response"]["id"]
            refusals = [
                await client.create(stream=True),
                await client.create(stream=True, background=False),
                await client.ask("GET", response_id, stream="true"),
            ]
            assert [refused.status_code for refused in refusals] == [429] * 3
            assert all("concurrent streams: Limit 1, Used 1" in refused.text for refused in refusals)
            assert (await client.ask("GET", response_id)).status_code == 200
        # Who left listens no more, and the run goes on.
        await until_used(gateway, key, {"API key concurrent_streams": 0})
        async with client.listening(response_id) as chunks:
            await until(chunks, b"Once upon ")
            assert (await client.create(stream=True)).status_code == 429
            go.set()
            assert b"response.completed" in await until(chunks, b"[DONE]")
        await until_used(gateway, key, {"API key concurrent_streams": 0})
        assert b"response.completed" in await client.heard(response_id)
        assert len(upstream.requests) == 1


async def test_two_replicas_count_listeners_together(postgresql_url: str, upstream: FakeUpstream) -> None:
    settings, go = [upstream_settings(upstream.url, "sk-upstream-one")], asyncio.Event()
    frames = story("resp_theirs")
    upstream.enqueue(Reply.held(frames[:3], go, frames[3:]))
    async with (
        running_gateway(postgresql_url, settings) as one,
        running_gateway(postgresql_url, settings, keys_of=one) as other,
    ):
        key = await key_of(one, ONE_STREAM)
        async with BackgroundClient.to(one.url, key) as here, BackgroundClient.to(other.url, key) as there:
            async with here.listening(None) as chunks:
                response_id = events(await until(chunks, b"Once upon "))[0]["response"]["id"]
                assert (await there.ask("GET", response_id, stream="true")).status_code == 429
            await until_used(other, key, {"API key concurrent_streams": 0})
            async with there.listening(response_id) as chunks:
                await until(chunks, b"Once upon ")
                assert (await here.ask("GET", response_id, stream="true")).status_code == 429
                go.set()
                await until(chunks, b"[DONE]")


async def test_listeners_keep_no_call_out_and_their_own_places_are_shared(
    gateway_with: GatewayWith, upstream: FakeUpstream
) -> None:
    go = asyncio.Event()
    frames = story("resp_theirs")
    upstream.enqueue(Reply.held(frames[:3], go, frames[3:]))
    async with gateway_with(server={"max_concurrent_requests": 4}) as gateway:
        other = await key_of(gateway, Limits())
        async with (
            BackgroundClient.to(gateway.url, gateway.key) as client,
            BackgroundClient.to(gateway.url, other) as others,
        ):
            response_id = await client.order(stream=True)
            await until_nobody_listens(gateway)
            async with (
                client.listening(response_id) as first,
                client.listening(response_id) as second,
                client.listening(response_id) as third,
            ):
                for chunks in (first, second, third):
                    await until(chunks, b"Once upon ")
                # Of four places one project has three.
                for refused in (
                    await client.ask("GET", response_id, stream="true"),
                    await client.create(stream=True),
                ):
                    assert refused.status_code == 503
                    assert "4 clients already listen" in refused.json()["error"]["message"]
                assert len(upstream.requests) == 1, "a run of which nobody can hear is not ordered"
                plain: dict[str, Any] = {"background": False, "store": False}
                assert (await client.create(**plain)).status_code == 200
                assert (await others.create(**plain)).status_code == 200
                async with others.listening(response_id=None) as chunks:
                    assert b"response.completed" in await until(chunks, b"[DONE]")
                go.set()
            await until_nobody_listens(gateway)
            assert b"response.completed" in await client.heard(response_id)


async def until_nobody_listens(gateway: LiveGateway) -> None:
    async with asyncio.timeout(SECONDS):
        while gateway.app.state.services.registry._listeners:
            await asyncio.sleep(0.01)


async def write(gateway: LiveGateway, statement: Any) -> None:
    """Change the database behind the gateway's back."""
    await gateway.app.state.services.health._database.write(
        lambda session: session.write(lambda connection: connection.execute(statement))
    )


async def entry_of(gateway: LiveGateway, response_id: str | None) -> dict[str, Any]:
    """The one entry that the ledger has of this response."""
    secret = gateway.settings.storage.database_url
    assert secret is not None
    async with asyncio.timeout(SECONDS):
        while not (
            found := [row for row in rows(secret.get_secret_value(), usage) if row["response_id"] == response_id]
        ):
            await asyncio.sleep(0.05)
    (entry,) = found
    return entry


@sqlite_first
@pytest.mark.slow
@pytest.mark.slow_on_postgresql
@pytest.mark.parametrize("end", ["revoked", "gone", "unreadable", "cancelled"])
async def test_what_a_run_that_never_began_was_granted_is_given_back_and_recorded(
    gateway: LiveGateway, upstream: FakeUpstream, end: str
) -> None:
    secret = gateway.settings.storage.database_url
    assert secret is not None
    daily = Limits(budgets=(Budget("day", tokens=100_000),))
    key, beside = await limited_keys(secret.get_secret_value(), Limits(), Limits(), project=daily)
    upstream.enqueue(Reply.error(429, "rate_limit_exceeded", {"retry-after": "6"}))
    services = gateway.app.state.services
    async with BackgroundClient.to(gateway.url, key) as client, BackgroundClient.to(gateway.url, beside) as other:
        response_id = await client.order(max_output_tokens=90_000)
        await upstream.request(0)
        assert (await used(gateway, beside))["project tokens_per_day"] > 90_000
        (made,) = [one for one in await services.keys.list() if one.name == "limited 0"]
        match end:
            case "revoked":
                await services.keys.revoke(ADMINISTRATOR, made.id)
            case "gone":
                await write(gateway, delete(api_keys).where(api_keys.c.id == made.id))
            case "unreadable":
                await write(gateway, update(runs).where(runs.c.id == response_id).values(request=b"{"))
            case _:
                await client.ask("POST", response_id, "/cancel")
        ended = await other.ended(response_id)
    status = "cancelled" if end == "cancelled" else "failed"
    assert ended["status"] == status
    await until_used(gateway, beside, {"project tokens_per_day": 0})
    entry = await entry_of(gateway, response_id)
    assert (entry["response_status"], entry["model"], entry["api_key_id"]) == (status, "demo", made.id)
    assert (entry["is_background"], entry["input_tokens"]) == (True, None)
    assert len(upstream.requests) == 1


@sqlite_first
async def test_an_order_that_cannot_be_kept_is_given_back_and_recorded(
    gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await key_of(gateway, Limits(concurrent_streams=1, budgets=(Budget("day", tokens=100_000),)))

    async def fail(*_: object, **__: object) -> None:
        raise StorageError("The database could not keep this.")

    monkeypatch.setattr(gateway.app.state.services.background._dependencies.runs, "create", fail)
    async with BackgroundClient.to(gateway.url, key) as client:
        for stream in (False, True):
            assert (await client.create(stream=stream, max_output_tokens=90_000)).status_code == 503
    assert await used(gateway, key) == {"API key tokens_per_day": 0, "API key concurrent_streams": 0}
    secret = gateway.settings.storage.database_url
    assert secret is not None
    async with asyncio.timeout(SECONDS):
        while len(found := rows(secret.get_secret_value(), usage)) < 2:
            await asyncio.sleep(0.05)
    assert [(entry["status"], entry["is_background"]) for entry in found] == [(503, True)] * 2


@sqlite_first
async def test_a_budget_that_is_set_while_a_run_waits_is_given_nothing_back(
    gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    key = await key_of(gateway, Limits())
    upstream.enqueue(Reply.error(429, "rate_limit_exceeded", {"retry-after": "6"}))
    services = gateway.app.state.services
    async with BackgroundClient.to(gateway.url, key) as client:
        response_id = await client.order(max_output_tokens=90_000)
        await upstream.request(0)
        (made,) = [one for one in await services.keys.list() if one.name == "limited 0"]
        policy = {"limits": {"budgets": [{"period": "day", "tokens": 500}]}}
        await services.keys.update(ADMINISTRATOR, made.id, {"policy": policy}, version=1)
        ended = await client.ended(response_id)
        assert ended["status"] == "completed"
        await until_used(gateway, key, {"API key tokens_per_day": ended["usage"]["total_tokens"]})


@sqlite_first
@pytest.mark.parametrize("background", [False, True])
async def test_what_a_call_over_midnight_used_beyond_its_estimate_counts_in_the_new_day(
    gateway: LiveGateway, upstream: FakeUpstream, background: bool
) -> None:
    key, go = await key_of(gateway, Limits(budgets=(Budget("day", tokens=1000),))), asyncio.Event()
    frames = story("resp_theirs")
    used_up = {"input_tokens": 10, "output_tokens": 5000, "total_tokens": 5010}
    ended = {**response("resp_theirs", "completed"), "usage": used_up}
    upstream.enqueue(Reply.held(frames[:3], go, [*frames[3:-1], frame("response.completed", 9, response=ended)]))
    async with BackgroundClient.to(gateway.url, key) as client, asyncio.TaskGroup() as group:
        call = group.create_task(client.create(background=background, stream=not background))
        await upstream.request(0)
        before = (await used(gateway, key))["API key tokens_per_day"]
        assert before > 0
        day = 86_400_000
        counts = limit_counts.c
        await write(gateway, update(limit_counts).values(began_at=counts.began_at - day, ends_at=counts.ends_at - day))
        assert await used(gateway, key) == {"API key tokens_per_day": 0}
        go.set()
        assert (await call).status_code == 200
        await until_used(gateway, key, {"API key tokens_per_day": 5010 - before})
        assert (await client.create()).status_code == 429
