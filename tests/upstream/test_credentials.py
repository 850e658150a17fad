"""What must not travel: keys and cookies go to their own upstream and nowhere else."""

import pytest

from app.upstream.transport import Transport
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream
from tests.upstream.rig import EVENTS, KEYS, Rig, failure, rig, upstream_settings

pytestmark = pytest.mark.live


async def test_a_redirect_is_not_followed_and_the_key_is_not_sent_on(upstream: FakeUpstream, one: Rig) -> None:
    async with FakeUpstream() as elsewhere:
        for status in (301, 302, 303, 307, 308):
            upstream.enqueue(Reply.redirect(f"{elsewhere.url}/responses", status))
            error = await failure(one.open())
            assert (error.status, error.headers) == (502, {"x-should-retry": "false"})
        assert elsewhere.connections == 0
    assert len(upstream.requests) == 5


async def test_a_cookie_is_never_sent_back(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(Reply.sse(EVENTS, headers={"set-cookie": "session=1; Path=/"}), Reply.sse(EVENTS))
    await one.read()
    await one.read()
    assert "cookie" not in upstream.requests[1].headers


async def test_each_key_goes_to_its_own_upstream_only(transport: Transport) -> None:
    async with FakeUpstream() as first, FakeUpstream() as second:
        both = rig(
            transport,
            upstream_settings(first.url, KEYS[0], name="first"),
            upstream_settings(second.url, KEYS[1], name="second"),
        )
        first.enqueue(Reply.error(500))
        second.enqueue(Reply.sse(EVENTS))
        await both.read()
        assert [r.headers["authorization"] for r in first.requests] == [f"Bearer {KEYS[0]}"]
        assert [r.headers["authorization"] for r in second.requests] == [f"Bearer {KEYS[1]}"]


@pytest.mark.parametrize(
    "reply", [Reply.stall(), Reply.hang_up(), Reply.html(500), Reply.error(401), Reply.huge_header(99_999)]
)
async def test_the_key_is_in_no_error_text(reply: Reply, upstream: FakeUpstream, transport: Transport) -> None:
    one = rig(transport, upstream_settings(upstream.url), first_byte_timeout_seconds=0.2)
    upstream.respond = lambda _: reply
    error = await failure(one.open())
    text = f"{error!r} {error} {error.body()!r} {dict(error.headers)} {error.__cause__!r} {error.__context__!r}"
    assert "canary" not in text
    assert "127.0.0.1" not in text
