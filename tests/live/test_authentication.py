"""Who comes in: a living key by any of its carriers, and nobody else, on any route or spelling of one."""

import asyncio
import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import event

from app.api.routes import API
from app.security.authentication import KeyHasher, _checksum, mint_key
from app.security.key_ring import KeyRing
from tests.fakes.gateway import SECRET, GatewayProcess, LiveGateway
from tests.fakes.raw_http import Answer, RawClient, head

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

ROUTES = tuple((method, f"/v1{path}") for method, path, *_ in API)
BODY = orjson.dumps({"model": "demo", "input": "Hello."})
JSON = {"content-type": "application/json"}
REVOCATION_SECONDS = 5.0
SLACK_SECONDS = 5.0


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def malformed(gateway: LiveGateway) -> dict[str, dict[str, str]]:
    """Credentials that cannot be right: refused without a look into the database."""
    key = gateway.key
    stored = KeyHasher(KeyRing(SECRET)).hash(key)
    basic = base64.b64encode(f"user:{key}".encode()).decode()
    return {
        "nothing": {},
        "an empty header": {"authorization": ""},
        "a bare scheme": {"authorization": "Bearer"},
        "an empty bearer": {"authorization": "Bearer "},
        "a blank bearer": {"authorization": "Bearer    "},
        "Basic": {"authorization": f"Basic {basic}"},
        "the key without a scheme": {"authorization": key},
        "another scheme": {"authorization": f"Token {key}"},
        "a key of OpenAI's form": bearer("sk-proj-1234567890abcdef"),
        "a key with a typing error": bearer(key[:-8] + ("x" if key[-8] != "x" else "y") + key[-7:]),
        "a key cut short": bearer(key[:-1]),
        "a key with more behind it": bearer(f"{key}x"),
        "two keys": bearer(f"{key}, {gateway.other_key}"),
        "the stored hash in hex": bearer(stored.hex()),
        "the stored hash in base64": bearer(base64.b64encode(stored).decode()),
        "SQL": bearer("' OR '1'='1"),
        "SQL in the form of a key": bearer("sk-aph_' OR '1'='1' --"),
        "letters beyond ASCII": bearer("sk-aph_\xe9\xff\x85"),
        "a very long key": bearer("sk-aph_" + "A" * 30_000),
        "an empty x-api-key": {"x-api-key": ""},
        "a wrong x-api-key": {"x-api-key": "' OR 1=1 --"},
        "a wrong api-key": {"api-key": key[:-1]},
        "a bad bearer before a good x-api-key": {"authorization": "Bearer nonsense", "x-api-key": key},
        "an empty bearer before a good x-api-key": {"authorization": "Bearer ", "x-api-key": key},
    }


def unknown() -> dict[str, dict[str, str]]:
    """Credentials in the right form that were never given out, or no longer count."""
    hashed = KeyHasher(KeyRing(SECRET)).hash("a key").hex()[:32]
    return {
        "a made-up key": bearer(mint_key()),
        "a made-up x-api-key": {"x-api-key": mint_key()},
        "a hash in the form of a key": bearer(f"sk-aph_{hashed}{_checksum(hashed)}"),
    }


@contextmanager
def queries_of(gateway: LiveGateway) -> Iterator[list[str]]:
    """What the gateway asks its database about its callers meanwhile."""
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        # The process looks after its runs, its ledger and its accounts now and then, whoever calls.
        if "api_keys" in statement:
            asked.append(statement)

    engine = gateway.database.reader
    event.listen(engine, "before_cursor_execute", note)
    yield asked
    event.remove(engine, "before_cursor_execute", note)


async def ask(gateway: LiveGateway, method: str, target: str, headers: dict[str, str]) -> Answer:
    body = BODY if method == "POST" else b""
    async with RawClient.to(gateway.url) as client:
        return await client.ask(method, target, {**JSON, **headers}, body)


def fault_of(answer: Answer) -> str | None:
    """What is wrong with this refusal."""
    if answer.status != 401:
        return f"status {answer.status}"
    error = answer.json.get("error", {})
    if error.keys() != {"message", "type", "param", "code"} or error["type"] != "invalid_request_error":
        return f"body {answer.body!r}"
    return None if "API key" in error["message"] else f"message {error['message']}"


async def test_no_route_serves_without_a_good_key(gateway: LiveGateway) -> None:
    faults = {}
    with queries_of(gateway) as queries:
        for name, headers in malformed(gateway).items():
            for method, path in ROUTES:
                faults[f"{method} {path} with {name}"] = fault_of(await ask(gateway, method, path, headers))
    assert queries == []
    for name, headers in unknown().items():
        for method, path in ROUTES:
            faults[f"{method} {path} with {name}"] = fault_of(await ask(gateway, method, path, headers))
    assert {name: fault for name, fault in faults.items() if fault} == {}
    assert len(faults) == len(ROUTES) * (len(malformed(gateway)) + len(unknown()))


async def test_every_carrier_of_a_good_key_is_served(sqlite_gateway: LiveGateway) -> None:
    key = sqlite_gateway.key
    for headers in (
        bearer(key),
        {"authorization": f"bearer {key}"},
        {"authorization": f"BEARER   {key} "},
        {"x-api-key": key},
        {"api-key": key},
        {**bearer(key), "x-api-key": "nonsense"},
    ):
        assert (await ask(sqlite_gateway, "GET", "/v1/models", headers)).status == 200, headers
        assert (await ask(sqlite_gateway, "POST", "/v1/responses", headers)).status == 200, headers


async def test_no_spelling_of_a_path_or_host_goes_round_the_key(sqlite_gateway: LiveGateway) -> None:
    targets = (
        "//v1/models",
        "/v1//models/",
        "/models",
        "/V1/models",
        "/%76%31/models",
        "/livez/../v1/models",
        "/livez/%2e%2e/v1/models",
        "/v1/models?/livez",
        "/v1/models#/livez",
        "/v1/models;/livez",
        "http://gateway/v1/models",
        "http://gateway/livez/../v1/models",
    )
    heads = [head("GET", target, {}) for target in targets]
    hosts = ("x/livez?", "x/livez#", "a@b", "x/livez", "")
    heads += [head("GET", "/v1/models", {}).replace(b"host: gateway", b"host: " + host.encode()) for host in hosts]
    heads += [head("GET", "/v1/models", {"x-forwarded-host": "x/livez?", "x-original-url": "/livez"})]
    for raw in heads:
        async with RawClient.to(sqlite_gateway.url) as client:
            await client.send(raw)
            assert (await client.answer()).status in {400, 401, 404}, raw


async def test_the_probes_need_no_key(sqlite_gateway: LiveGateway) -> None:
    for probe in ("/livez", "/readyz", "/health", "/healthz"):
        assert (await ask(sqlite_gateway, "GET", probe, {})).status == 200


@pytest.mark.slow
async def test_a_key_revoked_by_another_process_stops_working_within_five_seconds(
    sqlite_gateway: LiveGateway, sqlite_url: str, tmp_path: Path
) -> None:
    command = GatewayProcess(tmp_path, {"DATABASE_URL": sqlite_url})

    async def run(*arguments: str) -> list[str]:
        # In a thread: the gateway in this loop has to let go of the database meanwhile.
        return (await asyncio.to_thread(command.run, *arguments)).splitlines()

    key = (await run("keys", "create", "--name", "short-lived"))[-1]
    assert (await ask(sqlite_gateway, "GET", "/v1/models", bearer(key))).status == 200
    listed = next(line for line in await run("keys", "list") if line.endswith("short-lived"))
    await run("keys", "revoke", listed.split()[0])
    deadline = time.monotonic() + REVOCATION_SECONDS + SLACK_SECONDS
    while fault_of(refused := await ask(sqlite_gateway, "GET", "/v1/models", bearer(key))) is not None:
        assert refused.status == 200
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    for method, path in ROUTES:
        assert fault_of(await ask(sqlite_gateway, method, path, bearer(key))) is None
    assert (await ask(sqlite_gateway, "GET", "/v1/models", bearer(sqlite_gateway.key))).status == 200
