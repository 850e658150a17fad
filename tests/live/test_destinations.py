"""Where calls go: to upstreams as they were configured, whatever a client says and whatever a name comes to mean."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
import pytest
import structlog
from pydantic import SecretStr

from tests.fakes.gateway import LiveGateway, running_gateway, upstream_settings
from tests.fakes.names import Names
from tests.fakes.raw_http import Answer, RawClient
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live

MASTER_KEY = "a master key for administration"
KEY = "sk-canary-upstream-key"
PUBLIC = "93.184.216.34"


async def ask(
    gateway: LiveGateway, method: str, target: str, body: Mapping[str, Any] | None = None, **headers: str
) -> Answer:
    """What the gateway answers to this, asked by a client, or by the administrator where the target is theirs."""
    key = MASTER_KEY if "/admin/" in target else gateway.key
    sent = {"content-type": "application/json", "authorization": f"Bearer {key}", **headers}
    async with RawClient.to(gateway.url) as client:
        return await client.ask(method, target, sent, b"" if body is None else orjson.dumps(body))


def create(**members: Any) -> Mapping[str, Any]:
    return {"model": "demo", "input": "Hello!", "store": False, **members}


@pytest.fixture
async def elsewhere() -> AsyncIterator[FakeUpstream]:
    """A server that nobody configured."""
    async with FakeUpstream() as elsewhere:
        yield elsewhere


async def test_a_name_that_comes_to_mean_this_machine_is_not_called(
    sqlite_url: str, elsewhere: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(monkeypatch)
    names.addresses["rebinding.test"] = [PUBLIC]
    base_url = elsewhere.url.replace("127.0.0.1", "rebinding.test")
    server = {"admin_key": SecretStr(MASTER_KEY)}
    async with running_gateway(sqlite_url, server=server) as gateway:
        made = {"name": "rebinding", "base_url": base_url}
        assert (await ask(gateway, "POST", "/admin/v1/upstreams", made)).status == 201
        names.addresses["rebinding.test"] = ["127.0.0.1"]
        added = await ask(gateway, "POST", "/admin/v1/upstreams/rebinding/keys", {"secret": KEY})
        account = added.json["account"]
        again = {"name": "again", "base_url": base_url}
        assert (await ask(gateway, "POST", "/admin/v1/upstreams", again)).json["error"]["param"] == "base_url"
        await served(gateway, "rebinding")

        with structlog.testing.capture_logs() as log:
            tested = (await ask(gateway, "POST", f"/admin/v1/accounts/{account}/test")).json
            answer = await ask(gateway, "POST", "/v1/responses", create(model="some-model"))
            await ask(gateway, "GET", "/v1/models")
        assert (tested["ok"], tested["status"], tested["code"]) == (False, None, "upstream_address_refused")
        assert (answer.status, answer.json["error"]["code"]) == (502, "upstream_address_refused")
        assert b"127.0.0.1" not in answer.body
        told = [line for line in log if line["event"] == "an upstream is not called"]
        assert [line["upstream"] for line in told] == ["rebinding", "rebinding"]
        assert all("allow_private_upstreams" in line["reason"] for line in told)
    assert elsewhere.connections == 0


async def served(gateway: LiveGateway, upstream: str) -> None:
    """Return when the gateway serves the upstream of this name: it takes over what was stored within two seconds."""
    for _ in range(200):
        listed = (await ask(gateway, "GET", "/admin/v1/upstreams")).json["data"]
        if any(each["name"] == upstream and each["accounts"][0]["key_id"] for each in listed):
            return
    pytest.fail("The upstream is not served.")


async def test_nothing_that_a_client_says_chooses_the_destination(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, elsewhere: FakeUpstream
) -> None:
    host = elsewhere.origin.removeprefix("http://")
    names = ("base_url", "api_base", "api_url", "host", "endpoint", "custom_host", "proxy")
    for name in names:
        body = create(**{name: elsewhere.url})
        await ask(sqlite_gateway, "POST", "/v1/responses", body)
        await ask(sqlite_gateway, "POST", "/v1/responses", create(metadata={name: elsewhere.url}))
        await ask(sqlite_gateway, "POST", f"/v1/responses?{name}={elsewhere.url}", create())
    headers = ("x-portkey-custom-host", "x-base-url", "x-api-base", "x-forwarded-host", "x-original-url", "forwarded")
    for name in headers:
        await ask(sqlite_gateway, "POST", "/v1/responses", create(), **{name: elsewhere.url})
    await ask(sqlite_gateway, "POST", "/v1/responses", create(), host=host)
    for target in (f"{elsewhere.url}/responses", f"http://user@{host}/v1/responses", f"//{host}/v1/responses"):
        await ask(sqlite_gateway, "POST", target, create())
    await ask(sqlite_gateway, "CONNECT", host)
    assert elsewhere.connections == 0
    assert len(upstream.requests) > len(headers) + len(names)
    assert {request.path for request in upstream.requests} == {"/v1/responses"}
    assert {request.headers["host"] for request in upstream.requests} == {upstream.origin.removeprefix("http://")}
    said = [f"{name}: {value}" for request in upstream.requests for name, value in request.headers.items()]
    assert [line for line in said if host in line] == []


async def test_a_redirect_of_a_test_or_of_the_models_takes_no_key_along(
    sqlite_url: str, upstream: FakeUpstream, elsewhere: FakeUpstream
) -> None:
    upstream.respond = lambda _: Reply.redirect(f"{elsewhere.url}/models", 307)
    server = {"admin_key": SecretStr(MASTER_KEY)}
    async with running_gateway(sqlite_url, [upstream_settings(upstream.url, KEY)], server=server) as gateway:
        (account,) = (await ask(gateway, "GET", "/admin/v1/upstreams")).json["data"][0]["accounts"]
        tested = (await ask(gateway, "POST", f"/admin/v1/accounts/{account['name']}/test")).json
        assert (tested["ok"], tested["status"]) == (False, 307)
        assert (await ask(gateway, "GET", "/v1/models")).status == 200
    assert [request.path for request in upstream.requests] == ["/v1/models", "/v1/models"]
    assert elsewhere.connections == 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_of_upstreams_headers_a_client_sees_the_listed_ones(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, stream: bool
) -> None:
    theirs = {
        "set-cookie": "a=b",
        "www-authenticate": "Bearer",
        "openai-organization": "org-secret",
        "openai-project": "proj-secret",
        "x-goog-api-key": KEY,
        "server": "theirs",
        "via": "theirs",
        "x-anything": "theirs",
        "location": "http://elsewhere.example",
        "openai-processing-ms": "12",
        "x-ratelimit-remaining-tokens": "9",
    }
    upstream.respond = lambda _: Reply.error(400, "invalid_prompt", headers=theirs)
    refused = await ask(sqlite_gateway, "POST", "/v1/responses", create(stream=stream))
    assert refused.status == 400
    shown = refused.headers.items() & theirs.items()
    assert shown == {("openai-processing-ms", "12"), ("x-ratelimit-remaining-tokens", "9")}
    assert refused.headers.keys() & theirs.keys() == dict(shown).keys()
