"""A gateway under attack from a thousand connections without a key serves everybody else as if nothing were."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from tests.fakes.gateway import GatewayProcess
from tests.faults.children import child, put_first, resident_bytes
from tests.faults.conftest import Report

_CONNECTIONS = 1000
_GOOD_STREAMS = 50
_LONGEST_P99 = 100.0
_MOST_GROWTH = 20 * 2**20
# What the longest attack and an idle connection are given by the gateway (docs/deployment.md).
_SETTLING_SECONDS = 90.0


async def test_floods_cost_others_nothing(tmp_path: Path, report: Report, seconds: float) -> None:
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(child("upstream"))
        environment = {
            "OPENAI_BASE_URL": f"http://127.0.0.1:{await upstream.line()}/v1",
            "OPENAI_API_KEY": "sk-upstream-one",
            "ANTIPHON_LOG_LEVEL": "warning",
        }
        gateway = GatewayProcess(tmp_path, environment).start()
        stack.callback(gateway.kill)
        put_first(gateway.pid)
        await _play(gateway, min(10.0, seconds), 100)  # what the first attacks load stays
        rested = await _settled(gateway)

        good = await stack.enter_async_context(child("good_streams", gateway.url, gateway.key, _GOOD_STREAMS))
        probe = await stack.enter_async_context(child("probe", gateway.url, niceness=-10))
        played = await _play(gateway, seconds, _CONNECTIONS)
        probed, streamed = await probe.result(), await good.result()
        left = await _settled(gateway)

        report(f"/livez answers, p99 <= {_LONGEST_P99:g} ms", probed["calls"], f"p99 {probed['p99']:.0f} ms")
        report("/livez never fails", probed["calls"], f"{probed['failed']} failed")
        report("good streams beside it are whole", streamed["whole"], f"{len(streamed['faults'])} were not")
        report("memory comes back within 20 MB", sum(played.values()), f"{(left - rested) / 2**20:+.1f} MB")
        assert probed["p99"] <= _LONGEST_P99, probed
        assert not probed["failed"]
        assert not streamed["faults"]
        assert streamed["whole"] >= _GOOD_STREAMS
        assert left - rested <= _MOST_GROWTH
        assert "Traceback" not in gateway.log.read_text() + gateway.banner.read_text()


async def _play(gateway: GatewayProcess, seconds: float, connections: int) -> dict[str, int]:
    async with child("attackers", gateway.url, seconds, connections, 1, niceness=5) as attackers:
        await asyncio.sleep(seconds)
        played: dict[str, int] = await attackers.result()
        return played


async def _settled(gateway: GatewayProcess) -> int:
    """The memory that the gateway holds once it is lower than it was for some time."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _SETTLING_SECONDS
    least = resident_bytes(gateway.pid)
    fell_at = loop.time()
    while loop.time() < min(until, fell_at + 10):
        await asyncio.sleep(0.5)
        now = resident_bytes(gateway.pid)
        if now < least - 2**20:
            least, fell_at = now, loop.time()
    return resident_bytes(gateway.pid)
