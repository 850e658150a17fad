"""A call that one upstream of its model cannot be asked: it belongs to the others, and their faults are told."""

from collections.abc import Callable

import pytest

from app.runtime.byte_budget import Reserve, reserve_nothing
from app.runtime.compute_thread import ComputeThread
from app.settings.upstreams import UpstreamSettings
from app.state.account_conditions import Condition
from app.state.usage import UsageEntry
from app.upstream.account import Account
from app.upstream.call.upstream_client import UpstreamClient
from app.upstream.pool.pool import Pool
from app.upstream.transport import Answer, Ask, RawHeaders, Transport, UnfitRequestError, UpstreamRequest
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream
from tests.upstream.rig import EVENTS, KEYS, SSE, Rig, cooling, failure, relay_settings, upstream_settings

pytestmark = pytest.mark.live


class Unfit:
    """A transport to an upstream that no call can be put to; `asked` counts the calls."""

    def __init__(self) -> None:
        self.asked = 0

    def prepare(self, request: UpstreamRequest) -> Ask:
        async def ask(body: bytes, more: RawHeaders, tenant: str = "", reserve: Reserve = reserve_nothing) -> Answer:
            self.asked += 1
            raise UnfitRequestError("tools[0].type")

        return ask

    async def aclose(self) -> None:
        pass


Made = Callable[..., Rig]


@pytest.fixture
def unfit() -> Unfit:
    return Unfit()


@pytest.fixture
def made(upstream: FakeUpstream, transport: Transport, unfit: Unfit) -> Made:
    """Make a rig of a native upstream and one that is unfit, with two keys, which is tried before or after it."""

    def make(*, native_first: bool = False, has_native: bool = True, **relay: float) -> Rig:
        native = upstream_settings(upstream.url, name="native", tier=1 - native_first)
        chat = upstream_settings("http://127.0.0.1:9/v1", *KEYS[1:], name="chat", tier=int(native_first))
        settings = relay_settings(**relay)
        pool = Pool([native, chat] if has_native else [chat], 10.0, wait_seconds=settings.pool_wait_seconds)

        def transport_of(one: UpstreamSettings) -> Transport:
            return transport if one.name == "native" else unfit

        return Rig(pool, UpstreamClient(pool, transport_of, settings, ComputeThread()))

    return make


def native_of(one: Rig) -> Account:
    return next(account for account in one.pool.accounts() if account.upstream.name == "native")


async def test_a_native_account_that_rests_is_waited_for_by_the_client(
    upstream: FakeUpstream, made: Made, unfit: Unfit
) -> None:
    one = made()
    one.pool.apply([cooling(native_of(one), 20)])
    error = await failure(one.open())
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert 15 <= int(error.headers["retry-after"]) <= 20
    assert "x-should-retry" not in error.headers
    # Both keys of an upstream take the same.
    assert unfit.asked == 1
    assert len(upstream.requests) == 0
    assert one.in_flight == 0


async def test_a_native_account_that_is_back_soon_serves_the_call(
    upstream: FakeUpstream, made: Made, unfit: Unfit
) -> None:
    one = made(pool_wait_seconds=30.0)
    one.pool.apply([cooling(native_of(one), 0.3)])
    upstream.enqueue(Reply.sse(EVENTS))
    assert await one.read() == SSE
    # It waited for the native account alone.
    assert unfit.asked == 1


@pytest.mark.parametrize("native_first", [False, True])
@pytest.mark.parametrize(
    ("reply", "status", "headers"),
    [
        (Reply.error(429, "rate_limit_exceeded", {"retry-after": "7"}), 429, {"retry-after": "7"}),
        (Reply.error(503, "server_is_overloaded"), 503, {"x-should-retry": "false"}),
        (Reply.error(401, "invalid_api_key"), 502, {"x-should-retry": "false"}),
    ],
    ids=["limited", "overloaded", "dead"],
)
async def test_a_passing_fault_is_told_and_not_what_the_other_upstream_cannot_do(
    upstream: FakeUpstream, made: Made, *, reply: Reply, status: int, headers: dict[str, str], native_first: bool
) -> None:
    one = made(native_first=native_first)
    upstream.respond = lambda _: reply
    error = await failure(one.open())
    assert error.status == status
    assert headers.items() <= error.headers.items()


async def test_a_native_account_that_is_switched_off_may_be_back(made: Made) -> None:
    one = made()
    one.pool.control(native_of(one).name, "disabled")
    error = await failure(one.open())
    assert (error.status, error.code) == (503, "upstream_disabled")


async def test_what_no_account_of_the_model_could_ever_serve_is_refused(
    upstream: FakeUpstream, made: Made, unfit: Unfit
) -> None:
    """There is no other upstream, or it lacks the model."""
    alone, lacking, known = made(has_native=False), made(native_first=True), made()
    upstream.respond = lambda _: Reply.error(404, "model_not_found")
    known.pool.apply([Condition(native_of(known).name, "m", "removed", 600, 0, "HTTP 404")])
    for one in (alone, lacking, known):
        entry = UsageEntry.unrecorded()
        error = await failure(one.open(entry=entry))
        assert (error.status, error.code, error.param) == (400, "unsupported_parameter", "tools[0].type")
        assert error.headers == {"x-should-retry": "false"}
        assert entry.attempts == len(upstream.requests if one is lacking else ())
    assert unfit.asked == 3


async def test_a_call_that_only_an_unfit_account_may_serve_is_refused(upstream: FakeUpstream, made: Made) -> None:
    one = made()
    (only, *_) = [account for account in one.pool.accounts() if account.upstream.name == "chat"]
    error = await failure(one.open(only=only.name))
    assert (error.status, error.code, error.param) == (400, "unsupported_parameter", "tools[0].type")
    assert len(upstream.requests) == 0
