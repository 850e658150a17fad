"""Gateways that share what they count, as processes of their own, and calls to them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from tests.fakes.forked import ForkedGateway
from tests.fakes.gateway import GatewayProcess
from tests.fakes.upstream import FakeUpstream


@contextmanager
def gateway_process(
    folder: Path, database_url: str, upstream: FakeUpstream, **environment: str
) -> Iterator[GatewayProcess]:
    folder.mkdir(exist_ok=True)
    own = {"DATABASE_URL": database_url, "OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-upstream-one"}
    process = ForkedGateway(folder, {**own, "ANTIPHON_DRAIN_SECONDS": "1", **environment}).start()
    try:
        yield process
    finally:
        process.kill()


async def post(gateway: GatewayProcess, key: str, **body: object) -> httpx2.Response:
    async with httpx2.AsyncClient(timeout=60) as client:
        asked = {"model": "demo", "input": "Hello!", "store": False, **body}
        headers = {"authorization": f"Bearer {key}"}
        return await client.post(f"{gateway.url}/v1/responses", json=asked, headers=headers)
