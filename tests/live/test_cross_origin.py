"""A page in a browser calls the gateway from another origin, where the operator named it, and nowhere else."""

import httpx
import pytest

from tests.fakes.gateway import LiveGateway, running_gateway

pytestmark = pytest.mark.live

PAGE = "https://app.example"
ASKS = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
BODY = {"model": "demo", "input": "Hello", "stream": True}


async def asked(gateway: LiveGateway, origin: str) -> tuple[httpx.Response, httpx.Response]:
    """What a browser is told before the call, and by the call."""
    async with httpx.AsyncClient(timeout=30) as client:
        url = f"{gateway.base_url}/responses"
        before = await client.options(url, headers={"origin": origin, **ASKS})
        return before, await client.post(url, json=BODY, headers={**gateway.headers(), "origin": origin})


async def test_a_named_origin_may_ask_and_read(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url, server={"cors_origins": f"{PAGE},http://localhost:3000"}) as gateway:
        before, answer = await asked(gateway, PAGE)
        async with httpx.AsyncClient() as client:
            refused = await client.get(f"{gateway.base_url}/models", headers={"origin": PAGE})
    assert (before.status_code, before.headers["access-control-allow-origin"]) == (200, PAGE)
    assert "authorization" in before.headers["access-control-allow-headers"]
    assert "POST" in before.headers["access-control-allow-methods"]
    assert answer.text.count("event: response.completed") == 1
    for each in (answer, refused):
        assert each.headers["access-control-allow-origin"] == PAGE
        assert "x-request-id" in each.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in each.headers
        assert each.headers["vary"] == "Origin"
    assert refused.status_code == 401


async def test_another_origin_is_told_nothing(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url, server={"cors_origins": PAGE}) as gateway:
        before, answer = await asked(gateway, "https://app.example.evil")
    assert before.status_code == 400
    assert "access-control-allow-origin" not in {**before.headers, **answer.headers}


async def test_every_origin_may_be_let_in_and_never_with_cookies(sqlite_url: str) -> None:
    async with running_gateway(sqlite_url, server={"cors_origins": "*"}) as gateway:
        before, answer = await asked(gateway, PAGE)
    for each in (before, answer):
        assert each.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in each.headers


async def test_no_browser_is_let_in_by_default(sqlite_gateway: LiveGateway) -> None:
    before, answer = await asked(sqlite_gateway, PAGE)
    assert before.status_code == 405
    assert [name for name in (*before.headers, *answer.headers) if name.startswith("access-control")] == []
