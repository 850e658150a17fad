"""The ledger over real sockets: one entry for each call however it ends, and sums that are those of what is stored."""

import asyncio
import time
from typing import Any

import httpx2
import pytest

from app.storage.usage.tables import usage, usage_hours
from tests.builders import says, user
from tests.fakes.background import BackgroundClient
from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.ledger import rows
from tests.fakes.raw_client import calling
from tests.fakes.replies import Act, Reply
from tests.fakes.socket_client import SocketClient
from tests.fakes.streams import frame, item, response, story
from tests.fakes.upstream import FakeUpstream
from tests.live.conftest import GatewayWith

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

SECRET_WORD = "marzipan"
USAGE = {
    "input_tokens": 90,
    "input_tokens_details": {"cached_tokens": 40},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 99,
}
_SECONDS = 60.0


def answered(response_id: str = "resp_up", status: str = "completed", **members: Any) -> Reply:
    return Reply.json(
        200, {**response(response_id, status, [says("Hi.")]), "usage": USAGE, "model": "gpt-4o", **members}
    )


def streamed(status: str, **members: Any) -> list[bytes]:
    """A stream that upstream ends like this."""
    frames = story("resp_up")[:-1]
    last = {**response("resp_up", status, [item("Once upon a time")]), "usage": USAGE, "model": "gpt-4o", **members}
    return [*frames, frame(f"response.{status}", 99, response=last)]


async def ledger(gateway: LiveGateway, count: int) -> list[dict[str, Any]]:
    """The ledger once it has this many entries, the first first. None comes after them."""
    deadline = time.monotonic() + _SECONDS
    while True:
        found = await asyncio.to_thread(rows, gateway.settings.storage.url, usage)
        if len(found) >= count or time.monotonic() > deadline:
            assert len(found) == count
            return sorted(found, key=lambda row: row["key"])
        await asyncio.sleep(0.05)


def tokens(row: dict[str, Any]) -> tuple[int | None, ...]:
    return row["input_tokens"], row["cached_tokens"], row["output_tokens"], row["reasoning_tokens"]


TOLD = (90, 40, 9, 4)
# $2.5 a million input tokens, $1.25 of them cached, $10 output tokens.
PRICED = 50 * 2_500 + 40 * 1_250 + 9 * 10_000


async def test_a_call_is_one_entry_with_what_it_took(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.enqueue(answered())
    async with gateway.client() as client:
        made = await client.responses.create(model="fast", input=SECRET_WORD)
    (row,) = await ledger(gateway, 1)
    assert tokens(row) == TOLD
    assert (row["model"], row["model_served"], row["upstream"]) == ("fast", "gpt-4o", "fake")
    assert (row["status"], row["response_status"], row["error_code"]) == (200, "completed", None)
    assert (row["attempts"], row["response_id"], row["is_stream"], row["is_background"]) == (1, made.id, False, False)
    assert row["cost_nano"] == PRICED
    assert 0 <= row["first_byte_ms"] <= row["latency_ms"] < _SECONDS * 1000
    assert len(row["key_fingerprint"]) == 12
    assert row["request_id"].startswith("req_")
    assert SECRET_WORD not in str(row)


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed"])
@pytest.mark.parametrize("store", [True, False])
async def test_a_stream_is_one_entry_however_upstream_ends_it(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, status: str, store: bool
) -> None:
    error = {"code": "rate_limit_exceeded", "message": "No."} if status == "failed" else None
    upstream.enqueue(Reply.sse(streamed(status, error=error)))
    async with calling(sqlite_gateway.url, sqlite_gateway.key, input=SECRET_WORD, store=store) as call:
        while await call.chunk():
            pass
    (row,) = await ledger(sqlite_gateway, 1)
    assert tokens(row) == TOLD
    assert (row["status"], row["response_status"], row["is_stream"], row["is_stored"]) == (200, status, True, store)
    assert row["error_code"] == (error and error["code"])
    assert row["first_byte_ms"] is not None
    (hour,) = await asyncio.to_thread(rows, sqlite_gateway.settings.storage.url, usage_hours)
    assert hour["errors"] == int(status == "failed")


async def test_a_stream_that_upstream_breaks_off_is_one_that_failed(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    upstream.enqueue(Reply.sse(story("resp_up")[:3], then=Act.RESET))
    async with calling(sqlite_gateway.url, sqlite_gateway.key, input="Hi.") as call:
        while await call.chunk():
            pass
    (row,) = await ledger(sqlite_gateway, 1)
    assert (row["status"], row["response_status"], row["error_code"]) == (200, "failed", "server_error")
    # Upstream did not say what it took: three characters of input, and a message with ten.
    assert (tokens(row), row["is_estimated"]) == ((2, 0, 10, 0), True)


async def test_a_client_that_leaves_is_an_entry_too(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.sse(story("resp_up")[:3], then=Act.STALL))
    async with calling(sqlite_gateway.url, sqlite_gateway.key, input="Hi.") as call:
        while b"response.created" not in call.received:
            await call.chunk()
    (row,) = await ledger(sqlite_gateway, 1)
    assert (row["status"], row["response_status"], row["attempts"]) == (499, "cancelled", 1)
    assert row["is_estimated"]


async def test_refused_calls_are_entries_and_unreadable_ones_are_not(
    gateway_with: GatewayWith, upstream: FakeUpstream
) -> None:
    async with gateway_with(relay={"cool_down_seconds": 0.01}) as gateway, httpx2.AsyncClient(timeout=60) as http:
        url, headers = f"{gateway.base_url}/responses", gateway.headers()
        assert (await http.post(url, headers=headers, content=b"{")).status_code == 400
        assert (await http.post(url, headers=headers, content=b"{}")).status_code == 400
        assert (await http.post(url, headers={"authorization": "Bearer no"}, content=b"{}")).status_code == 401
        body = {"model": "m", "input": "Hi."}
        upstream.enqueue(Reply.error(400, "context_length_exceeded"))
        assert (await http.post(url, headers=headers, json=body)).status_code == 400
        upstream.enqueue(*[Reply.error(500)] * 5)
        assert (await http.post(url, headers=headers, json=body)).status_code >= 500
        gone = {**body, "previous_response_id": "resp_gone"}
        assert (await http.post(url, headers=headers, json=gone)).status_code == 400
        assert (await http.post(url, headers=headers, json={**gone, "background": True})).status_code == 400
        by_upstream, failed, *ours = await ledger(gateway, 4)
    assert (by_upstream["status"], by_upstream["attempts"]) == (400, 1)
    assert by_upstream["error_code"] == "context_length_exceeded"
    assert failed["status"] >= 500
    assert failed["attempts"] >= 1
    assert [row["is_background"] for row in ours] == [False, True]
    for row in ours:
        assert (row["status"], row["error_code"]) == (400, "previous_response_not_found")
        assert (row["attempts"], row["upstream"]) == (0, None)


async def test_a_call_that_is_tried_again_is_one_entry(database_url: str, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.error(401, "invalid_api_key"), answered())
    keys = [upstream_settings(upstream.url, "sk-one", "sk-two")]
    async with running_gateway(database_url, keys) as gateway, gateway.client() as client:
        await client.responses.create(model="m", input="Hi.", store=False)
        (row,) = await ledger(gateway, 1)
    assert (row["attempts"], row["status"], row["is_stored"]) == (2, 200, False)


async def test_a_run_in_the_background_is_one_entry(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.enqueue(answered(), Reply.sse(streamed("completed")), Reply.sse(story("resp_x")[:3], then=Act.STALL))
    async with BackgroundClient.to(gateway.url, gateway.key) as client:
        whole = await client.order(model="m", input="Hi.")
        await client.ended(whole)
        heard = await client.order(model="m", input="Hi.", stream=True)
        await client.ended(heard)
        stopped = await client.order(model="m", input="Hi.", stream=True)
        await client.status(stopped, "in_progress")
        await client.ask("POST", stopped, "/cancel")
        await client.ended(stopped)
    # Stored responses of one second are recorded in the order of their ids, in which their rows are locked.
    by_response = {row["response_id"]: row for row in await ledger(gateway, 3)}
    found = [by_response[response_id] for response_id in (whole, heard, stopped)]
    assert [row["response_status"] for row in found] == ["completed", "completed", "cancelled"]
    assert all(row["is_background"] and row["is_stored"] and row["status"] == 200 for row in found)
    assert [tokens(row) for row in found[:2]] == [TOLD, TOLD]
    # One that is cancelled before its upstream is asked took nothing.
    assert found[2]["is_estimated"] == (found[2]["attempts"] > 0)


async def test_each_turn_of_a_websocket_is_an_entry(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.enqueue(Reply.sse(streamed("completed")), Reply.sse(streamed("completed")))
    async with SocketClient.to(gateway) as client:
        first = await client.respond(model="m", input="Hi.", store=False)
        await client.respond(model="m", input="More.", store=False, previous_response_id=first["id"])
    found = await ledger(gateway, 2)
    assert [tokens(row) for row in found] == [TOLD, TOLD]
    assert all(row["is_stream"] and not row["is_stored"] for row in found)


@pytest.mark.slow
async def test_what_a_summary_took_is_its_callers(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.enqueue(answered("resp_sum"))
    async with gateway.client() as client:
        await client.responses.compact(model="m", input="Hello.")
        (row,) = await ledger(gateway, 1)
        assert (row["endpoint"], tokens(row), row["attempts"]) == ("compact", TOLD, 1)
        upstream.enqueue(answered("resp_sum"), Reply.error(400, "invalid_prompt"))
        given: Any = [user("word " * 2000), {"role": "assistant", "content": "Yes?"}, user("And?")]
        with pytest.raises(Exception, match="No"):
            await client.responses.create(
                model="m",
                input=given,
                context_management=[{"type": "compaction", "compact_threshold": 1000}],
            )
    # What upstream refused afterwards took nothing: the summary before it did.
    _, summary, row = await ledger(gateway, 3)
    assert (summary["endpoint"], summary["status"], tokens(summary), summary["attempts"]) == ("compact", 200, TOLD, 1)
    assert (row["endpoint"], row["status"], tokens(row), row["attempts"]) == ("responses", 400, (None,) * 4, 1)
    assert summary["request_id"] == row["request_id"]


async def test_a_count_of_tokens_is_an_entry_that_used_none(gateway: LiveGateway) -> None:
    async with gateway.client() as client:
        await client.responses.input_tokens.count(model="m", input="Hello.")
    (row,) = await ledger(gateway, 1)
    assert (row["endpoint"], row["status"], row["attempts"], row["is_stored"]) == ("input_tokens", 200, 0, False)
    assert (tokens(row), row["cost_nano"]) == ((None,) * 4, None)


async def test_no_word_of_a_call_is_in_the_ledger(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.enqueue(
        Reply.error(400, "invalid_prompt", message=SECRET_WORD),
        answered(output=[says(SECRET_WORD)], metadata={"note": SECRET_WORD}),
    )
    async with httpx2.AsyncClient(headers=sqlite_gateway.headers(), timeout=60) as http:
        for _ in range(2):
            body = {"model": "m", "input": SECRET_WORD, "instructions": SECRET_WORD, "metadata": {"a": SECRET_WORD}}
            await http.post(f"{sqlite_gateway.base_url}/responses", json=body)
    found = await ledger(sqlite_gateway, 2)
    assert SECRET_WORD not in str(found)
    assert sqlite_gateway.key not in str(found)


async def test_a_key_is_told_what_it_used_and_no_other(gateway: LiveGateway, upstream: FakeUpstream) -> None:
    upstream.enqueue(answered(), answered("resp_2", model="house"), answered("resp_3"))
    async with gateway.client() as client, gateway.client(gateway.other_key) as other:
        await client.responses.create(model="m", input="Hi.")
        await client.responses.create(model="n", input="Hi.")
        await other.responses.create(model="m", input="Hi.")
    await ledger(gateway, 3)
    async with httpx2.AsyncClient(base_url=gateway.base_url, headers=gateway.headers(), timeout=60) as http:
        told = (await http.get("/usage", params={"group_by": "model"})).json()
        took = {"requests": 1, "input_tokens": 90, "cached_tokens": 40, "output_tokens": 9, "reasoning_tokens": 4}
        assert [{name: row[name] for name in ("model", *took)} for row in told["data"]] == [
            {"model": name, **took} for name in ("m", "n")
        ]
        assert [(row["cost_usd"], row["unpriced_requests"]) for row in told["data"]] == [(PRICED / 1e9, 0), (None, 1)]
        assert told["object"] == "usage"
        assert told["limits"] == []
        assert {period["input_tokens"] for period in told["current"].values()} <= {0, 90, 180}
        assert told["current"]["month"]["begins"] % 86_400 == 0
        (day,) = (await http.get("/usage")).json()["data"]
        assert (day["requests"], day["begins"] % 86_400) == (2, 0)
        assert (await http.get("/usage", params={"since": 0, "until": 1})).json()["data"] == []
        for query, code in [("group_by=key", None), ("since=x", "invalid_type"), ("project_id=p", "unknown_parameter")]:
            refused = await http.get(f"/usage?{query}")
            assert refused.status_code == 400
            assert code in (None, refused.json()["error"]["code"])
        assert (await http.get("/usage", headers={"authorization": "Bearer no"})).status_code == 401
