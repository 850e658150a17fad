"""Upstreams that cannot be reached, or that do not begin to answer."""

import asyncio
import socket

import pytest

from app.upstream.transport import Transport
from tests.fakes.ports import free_port
from tests.fakes.replies import Act, Reply
from tests.fakes.upstream import FakeUpstream
from tests.upstream.rig import EVENTS, SSE, failure, rig, serving, upstream_settings

pytestmark = pytest.mark.live


async def test_a_refused_connection_is_unreachable_and_the_next_upstream_serves(
    upstream: FakeUpstream, transport: Transport
) -> None:
    dead = upstream_settings(f"http://127.0.0.1:{free_port()}/v1", name="dead")
    error = await failure(rig(transport, dead).open())
    assert (error.status, error.code, error.message) == (502, "upstream_unreachable", "Upstream could not be reached.")
    upstream.enqueue(Reply.sse(EVENTS))
    assert await rig(transport, dead, upstream_settings(upstream.url)).read() == SSE


async def test_a_name_that_does_not_resolve_is_unreachable(transport: Transport) -> None:
    error = await failure(rig(transport, upstream_settings("http://no-such-host.invalid/v1")).open())
    assert error.code == "upstream_unreachable"
    assert "invalid" not in error.message


async def test_a_server_that_speaks_no_tls_is_unreachable(transport: Transport) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"220 smtp.internal ready\r\n")

    async with serving(greet) as address:
        error = await failure(rig(transport, upstream_settings(f"https://{address}/v1")).open())
    assert error.code == "upstream_unreachable"
    assert "internal" not in error.message


async def test_a_connection_that_is_never_accepted_times_out(transport: Transport) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        slow = rig(transport, upstream_settings(f"http://127.0.0.1:{address[1]}/v1"), connect_timeout_seconds=0.2)
        error = await failure(slow.open())
        for filler in fillers:
            filler.close()
    assert (error.status, error.code) == (504, "upstream_timeout")


@pytest.mark.parametrize("fault", [Reply.stall(), Reply.sse([], then=Act.STALL), Reply.slow_head(0.05)])
async def test_an_answer_that_does_not_begin_in_time_is_given_up(
    fault: Reply, upstream: FakeUpstream, transport: Transport
) -> None:
    slow = rig(transport, upstream_settings(upstream.url), first_byte_timeout_seconds=0.2)
    upstream.enqueue(fault)
    error = await failure(slow.open())
    assert (error.status, error.code) == (504, "upstream_timeout")
    await upstream.wait_until_idle()
    assert slow.in_flight == 0


@pytest.mark.parametrize("host", ["010.1.1.1", "999.1.1.1"])
async def test_a_host_that_is_almost_an_address_is_unreachable(host: str, transport: Transport) -> None:
    one = rig(transport, upstream_settings(f"http://{host}/v1"))
    assert (await failure(one.open())).code == "upstream_unreachable"
    (account,) = one.pool.accounts()
    assert (await one.client.test(account.name)).code == "upstream_unreachable"
    assert one.in_flight == 0
