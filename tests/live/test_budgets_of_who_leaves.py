"""No budget is evaded by hanging up or cancelling: what has passed is charged, on every surface, and marked so."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

from app.state.policies import Budget, Limits
from app.storage.usage.tables import usage
from tests.fakes.background import BackgroundClient
from tests.fakes.gateway import LiveGateway
from tests.fakes.ledger import rows
from tests.fakes.limited import limited_keys
from tests.fakes.raw_client import calling
from tests.fakes.replies import Act, Reply
from tests.fakes.socket_client import SocketClient
from tests.fakes.streams import frame, item, response
from tests.fakes.upstream import FakeUpstream

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

SECONDS = 60.0
# A budget of tokens, and an answer that alone has more: 2,400 words of English.
BUDGET = 2000
TEXT = "word " * 2400
TOKENS = 3000
PIECE = 60


def told(response_id: str) -> list[bytes]:
    """All of an answer but its last event, in which upstream would say what it took."""
    pieces = [TEXT[start : start + PIECE] for start in range(0, len(TEXT), PIECE)]
    begun = {**item(""), "status": "in_progress", "content": []}
    return [
        frame("response.created", 0, response=response(response_id, "in_progress")),
        frame("response.output_item.added", 1, output_index=0, item=begun),
        *[
            frame("response.output_text.delta", number, output_index=0, content_index=0, delta=piece, logprobs=[])
            for number, piece in enumerate(pieces, 2)
        ],
        frame("response.output_text.done", 500, output_index=0, content_index=0, text=TEXT),
    ]


async def budgeted(gateway: LiveGateway) -> str:
    [key] = await limited_keys(gateway.settings.storage.url, Limits(budgets=(Budget("month", tokens=BUDGET),)))
    return key


async def hang_up_on_a_stream(gateway: LiveGateway, key: str) -> None:
    async with calling(gateway.url, key, input="Hi.") as call:
        await call.until(b"response.output_text.done")
        call.leave()


async def hang_up_on_one_that_is_not_stored(gateway: LiveGateway, key: str) -> None:
    async with calling(gateway.url, key, input="Hi.", store=False) as call:
        await call.until(b"response.output_text.done")
        call.leave()


async def hang_up_on_a_socket(gateway: LiveGateway, key: str) -> None:
    async with SocketClient.to(gateway, additional_headers=gateway.headers(key)) as client:
        await client.create()
        while (await client.event())["type"] != "response.output_text.done":
            pass
        client.connection.transport.abort()


async def cancel_a_run(gateway: LiveGateway, key: str) -> None:
    async with BackgroundClient.to(gateway.url, key) as client:
        async with client.listening(None) as chunks:
            heard = b""
            async for chunk in chunks:
                heard += chunk
                if b"response.output_text.done" in heard:
                    break
        named = heard.partition(b'"id":"')[2].partition(b'"')[0].decode()
        assert (await client.ask("POST", named, "/cancel")).status_code == 200


async def after(gateway: LiveGateway, key: str) -> dict[str, Any]:
    """The one entry of the key's calls that an upstream was asked for, once it is there."""
    async with asyncio.timeout(SECONDS):
        while True:
            found = await asyncio.to_thread(rows, gateway.settings.storage.url, usage)
            if asked := [row for row in found if row["attempts"]]:
                [row] = asked
                return row
            await asyncio.sleep(0.05)


async def refusal(gateway: LiveGateway, key: str) -> dict[str, Any]:
    """What the key's next call is told, once the one before has been settled."""
    async with httpx2.AsyncClient(timeout=SECONDS, headers=gateway.headers(key)) as http:
        async with asyncio.timeout(SECONDS):
            while (await http.get(f"{gateway.base_url}/usage")).json()["limits"][0]["used"] < BUDGET:
                await asyncio.sleep(0.05)
        answer = await http.post(f"{gateway.base_url}/responses", json={"model": "demo", "input": "Hi."})
    assert answer.status_code == 429
    error: dict[str, Any] = answer.json()["error"]
    return error


@pytest.mark.parametrize(
    "leave", [hang_up_on_a_stream, hang_up_on_one_that_is_not_stored, hang_up_on_a_socket, cancel_a_run]
)
async def test_what_a_client_got_before_it_left_is_charged(
    gateway: LiveGateway, upstream: FakeUpstream, leave: Callable[[LiveGateway, str], Awaitable[None]]
) -> None:
    key = await budgeted(gateway)
    upstream.enqueue(Reply.sse(told("resp_left"), then=Act.STALL))
    await leave(gateway, key)
    row = await after(gateway, key)
    assert row["is_estimated"]
    assert TOKENS <= row["output_tokens"] < TOKENS * 1.1
    assert (await refusal(gateway, key))["code"] == "insufficient_quota"
    assert len(upstream.requests) == 1


async def test_what_had_passed_of_a_stream_that_broke_off_is_charged(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    key = await budgeted(sqlite_gateway)
    upstream.enqueue(Reply.sse(told("resp_broken"), then=Act.CLOSE))
    async with calling(sqlite_gateway.url, key, input="Hi.") as call:
        await call.rest()
    assert (await after(sqlite_gateway, key))["is_estimated"]
    assert (await refusal(sqlite_gateway, key))["code"] == "insufficient_quota"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstream_that_never_says_what_a_call_took_gives_nothing_away(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, stream: bool
) -> None:
    key = await budgeted(sqlite_gateway)
    whole = response("resp_silent", "completed", [item(TEXT)])
    ended = [*told("resp_silent"), frame("response.completed", 501, response=whole)]
    upstream.enqueue(Reply.sse(ended) if stream else Reply.json(200, whole))
    async with calling(sqlite_gateway.url, key, input="Hi.", stream=stream) as call:
        await call.rest()
    row = await after(sqlite_gateway, key)
    assert (row["is_estimated"], row["response_status"]) == (True, "completed")
    assert TOKENS <= row["output_tokens"] < TOKENS * 1.1
    assert (await refusal(sqlite_gateway, key))["code"] == "insufficient_quota"


async def test_a_chain_that_is_left_is_charged_with_its_history(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream
) -> None:
    own = await limited_keys(sqlite_gateway.settings.storage.url, Limits(budgets=(Budget("month", tokens=50_000),)))
    upstream.enqueue(Reply.json(200, response("resp_own", "completed", [item(TEXT)])))
    upstream.enqueue(Reply.sse(told("resp_second"), then=Act.STALL))
    async with calling(sqlite_gateway.url, own[0], input="Hi.", stream=False) as call:
        await call.rest()
    async with calling(sqlite_gateway.url, own[0], input="Hi.", previous_response_id="resp_own") as call:
        await call.until(b"response.output_text.done")
        call.leave()
    async with asyncio.timeout(SECONDS):
        while len(found := await asyncio.to_thread(rows, sqlite_gateway.settings.storage.url, usage)) < 2:
            await asyncio.sleep(0.05)
    last = next(row for row in found if row["status"] == 499)
    assert TOKENS <= last["input_tokens"] < TOKENS * 1.1
