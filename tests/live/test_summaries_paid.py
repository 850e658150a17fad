"""Each token that upstream bills for the summary of a context is in the ledger, by itself, and none is bought twice."""

import asyncio
from typing import Any

import httpx
import orjson
import pytest

from app.state.policies import Limits
from app.storage.usage.tables import usage
from tests.builders import says, user
from tests.fakes.background import BackgroundClient
from tests.fakes.databases import sqlite_first
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.ledger import rows
from tests.fakes.limited import limited_keys
from tests.fakes.replies import Reply
from tests.fakes.streams import response
from tests.fakes.surfaces import respond
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = [pytest.mark.live]

TIERED = "gpt-5.6-sol"
EDIT: Any = [{"type": "compaction", "compact_threshold": 1000}]
LONG: list[Any] = [user("one two three " * 400), says("Yes.", "msg_0"), user("Go on.")]
ASKED: Any = {"input": LONG, "context_management": EDIT}
_SECONDS = 30.0


def used(given: int, made: int) -> dict[str, int]:
    return {"input_tokens": given, "output_tokens": made, "total_tokens": given + made}


class Billing:
    """An upstream that bills each answer. It refuses what is no summary as often as it is told to."""

    def __init__(
        self,
        upstream: FakeUpstream,
        *refusals: Reply,
        summary: tuple[int, int] = (5000, 500),
        call: tuple[int, int] = (10, 2),
    ) -> None:
        self.upstream = upstream
        self.billed = self.summaries = 0
        self._refusals = [*refusals]
        self._summary, self._call = summary, call
        upstream.respond = self._answer

    def _answer(self, asked: Recorded) -> Reply:
        is_summary = b"will be replaced by a summary" in orjson.dumps(asked.json)
        if not is_summary and self._refusals:
            return self._refusals.pop(0)
        given, made = self._summary if is_summary else self._call
        self.summaries += is_summary
        self.billed += given + made
        answer = response(f"resp_{len(self.upstream.requests)}", "completed", [says("They counted.")])
        return Reply.json(200, {**answer, "usage": used(given, made), "model": asked.json["model"]})


async def entries(database_url: str, count: int) -> list[dict[str, Any]]:
    """The ledger once it has this many."""
    async with asyncio.timeout(_SECONDS):
        while len(found := await asyncio.to_thread(rows, database_url, usage)) < count:
            await asyncio.sleep(0.05)
    assert len(found) == count
    return sorted(found, key=lambda row: row["key"])


def total(found: list[dict[str, Any]]) -> int:
    return sum((row["input_tokens"] or 0) + (row["output_tokens"] or 0) for row in found)


@pytest.mark.parametrize("surface", ["whole", "streamed", "socket"])
@sqlite_first
async def test_a_call_that_is_tried_again_has_its_summary_already(
    gateway: LiveGateway, upstream: FakeUpstream, surface: str
) -> None:
    billing = Billing(upstream, Reply.error(400, "invalid_prompt"))
    refused = await respond(gateway, surface, **ASKED)
    assert refused["status"] == 400
    made = await respond(gateway, surface, **ASKED)
    assert (made["status"], billing.summaries) == ("completed", 1)
    if surface == "whole":
        # The client reads in its answer what that took, the summary before it included.
        assert made["usage"]["total_tokens"] == billing.billed
    # Once there is an answer the summary is in it.
    await respond(gateway, surface, **ASKED)
    assert billing.summaries == 2
    found = await entries(gateway.settings.storage.url, 5)
    assert [row["endpoint"] for row in found].count("compact") == 2
    assert total(found) == billing.billed


@pytest.mark.slow
async def test_a_run_that_is_put_back_pays_for_one_summary(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    billing = Billing(upstream, Reply.error(429, "rate_limit_exceeded", {"retry-after": "1"}))
    made = await respond(gateway, "background", **ASKED)
    assert (made["status"], billing.summaries) == ("completed", 1)
    assert made["usage"]["total_tokens"] == billing.billed
    found = await entries(gateway.settings.storage.url, 2)
    assert {(row["endpoint"], row["is_background"], row["request_id"]) for row in found} == {
        ("compact", True, made["id"]),
        ("responses", True, made["id"]),
    }
    assert total(found) == billing.billed


@pytest.mark.slow
async def test_replicas_that_each_make_a_summary_record_each(postgresql_url: str, upstream: FakeUpstream) -> None:
    limited = {"retry-after": "1"}
    billing = Billing(upstream, *[Reply.error(429, "rate_limit_exceeded", limited) for _ in range(4)])
    keys = [upstream_settings(upstream.url, "sk-upstream-one")]
    async with (
        running_gateway(postgresql_url, keys) as one,
        running_gateway(postgresql_url, keys, keys_of=one),
    ):
        made = await respond(one, "background", **ASKED)
        assert made["status"] == "completed"
        assert 1 <= billing.summaries <= 2
        assert total(await entries(postgresql_url, billing.summaries + 1)) == billing.billed


async def test_another_context_and_another_project_get_no_summary_of_this(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    refusals = [Reply.error(400, "invalid_prompt") for _ in range(4)]
    billing = Billing(upstream, *refusals)
    await respond(sqlite_gateway, "whole", **ASKED)
    await respond(sqlite_gateway, "whole", **{**ASKED, "input": [user("Hi."), *LONG]})
    await respond(sqlite_gateway, "whole", **ASKED, instructions="Speak Dutch.")
    headers = sqlite_gateway.headers(sqlite_gateway.other_key)
    async with httpx.AsyncClient(base_url=sqlite_gateway.base_url, headers=headers) as client:
        await client.post("/responses", json={"model": "demo", **ASKED})
    assert billing.summaries == 4
    # What follows the history is no part of it.
    await respond(sqlite_gateway, "whole", **{**ASKED, "input": [*LONG[:-1], user("Stop.")]})
    assert billing.summaries == 4


@pytest.mark.parametrize("surface", ["whole", "background"])
async def test_the_summary_and_the_call_are_priced_each_by_itself(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, surface: str
) -> None:
    # Together they would be of the tier of contexts from 272,000 tokens on.
    Billing(upstream, summary=(200_000, 0), call=(100_000, 0))
    await respond(sqlite_gateway, surface, **ASKED, model=TIERED)
    summary, own = await entries(sqlite_gateway.settings.storage.url, 2)
    # A third, in the tier that both of them are in.
    Billing(upstream, call=(1000, 0))
    await respond(sqlite_gateway, surface, input="Hi.", model=TIERED)
    *_, short = await entries(sqlite_gateway.settings.storage.url, 3)
    assert short["cost_nano"] > 0
    assert [row["cost_nano"] / short["cost_nano"] for row in (summary, own)] == [200, 100]


async def test_a_client_that_leaves_its_summary_pays_for_it(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.respond = lambda _: Reply.stall()
    async with httpx.AsyncClient(base_url=gateway.base_url, headers=gateway.headers()) as client:
        asking = asyncio.create_task(client.post("/responses", json={"model": "demo", **ASKED}))
        await upstream.request(0, _SECONDS)
        asking.cancel()
    summary, own = await entries(gateway.settings.storage.url, 2)
    assert (summary["endpoint"], summary["status"], summary["is_estimated"]) == ("compact", 499, True)
    assert summary["input_tokens"] > 1000
    assert (own["status"], own["input_tokens"]) == (499, None)


@pytest.mark.parametrize("path", ["/responses", "/responses/compact"])
async def test_a_summary_is_no_longer_than_its_key_may_have_answers(
    gateway: LiveGateway, upstream: FakeUpstream, path: str
) -> None:
    secret = gateway.settings.storage.database_url
    assert secret is not None
    [key] = await limited_keys(secret.get_secret_value(), Limits(max_output_tokens=50))
    body = {"model": "demo", **(ASKED if path == "/responses" else {"input": LONG})}
    async with httpx.AsyncClient(base_url=gateway.base_url, headers=gateway.headers(key)) as client:
        Billing(upstream)
        assert (await client.post(path, json=body)).status_code == 200
        assert {request.json["max_output_tokens"] for request in upstream.requests} == {50}
        cut = {**response("resp_cut", "incomplete", [says("They")]), "usage": used(900, 50)}
        upstream.respond = lambda _: Reply.json(200, cut)
        told = await client.post(path, json=body)
    if path == "/responses":
        # It goes as it came: a call that fits is not made to fail by its summary.
        assert told.status_code == 200
        return
    assert told.status_code == 502
    assert "the 50 output tokens that this API key may have" in told.json()["error"]["message"]


async def test_a_summary_is_charged_to_the_limits_of_its_key(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    secret = gateway.settings.storage.database_url
    assert secret is not None
    [key] = await limited_keys(secret.get_secret_value(), Limits(tokens_per_minute=1_000_000))
    billing = Billing(upstream, Reply.error(400, "invalid_prompt"))
    async with httpx.AsyncClient(base_url=gateway.base_url, headers=gateway.headers(key)) as client:
        for status in (400, 200):
            told = await client.post("/responses", json={"model": "demo", **ASKED})
            assert told.status_code == status
        [limit] = (await client.get("/usage")).json()["limits"]
        assert limit["used"] >= billing.billed
    async with BackgroundClient.to(gateway.url, key) as background:
        await background.ended(await background.order(**ASKED))
        async with (
            httpx.AsyncClient(base_url=gateway.base_url, headers=gateway.headers(key)) as client,
            asyncio.timeout(30),
        ):
            while (await client.get("/usage")).json()["limits"][0]["used"] < billing.billed:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("path", ["/responses", "/responses/compact"])
async def test_a_summary_of_which_upstream_does_not_say_what_it_took_is_estimated(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, path: str
) -> None:
    upstream.respond = lambda _: Reply.json(200, response("resp_up", "completed", [says("word " * 400)]))
    body = {"model": "demo", **(ASKED if path == "/responses" else {"input": LONG})}
    async with httpx.AsyncClient(base_url=sqlite_gateway.base_url, headers=sqlite_gateway.headers()) as client:
        assert (await client.post(path, json=body)).status_code == 200
    found = await entries(sqlite_gateway.settings.storage.url, 2 if path == "/responses" else 1)
    summary = found[0]
    assert (summary["endpoint"], summary["is_estimated"]) == ("compact", True)
    assert summary["input_tokens"] > 1000
    assert 500 <= summary["output_tokens"] < 550


async def test_a_summary_is_priced_by_the_tier_that_served_it(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    answer = {**response("resp_up", "completed", [says("They counted.")]), "usage": used(1000, 10)}
    upstream.respond = lambda _: Reply.json(200, {**answer, "service_tier": "flex"})
    await respond(sqlite_gateway, "whole", **ASKED, service_tier="auto")
    trigger: Any = {"type": "compaction_trigger"}
    made = await respond(sqlite_gateway, "whole", input=[*LONG, trigger], service_tier="auto")
    assert made["service_tier"] == "flex"
    found = await entries(sqlite_gateway.settings.storage.url, 3)
    assert [row["service_tier"] for row in found] == ["flex"] * 3
