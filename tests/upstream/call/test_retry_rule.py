"""The retry rule, line by line: what is tried again, where, at whose cost, and what is never."""

import asyncio
from itertools import pairwise
from typing import Any

import orjson
import pytest

from app.errors import UpstreamError
from app.state.usage import UsageEntry
from app.upstream.account import Account
from app.upstream.call.retry_budget import RetryBudget
from app.upstream.transport import Transport
from tests.fakes.ports import free_port
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream, Recorded
from tests.upstream.rig import EVENTS, KEYS, SSE, Rig, cooling, failure, key_settings, rig, upstream_settings

pytestmark = pytest.mark.live

PAST = "Wed, 21 Oct 2015 07:28:00 GMT"


class Keys:
    """An upstream's opinion of each key; whoever is not named is served. `asked` has the key of each call."""

    def __init__(self, upstream: FakeUpstream) -> None:
        self.bad: dict[str, Reply] = {}
        self.asked: list[str] = []
        upstream.respond = self._respond

    def _respond(self, request: Recorded) -> Reply:
        self.asked.append(request.headers["authorization"].removeprefix("Bearer "))
        return self.bad.get(self.asked[-1], Reply.sse(EVENTS))


@pytest.fixture
def keys(upstream: FakeUpstream) -> Keys:
    return Keys(upstream)


def entry() -> UsageEntry:
    return UsageEntry(0, "req_1", "proj_1", "key_1", "responses", "m", is_stream=True, is_background=False)


def code_of(error: UpstreamError) -> str | None:
    code = orjson.loads(error.body())["error"]["code"]
    assert code is None or isinstance(code, str)
    return code


async def test_a_connection_that_was_refused_costs_no_retry(
    upstream: FakeUpstream, transport: Transport, keys: Keys
) -> None:
    dead = upstream_settings(f"http://127.0.0.1:{free_port()}/v1", *KEYS, name="dead")
    both = rig(transport, dead, upstream_settings(upstream.url), cool_down_seconds=0.001)
    for _ in range(30):
        assert await both.read() == SSE
    assert both.client.possible_duplicates == 0
    # Another key leads to the same place: it is not tried in the same call.
    names = [account.upstream.name for account in both.rendered]
    assert names.count("main") == 30
    assert names.count("dead") <= 30


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_server_that_says_it_failed_is_followed_by_every_other_account(
    keys: Keys, three: Rig, status: int
) -> None:
    keys.bad = dict.fromkeys(KEYS, Reply.error(status, "server_error"))
    error = await failure(three.open())
    assert (error.status, error.headers) == (status, {"x-should-retry": "false"})
    assert len(set(keys.asked)) == len(keys.asked) == 3
    assert three.client.possible_duplicates == 2


async def test_a_gateway_that_lost_patience_is_followed_by_one_more_attempt_that_is_counted(
    keys: Keys, three: Rig
) -> None:
    keys.bad = dict.fromkeys(KEYS, Reply.error(504, "server_error"))
    error = await failure(three.open())
    assert (error.status, error.headers) == (504, {"x-should-retry": "false"})
    assert len(set(keys.asked)) == len(keys.asked) == 2
    assert three.client.possible_duplicates == 1


async def test_an_outage_is_not_multiplied(keys: Keys, three: Rig) -> None:
    keys.bad = dict.fromkeys(KEYS, Reply.error(503))
    for _ in range(100):
        await failure(three.open())
    assert len(keys.asked) <= 120
    keys.bad = {}
    assert await three.read() == SSE


def test_the_budget_is_a_fifth_of_the_calls_of_ten_seconds_and_three_at_the_least() -> None:
    budget = RetryBudget()
    budget.called(0.0)
    assert [budget.spend(0.0) for _ in range(4)] == [True, True, True, False]
    for _ in range(99):
        budget.called(5.0)
    assert [budget.spend(5.0) for _ in range(18)] == [True] * 17 + [False]
    # The retries of the first second are forgotten with its call.
    assert [budget.spend(11.5) for _ in range(4)] == [True, True, True, False]
    assert [budget.spend(60.0) for _ in range(4)] == [True, True, True, False]


async def test_an_item_that_is_not_found_is_asked_for_nowhere_else(keys: Keys, three: Rig) -> None:
    keys.bad = dict.fromkeys(KEYS, Reply.error(404, message="Item with id 'rs_1' not found."))
    assert (await failure(three.open())).status == 404
    assert len(keys.asked) == 1


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_a_model_that_some_keys_lack_is_served_by_those_that_have_it(keys: Keys, three: Rig, status: int) -> None:
    keys.bad = dict.fromkeys(KEYS[:2], Reply.error(status, "model_not_found"))
    for _ in range(10):
        assert await three.read() == SSE
    assert len(keys.asked) <= 12
    lacking = [state for state in three.pool.report() if state.conditions]
    assert all(state.conditions[0].rest > 3000 for state in lacking)
    # Other models are not concerned.
    keys.bad = {}
    for _ in range(60):
        await three.read(model="other")
    assert set(keys.asked[12:]) == set(KEYS)


async def test_a_model_that_no_key_has_is_upstreams_to_refuse(keys: Keys, three: Rig) -> None:
    keys.bad = dict.fromkeys(KEYS, Reply.error(404, "model_not_found", message="The model `m` does not exist."))
    error = await failure(three.open())
    assert error.status == 404
    assert b"The model `m` does not exist." in error.body()
    assert sorted(keys.asked) == sorted(KEYS)


_TOO_LARGE = Reply.error(429, "rate_limit_exceeded", {"retry-after": "60"}, "Request too large: Limit 3, Requested 4.")


async def test_a_request_too_large_for_one_key_is_served_by_one_with_a_larger_limit(keys: Keys, three: Rig) -> None:
    keys.bad = dict.fromkeys(KEYS[:2], _TOO_LARGE)
    for _ in range(5):
        assert await three.read() == SSE
    assert [state.state for state in three.pool.report()] == ["usable"] * 3


async def test_a_request_too_large_for_every_key_is_refused_and_rests_none(
    upstream: FakeUpstream, transport: Transport, keys: Keys
) -> None:
    many = [f"sk-canary-{number}" for number in range(9)]
    keys.bad = dict.fromkeys(many, _TOO_LARGE)
    pool = rig(transport, upstream_settings(upstream.url, *many), pool_wait_seconds=30)
    error = await failure(pool.open())
    assert (error.status, code_of(error), error.headers) == (429, "rate_limit_exceeded", {"x-should-retry": "false"})
    # It may be large, and most keys share the limit of their organization.
    assert len(set(keys.asked)) == len(keys.asked) == 4
    assert {state.state for state in pool.pool.report()} == {"usable"}


async def test_a_request_too_large_for_one_key_is_not_tried_with_those_that_share_its_limit(
    upstream: FakeUpstream, transport: Transport, keys: Keys
) -> None:
    keys.bad = dict.fromkeys(KEYS[:2], _TOO_LARGE)
    shared = [key_settings(key, quota_group="org" if key != KEYS[2] else None) for key in KEYS]
    settings = upstream_settings(upstream.url).model_copy(update={"keys": tuple(shared)})
    pool = rig(transport, settings)
    for _ in range(5):
        assert await pool.read() == SSE
    assert not [1 for one, other in pairwise(keys.asked) if {one, other} == {*KEYS[:2]}]


async def test_what_a_client_brought_from_another_account_finds_it_and_nobody_is_blamed(keys: Keys, three: Rig) -> None:
    keys.bad = dict.fromkeys(KEYS[:2], Reply.error(400, "invalid_encrypted_content"))
    assert await three.read() == SSE
    assert all(state.state == "usable" and not state.conditions for state in three.pool.report())
    keys.bad = dict.fromkeys(KEYS, Reply.error(400, "invalid_encrypted_content"))
    error = await failure(three.open())
    assert (error.status, code_of(error)) == (400, "invalid_encrypted_content")


@pytest.mark.slow
async def test_a_call_in_the_background_is_not_made_twice_blindly(upstream: FakeUpstream, transport: Transport) -> None:
    two = rig(transport, upstream_settings(upstream.url, *KEYS[:2]), first_byte_timeout_seconds=2)
    upstream.respond = lambda _: Reply.stall()
    assert (await failure(two.open(is_background=True))).status == 504
    assert len(upstream.requests) == 1
    assert (await failure(two.open())).status == 504
    assert len(upstream.requests) == 3


async def test_a_call_waits_for_a_key_that_is_soon_back(
    upstream: FakeUpstream, transport: Transport, keys: Keys
) -> None:
    two = rig(transport, upstream_settings(upstream.url, *KEYS[:2]), pool_wait_seconds=10)
    keys.bad = {key: Reply.error(429, "rate_limit_exceeded", {"retry-after-ms": "600"}) for key in KEYS[:2]}
    started = asyncio.get_running_loop().time()

    async def mend() -> None:
        await upstream.request(1)
        keys.bad = {}

    assert (await asyncio.gather(two.read(), mend()))[0] == SSE
    assert 0.59 < asyncio.get_running_loop().time() - started < 8
    assert len(keys.asked) == 3


@pytest.mark.parametrize(
    "advice", [{"retry-after": "0"}, {"retry-after-ms": "0"}, {"retry-after": "-5"}, {"retry-after": PAST}]
)
async def test_a_limit_that_is_said_to_end_at_once_does_not_multiply_the_calls(
    keys: Keys, upstream: FakeUpstream, transport: Transport, monkeypatch: pytest.MonkeyPatch, advice: dict[str, str]
) -> None:
    monkeypatch.setattr("app.upstream.pool.cooldown._SHORTEST_COOLING_SECONDS", 0.01)
    two = rig(transport, upstream_settings(upstream.url, *KEYS[:2]), pool_wait_seconds=5)
    keys.bad = dict.fromkeys(KEYS[:2], Reply.error(429, "rate_limit_exceeded", advice))
    error = await failure(two.open())
    assert (error.status, code_of(error)) == (429, "rate_limit_exceeded")
    # Each key once, and once more after each of the four waits that a call has.
    assert len(keys.asked) <= 2 + 4


async def test_a_call_does_not_wait_for_a_key_that_is_long_away_nor_in_the_background(
    upstream: FakeUpstream, transport: Transport, keys: Keys
) -> None:
    one = rig(transport, upstream_settings(upstream.url), pool_wait_seconds=5)
    one.pool.apply([cooling(one.pool.accounts()[0], 30)])
    error = await failure(one.open())
    assert (error.status, error.headers["retry-after"]) == (429, "30")
    soon = rig(transport, upstream_settings(upstream.url), pool_wait_seconds=5)
    soon.pool.apply([cooling(soon.pool.accounts()[0], 2)])
    error = await failure(soon.open(is_background=True))
    assert (error.status, error.headers["retry-after"]) == (429, "2")
    assert keys.asked == []


async def test_the_ledger_hears_whether_a_call_met_the_account_that_it_preferred(keys: Keys, three: Rig) -> None:
    one, two, _ = three.pool.accounts()

    async def affinity(**call: Any) -> str | None:
        told = entry()
        await three.read(entry=told, **call)
        return told.affinity

    assert await affinity() is None
    assert await affinity(prefer=two.name) == "kept"
    assert await affinity(only=one.name) == "kept"
    assert await affinity(cache_key="cache") == "kept"
    keys.bad = {KEYS[1]: Reply.error(401)}
    assert await affinity(prefer=two.name) == "moved"
    assert await affinity(prefer=two.name) == "moved"
    assert await affinity(prefer="main/gone") == "moved"
    home = next(key for key in (f"cache-{n}" for n in range(99)) if _home(three, key) is one)
    keys.bad = {KEYS[0]: Reply.error(500)}
    assert await affinity(cache_key=home) == "moved"


def _home(three: Rig, cache_key: str) -> Account:
    return three.pool.first(three.call(cache_key=cache_key))
