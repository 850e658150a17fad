"""What a gateway holds of calls: a place before a body, bytes in one account, and no project all of either."""

import asyncio
import socket
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import orjson
import pytest

from app.runtime.byte_budget import ByteBudget
from tests.fakes.gateway import LiveGateway
from tests.fakes.raw_http import Answer, RawClient, head
from tests.live.conftest import GatewayWith

pytestmark = pytest.mark.live

GOOD = b'{"model": "demo", "input": "Hello."}'
LARGE = 500_000
PATIENCE = 30.0


def budget_of(gateway: LiveGateway) -> ByteBudget:
    budget: ByteBudget = gateway.app.state.services.registry.budget
    return budget


async def held(gateway: LiveGateway, size: int) -> None:
    """Wait until so many bytes are held."""
    async with asyncio.timeout(PATIENCE):
        while budget_of(gateway).held != size:
            await asyncio.sleep(0.01)


async def begin(client: RawClient, gateway: LiveGateway, length: int = LARGE) -> None:
    """Announce a body of this length, and send a little of it."""
    headers = {**gateway.headers(), "content-length": str(length)}
    await client.send(head("POST", "/v1/responses", headers) + GOOD)


async def create(gateway: LiveGateway, key: str | None = None, **fields: object) -> Answer:
    async with RawClient.to(gateway.url) as client:
        body = orjson.dumps({"model": "demo", "input": "Hello.", **fields})
        return await client.ask("POST", "/v1/responses", gateway.headers(key), body)


async def test_the_body_of_a_call_without_a_place_is_not_taken_in(gateway_with: GatewayWith) -> None:
    one_place = gateway_with(server={"max_concurrent_requests": 1}, memory={"admission_wait_seconds": 0.05})
    async with one_place as gateway, RawClient.to(gateway.url) as first, RawClient.to(gateway.url) as second:
        await begin(first, gateway)
        await held(gateway, 3 * LARGE)
        await begin(second, gateway)
        answer = await second.answer()
        assert (answer.status, answer.json["error"]["code"]) == (503, "server_is_overloaded")
        assert answer.headers["retry-after"] == "2"
        assert budget_of(gateway).held == 3 * LARGE
        await first.send(b" " * (LARGE - len(GOOD)))
        assert (await first.answer()).status == 200
        await held(gateway, 0)


async def test_a_project_that_fills_its_places_leaves_one_to_another(gateway_with: GatewayWith) -> None:
    async with gateway_with(server={"max_concurrent_requests": 8}) as gateway, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(RawClient.to(gateway.url)) for _ in range(9)]
        for client in clients:
            await begin(client, gateway, 50_000)
        assert (await create(gateway, gateway.other_key)).status == 200
        for client in clients:
            await client.send(b" " * (50_000 - len(GOOD)))
        assert [(await client.answer()).status for client in clients] == [200] * 9


async def test_a_call_that_is_larger_than_the_account_is_served_alone(gateway_with: GatewayWith) -> None:
    small = {"max_buffered_bytes": 100_000, "admission_wait_seconds": 0.05}
    async with gateway_with(memory=small) as gateway, RawClient.to(gateway.url) as first:
        assert (await create(gateway, input="x" * LARGE)).status == 200
        await begin(first, gateway)
        await held(gateway, 3 * LARGE)
        assert (await create(gateway, gateway.other_key, input="x" * LARGE)).status == 503
        assert (await create(gateway, gateway.other_key)).status == 200


async def test_an_answer_that_nobody_reads_is_held_once_and_not_after_its_client(gateway_with: GatewayWith) -> None:
    size = 8_000_000
    async with gateway_with() as gateway, RawClient.to(gateway.url) as writer:
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x" * size}]}
        body = orjson.dumps({"items": [item]})
        made = await writer.ask("POST", "/v1/conversations", gateway.headers(), body)
        path = f"/v1/conversations/{made.json['id']}/items"
        with socket.socket() as reader:
            # Whoever reads nothing, with next to nothing that the system would read for it.
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.setblocking(False)
            address = urlsplit(gateway.url)
            await asyncio.get_running_loop().sock_connect(reader, (address.hostname, address.port))
            reader.send(head("GET", path, gateway.headers()))
            async with asyncio.timeout(PATIENCE):
                while not size <= budget_of(gateway).held <= size + 1000:
                    await asyncio.sleep(0.01)
        await held(gateway, 0)
        assert len((await writer.ask("GET", path, gateway.headers())).body) > size


async def test_a_history_that_is_too_long_is_told_in_openais_words(gateway_with: GatewayWith) -> None:
    async with gateway_with(memory={"max_context_bytes": 5000}) as gateway, RawClient.to(gateway.url) as client:
        made = await client.ask("POST", "/v1/conversations", gateway.headers(), b"{}")
        for where, context in ("previous_response_id", {}), ("conversation", {"conversation": made.json["id"]}):
            for _ in range(2):
                answer = await create(gateway, input="x" * 2000, **context)
                assert answer.status == 200
                if where == "previous_response_id":
                    context = {where: answer.json["id"]}  # noqa: PLW2901 - the chain goes on
            answer = await create(gateway, input="x" * 2000, **context)
            assert (answer.status, answer.json["error"]["param"]) == (400, "input")
            assert answer.json["error"]["code"] == "context_length_exceeded"
