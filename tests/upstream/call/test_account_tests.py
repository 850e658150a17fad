"""The test of an account: whether upstream takes its key, and which API it has."""

import pytest

from app.errors import UpstreamError
from app.runtime.compute_thread import ComputeThread
from app.upstream.call.upstream_client import UpstreamClient
from app.upstream.pool.pool import Pool
from app.upstream.transport import Transport
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream, Recorded
from tests.upstream.rig import KEYS, Rig, cooling, relay_settings, upstream_settings

pytestmark = pytest.mark.live


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply.json(200, {"data": []}), (True, 200, None)),
        (Reply.error(401, "invalid_api_key", message=KEYS[0]), (False, 401, "HTTP 401 invalid_api_key")),
        (Reply.error(404), (False, 404, "HTTP 404")),
        (Reply.raw(b"ICY 200 OK\r\n\r\n"), (False, None, "upstream_invalid_answer")),
    ],
)
async def test_an_account_is_tested_however_it_is(
    upstream: FakeUpstream, one: Rig, reply: Reply, told: tuple[bool, int | None, str | None]
) -> None:
    account = one.pool.accounts()[0]
    one.pool.apply([cooling(account, 60)])
    upstream.enqueue(reply)
    result = await one.client.test(account.name)
    assert (result.ok, result.status, result.code) == told
    assert result.advice is None
    assert 0 <= result.latency_ms < 10_000
    assert (upstream.requests[0].method, upstream.requests[0].path) == ("GET", "/v1/models")
    with pytest.raises(UpstreamError):
        await one.client.test("main/gone")


@pytest.mark.parametrize(
    ("has", "api", "speaks", "advice"),
    [
        (("/responses", "/chat/completions"), "responses", ("responses", "chat"), None),
        (("/chat/completions",), "chat", ("chat",), None),
        (("/chat/completions",), "responses", ("chat",), 'It has no /responses: set `api = "chat"` for fake.'),
        (("/responses",), "chat", ("responses",), 'It has no /chat/completions: set `api = "responses"` for fake.'),
        ((), "responses", (), None),
    ],
)
@pytest.mark.parametrize("refusal", [400, 422])
async def test_it_is_told_which_api_a_server_has(  # noqa: PLR0917
    upstream: FakeUpstream,
    transport: Transport,
    has: tuple[str, ...],
    api: str,
    speaks: tuple[str, ...],
    advice: str | None,
    refusal: int,
) -> None:
    """Rule 55."""

    def respond(request: Recorded) -> Reply:
        if request.method == "GET":
            return Reply.json(200, {"data": []})
        assert request.body == b"{}"
        return Reply.error(refusal if request.path.removeprefix("/v1") in has else 404)

    upstream.respond = respond
    settings = upstream_settings(upstream.url, KEYS[0], name="fake", api=api)
    pool = Pool([settings], 10.0)
    client = UpstreamClient(pool, lambda _: transport, relay_settings(), ComputeThread())
    result = await client.test(pool.accounts()[0].name)
    assert (result.ok, result.speaks, result.advice) == (True, speaks, advice)
    assert {request.headers["authorization"] for request in upstream.requests} == {f"Bearer {KEYS[0]}"}


async def test_a_server_that_takes_no_key_is_asked_nothing_more(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply.error(401, "invalid_api_key"))
    result = await one.client.test(one.pool.accounts()[0].name)
    assert (result.ok, result.speaks) == (False, ())
    assert len(upstream.requests) == 1
