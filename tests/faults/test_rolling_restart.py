"""Replicas behind a proxy are restarted one after the other under load: no call is refused, none is cut."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import orjson
import pytest

from tests.fakes.gateway import GatewayProcess
from tests.fakes.ports import free_port
from tests.fakes.raw_http import RawClient
from tests.fakes.replicas import gateway_process
from tests.fakes.replies import Reply
from tests.fakes.streams import story
from tests.fakes.upstream import FakeUpstream, Recorded
from tests.faults.conftest import Report

pytestmark = [pytest.mark.live, pytest.mark.proxies]

_REPLICAS = 3
_CLIENTS = 24
_CALLS = 5000
_PAUSE = 0.05
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


def haproxy(folder: Path, ports: Sequence[int], port: int) -> list[str]:
    """It asks for readiness, as docs/deployment.md shows."""
    servers = "\n".join(f"    server s{number} 127.0.0.1:{each} check" for number, each in enumerate(ports))
    config = folder / "haproxy.cfg"
    config.write_text(
        "defaults\n    mode http\n    timeout connect 5s\n    timeout client 660s\n    timeout server 660s\n"
        "    retries 3\n    option redispatch\n"
        f"frontend f\n    bind 127.0.0.1:{port}\n    default_backend gateways\n"
        f"backend gateways\n    option httpchk GET /readyz\n    default-server inter 1s fall 1 rise 1\n{servers}\n"
    )
    return ["haproxy", "-f", str(config), "-db"]


def nginx(folder: Path, ports: Sequence[int], port: int) -> list[str]:
    """It asks nothing beforehand, and goes elsewhere where it is refused."""
    servers = " ".join(f"server 127.0.0.1:{each} max_fails=1 fail_timeout=1s;" for each in ports)
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n"
        "events { worker_connections 1024; }\n"
        f"http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n"
        f"fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n"
        f"upstream gateways {{ {servers} keepalive 32; }}\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://gateways; proxy_http_version 1.1;\n"
        'proxy_set_header Connection ""; proxy_buffering off; proxy_read_timeout 660s; } } }\n'
    )
    return ["nginx", "-c", str(config), "-e", str(folder / "nginx.log")]


@contextmanager
def running(command: Sequence[str]) -> Iterator[None]:
    binary = shutil.which(command[0], path=_PATH)
    if binary is None:
        pytest.skip(f"{command[0]} is not installed")
    process = subprocess.Popen([binary, *command[1:]])
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


def answer(request: Recorded) -> Reply | None:
    """A stream that takes its time; the demo model answers the others."""
    if not request.json.get("stream"):
        return None
    return Reply.sse(story(f"resp_{os.urandom(24).hex()}", "finished"), pause=0.05)


class Load:
    """Clients of the proxy, each with one call after the other, every second one a stream."""

    def __init__(self, port: int, key: str) -> None:
        self.told: Counter[str] = Counter()
        self._url = f"http://127.0.0.1:{port}"
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        self.is_over = False

    async def client(self, number: int) -> None:
        is_stream = number % 2 == 0
        body = orjson.dumps({"model": "demo", "input": "Hello!", "stream": is_stream})
        while not self.is_over:
            try:
                async with RawClient.to(self._url) as client:
                    told = await client.ask("POST", "/v1/responses", self._headers, body)
                mark = b"event: response.completed" if is_stream else b'"completed"'
                self.told["ok" if told.status == 200 and mark in told.body else repr(told)] += 1
            except (OSError, EOFError, TimeoutError) as error:
                self.told[repr(error)] += 1
            await asyncio.sleep(_PAUSE)


async def restart(replica: GatewayProcess) -> None:
    os.kill(replica.pid, signal.SIGTERM)
    assert await asyncio.to_thread(replica.exit_status) == 0
    await asyncio.to_thread(replica.start)


@pytest.mark.parametrize("proxy", [haproxy, nginx])
async def test_a_rolling_restart_refuses_no_call_and_cuts_none(
    proxy: Callable[[Path, Sequence[int], int], list[str]], tmp_path: Path, empty_postgresql_url: str, report: Report
) -> None:
    async with FakeUpstream() as upstream:
        upstream.respond = answer
        with ExitStack() as stack:
            replicas = [
                stack.enter_context(
                    gateway_process(
                        tmp_path / str(number),
                        empty_postgresql_url,
                        upstream,
                        ANTIPHON_SHUTDOWN_GRACE_SECONDS="3",
                        ANTIPHON_DRAIN_SECONDS="30",
                    )
                )
                for number in range(_REPLICAS)
            ]
            port = free_port()
            ports = [int(replica.url.rpartition(":")[2]) for replica in replicas]
            stack.enter_context(running(proxy(tmp_path, ports, port)))
            await answers(port)
            load = Load(port, replicas[0].key)
            async with asyncio.TaskGroup() as clients:
                for number in range(_CLIENTS):
                    clients.create_task(load.client(number))
                while load.told.total() < _CALLS:
                    for replica in replicas:
                        await restart(replica)
                        # The proxy is to notice before the next one goes.
                        await asyncio.sleep(2)
                load.is_over = True
    calls = load.told.total()
    report(
        f"behind {proxy.__name__} a rolling restart refuses and cuts no call", calls, f"{calls - load.told['ok']} were"
    )
    assert load.told.keys() == {"ok"}, load.told


async def answers(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                async with RawClient.to(f"http://127.0.0.1:{port}") as client:
                    if (await client.ask("GET", "/readyz", {})).status == 200:
                        return
            except (OSError, EOFError):
                pass
            await asyncio.sleep(0.1)
