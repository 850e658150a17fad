"""Whatever bytes arrive, they are refused in OpenAI's shape or dropped, and the next client is served."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.fakes.gateway import GatewayProcess
from tests.fakes.raw_http import RawClient, head
from tests.faults.conftest import Report
from tests.faults.corpus import CORPUS

_AT_ONCE = 20
# A request that lacks its end gets no answer yet.
_PATIENCE_SECONDS = 0.5
# Beside those that say 4xx: a request that a changed byte has healed, a method or coding that there is not, a version
# that there is not (RFC 9110 §15.6.2, §15.6.6).
_FINE = {200, 501, 505}


@pytest.fixture
def process(tmp_path: Path) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path, {}).start()
    yield process
    process.kill()


def _mutated(chance: random.Random) -> bytes:
    """One of the corpus, with a few of its bytes changed, doubled or left out."""
    raw = bytearray(chance.choice(CORPUS))
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(raw))
        raw[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
    return bytes(raw)


async def _attack(url: str, chance: random.Random, until: float) -> list[int]:
    """Send one after another, each on a connection of its own; returns the statuses, 0 for no answer."""
    statuses = []
    while asyncio.get_running_loop().time() < until:
        async with RawClient.to(url) as client:
            try:
                # A part of it may be all that ever comes.
                await client.send(_mutated(chance))
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    statuses.append((await client.answer()).status)
            except (TimeoutError, OSError, EOFError):
                statuses.append(0)
    return statuses


def _open_files(process: GatewayProcess) -> int:
    return sum(1 for _ in Path(f"/proc/{process.pid}/fd").iterdir())


async def test_malformed_requests_are_refused_and_cost_nobody_anything(
    process: GatewayProcess, seconds: float, report: Report
) -> None:
    asked = orjson.dumps({"model": "demo", "input": "Hello.", "store": False})
    headers = {"authorization": f"Bearer {process.key}", "content-type": "application/json"}
    asked_head = head("POST", "/v1/responses", {**headers, "content-length": str(len(asked))})
    async with RawClient.to(process.url) as client:
        await client.send(asked_head + asked)
        assert (await client.answer()).status == 200
    before = _open_files(process)
    until = asyncio.get_running_loop().time() + seconds
    attacks = [
        asyncio.create_task(_attack(process.url, random.Random(number), until))  # noqa: S311 (the same in every run)
        for number in range(_AT_ONCE)
    ]
    served = []
    while not all(attack.done() for attack in attacks):
        async with RawClient.to(process.url) as client:
            await client.send(asked_head + asked)
            served.append((await client.answer()).status)
    statuses = [status for attack in attacks for status in await attack]
    async with asyncio.timeout(30):
        while (after := _open_files(process)) > before:
            await asyncio.sleep(0.1)
    wrong = sorted({status for status in statuses if status and not 400 <= status < 500} - _FINE)
    report("a malformed request is refused or dropped", len(statuses), wrong or "each was")
    report("good calls beside them are answered", len(served), f"{served.count(200)} with 200")
    report("descriptors are back", after, f"{after - before:+d}")
    assert not wrong
    assert served
    assert set(served) == {200}
    assert "Traceback" not in process.log.read_text() + process.banner.read_text()
