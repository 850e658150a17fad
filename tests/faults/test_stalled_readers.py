"""Clients that ask for endless streams and read nothing hold little memory each."""

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path

from tests.fakes.gateway import GatewayProcess
from tests.faults.children import child, resident_bytes
from tests.faults.conftest import Report

_MOST_KILOBYTES = 300
# Below the time after which a client that reads nothing is cut.
_SETTLING_SECONDS = 50.0
_BODY = b'{"model":"flood","input":"x","stream":true}'


async def test_a_stalled_reader_holds_little(tmp_path: Path, readers: int, report: Report) -> None:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(child("upstream", niceness=5))
        environment = {
            "OPENAI_BASE_URL": f"http://127.0.0.1:{await upstream.line()}/v1",
            "OPENAI_API_KEY": "sk-upstream-one",
            "ANTIPHON_LOG_LEVEL": "warning",
        }
        gateway = GatewayProcess(tmp_path, environment).start()
        stack.callback(gateway.kill)
        request = (
            b"POST /v1/responses HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer %b\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (gateway.key.encode(), len(_BODY), _BODY)
        )
        host, port = gateway.url.removeprefix("http://").split(":")
        rested = resident_bytes(gateway.pid)
        for _ in range(readers):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.setblocking(False)
            await loop.sock_connect(reader, (host, int(port)))
            await loop.sock_sendall(reader, request)
        each, before = 0, -1
        async with asyncio.timeout(_SETTLING_SECONDS):
            while each != before:
                before = each
                await asyncio.sleep(4)
                each = (resident_bytes(gateway.pid) - rested) // readers // 1000
        report("a stalled reader holds <= 300 KB", readers, f"{each} KB each")
        assert each <= _MOST_KILOBYTES
