"""The documented reverse proxies, with clients that lie about where they are, and that look for the administration."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from app.state.policies import KeyPolicy
from tests.fakes.front import FRONTS, running_front
from tests.fakes.gateway import LiveGateway, running_gateway
from tests.fakes.limited import ADMINISTRATOR
from tests.fakes.socket_client import SocketClient

pytestmark = [pytest.mark.live, pytest.mark.proxies]

MASTER_KEY = "the master key of these tests"
# The proxy is at 127.0.0.1, its clients are here, and say that they are elsewhere.
HERE, PROXY, ELSEWHERE = "127.0.0.77", "127.0.0.1", "10.9.9.9"
BODY = b'{"model":"demo","input":"Hello!"}'
WHOLE = b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)
IN_CHUNKS = b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
XFF = f"X-Forwarded-For: {ELSEWHERE}\r\n"
LIES = {
    "nothing": "",
    "the header": XFF,
    "the header twice": XFF * 2,
    "the header in capitals": XFF.upper(),
    "the header with underscores": XFF.replace("-", "_"),
    "an empty header": "X-Forwarded-For:\r\n",
    "a list": f"X-Forwarded-For: {ELSEWHERE}, {PROXY}\r\n",
    "a list with a hole": f"X-Forwarded-For: {ELSEWHERE},\r\n",
    "an obfuscated hop": f"X-Forwarded-For: {ELSEWHERE}, unknown\r\n",
    "a mapped address": f"X-Forwarded-For: ::ffff:{ELSEWHERE}\r\n",
    "another header": f"X-Real-IP: {ELSEWHERE}\r\nTrue-Client-IP: {ELSEWHERE}\r\nCF-Connecting-IP: {ELSEWHERE}\r\n",
    "the standard header": f"Forwarded: for={ELSEWHERE}\r\n",
    "both": f"{XFF}Forwarded: for={ELSEWHERE}\r\n",
    "both in disagreement": f"{XFF}Forwarded: for=8.8.8.8\r\n",
    "a header that is to be removed": f"{XFF}Connection: close, X-Forwarded-For\r\n",
    "a header in a trailer": "Trailer: X-Forwarded-For\r\nTE: trailers\r\n",
}
TO_ADMIN = (
    "/admin/v1/keys",
    "//admin/v1/keys",
    "/admin//v1/keys",
    "/%61dmin/v1/keys",
    "/%2fadmin/v1/keys",
    "/admin%2fv1/keys",
    "/./admin/v1/keys",
    "/v1/../admin/v1/keys",
    "/v1/%2e%2e/admin/v1/keys",
    "/v1//admin/v1/keys",
    "/Admin/v1/keys",
    "/admin;x/v1/keys",
    "/v1\\..\\admin/v1/keys",
    "/admin/v1/keys/",
    "/admin/v1/keys?/v1",
    "http://gateway/admin/v1/keys",
    "http://gateway//admin/v1/keys",
)


@dataclass(frozen=True)
class Behind:
    """A gateway behind a proxy, whose URL this is, and a key for each address that it may be used from."""

    url: str
    gateway: LiveGateway
    keys: dict[str, str]

    async def status(self, target: str, key: str, head: str = "", body: bytes = WHOLE, method: str = "POST") -> int:
        """What a client at HERE is answered, or 0 where it is answered nothing."""
        _, _, port = self.url.rpartition(":")
        async with asyncio.timeout(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(port), local_addr=(HERE, 0))
            lines = f"{method} {target} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {key}\r\n{head}"
            if "connection:" not in lines.lower():
                lines += "Connection: close\r\n"
            writer.write(f"{lines}Content-Type: application/json\r\n".encode() + body)
            answer = await reader.readline()
            writer.close()
        return int(answer.split(b" ")[1]) if answer else 0


@pytest.fixture(params=FRONTS)
async def behind(request: pytest.FixtureRequest, sqlite_url: str, tmp_path: Path) -> AsyncIterator[Behind]:
    server = {"admin_key": MASTER_KEY, "trusted_proxies": (PROXY,)}
    access = {"client_address_header": "x-forwarded-for"}
    async with running_gateway(sqlite_url, server=server, access=access) as gateway:
        services = gateway.app.state.services
        (project,) = [project for project in await services.projects.list() if project.name == "default"]
        keys = {}
        for address in (HERE, PROXY, ELSEWHERE):
            policy = KeyPolicy(addresses=(address,))
            _, keys[address] = await services.keys.create(
                ADMINISTRATOR, project_id=project.id, name=address, policy=policy
            )
        with running_front(request.param, gateway.url, tmp_path) as url:
            yield Behind(url, gateway, keys)


async def test_no_client_chooses_its_address(behind: Behind) -> None:
    believed = {}
    refused = {}
    for lie, head in LIES.items():
        body = IN_CHUNKS + XFF.encode() + b"\r\n" if "TE:" in head else WHOLE
        asked = [behind.status("/v1/responses/input_tokens", key, head, body) for key in behind.keys.values()]
        here, proxy, elsewhere = await asyncio.gather(*asked)
        if {proxy, elsewhere} != {403}:
            believed[lie] = (proxy, elsewhere)
        if here != 200:
            refused[lie] = here
    assert believed == {}
    assert refused == {}


async def test_a_socket_comes_from_where_it_comes(behind: Behind) -> None:
    gateway = replace(behind.gateway, url=behind.url)
    for address, is_let_in in ((HERE, True), (PROXY, False), (ELSEWHERE, False)):
        headers = {**gateway.headers(behind.keys[address]), "x-forwarded-for": ELSEWHERE}
        async with AsyncExitStack() as stack:
            connecting = SocketClient.to(gateway, additional_headers=headers, local_addr=(HERE, 0))
            if is_let_in:
                await (await stack.enter_async_context(connecting)).respond()
                continue
            with pytest.raises(InvalidStatus) as refused:
                await stack.enter_async_context(connecting)
            assert refused.value.response.status_code == 403, address


async def test_no_spelling_goes_round_a_rule_about_a_path(behind: Behind) -> None:
    asked = [behind.status(target, MASTER_KEY, body=b"\r\n", method="GET") for target in TO_ADMIN]
    told = dict(zip(TO_ADMIN, await asyncio.gather(*asked), strict=True))
    assert {target: status for target, status in told.items() if status not in (400, 403, 404)} == {}
    assert told["/admin/v1/keys"] == 403
    for target in ("/v1/models", "/models", "/v1//models", "/v1/models/"):
        assert await behind.status(target, behind.keys[HERE], body=b"\r\n", method="GET") == 200, target
