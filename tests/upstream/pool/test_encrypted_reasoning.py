"""Encrypted reasoning is asked for where it is not known to be refused, and a refusal costs the client nothing."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from app.errors import UpstreamRefusedError
from app.state.account_conditions import Condition, Recovery
from app.upstream.account import Account
from app.upstream.pool.encrypted_reasoning import ReasoningRefusals
from app.upstream.transport import Transport
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream, Recorded
from tests.upstream.rig import KEYS, SSE, Clock, Rig, failure, rig, upstream_settings

pytestmark = pytest.mark.live

REFUSAL = "Encrypted content is not supported with this model."


def refusing(reply: Reply) -> Callable[[Recorded], Reply]:
    """An upstream that refuses, like this, to be asked for reasoning."""
    return lambda request: reply if request.json.get("include") else Reply.sse([SSE])


class Asking:
    """A call that asks for reasoning by itself, as an exchange does."""

    def __init__(self) -> None:
        self.forgone: set[str] = set()

    def render(self, account: Account) -> bytes:
        include = None if account.upstream.name in self.forgone else ["reasoning.encrypted_content"]
        return orjson.dumps({"model": "m", "include": include})

    async def read(self, rig: Rig, **call: Any) -> bytes:
        return await rig.read(body_of=self.render, without_reasoning=self.forgone, **call)


@pytest.mark.parametrize(
    "reply",
    [
        Reply.error(400, message=REFUSAL),
        Reply.error(400, "unsupported_parameter", message="Unsupported parameter: 'include'."),
        Reply.json(422, {"detail": "body.include: Extra inputs are not permitted"}),
        Reply.json(400, {"code": "invalid", "error": "Unknown include: reasoning.encrypted_content"}),
        Reply.html(400),
    ],
    ids=["of OpenAI", "a parameter", "a detail", "a bare error", "no words"],
)
async def test_who_refuses_is_asked_again_without_it_and_never_again_with_it(
    reply: Reply, upstream: FakeUpstream, one: Rig
) -> None:
    upstream.respond = refusing(reply)
    for calls in (2, 3, 4):
        assert await Asking().read(one) == SSE
        assert len(upstream.requests) == calls
    assert one.in_flight == 0
    (state,) = one.pool.report()
    assert (state.state, state.conditions) == ("usable", ())
    assert one.client.possible_duplicates == 0


async def test_each_model_is_found_out_about_by_itself(upstream: FakeUpstream, one: Rig) -> None:
    upstream.respond = refusing(Reply.error(400, message=REFUSAL))
    for model in ("m", "other", "m", "other"):
        await Asking().read(one, model=model)
    assert len(upstream.requests) == 6


async def test_what_is_refused_either_way_is_told_and_not_remembered(upstream: FakeUpstream, one: Rig) -> None:
    upstream.enqueue(
        Reply.error(400, message="include"), Reply.error(400, message="Your input does not include a text.")
    )
    told = await failure(Asking().read(one))
    assert b"a text" in told.body()
    assert not one.pool.reasoning_refusals.has("main", "m")
    assert one.in_flight == 0


@pytest.mark.parametrize(
    "reply", [Reply.error(400, message="No such tool."), Reply.error(404, message="include"), Reply.error(413)]
)
async def test_another_refusal_is_told_at_once(reply: Reply, upstream: FakeUpstream, one: Rig) -> None:
    upstream.respond = lambda _: reply
    assert isinstance(await failure(Asking().read(one)), UpstreamRefusedError)
    assert len(upstream.requests) == 1


async def test_what_the_client_asked_for_itself_is_its_own_fault(upstream: FakeUpstream, one: Rig) -> None:
    upstream.respond = refusing(Reply.error(400, message=REFUSAL))
    assert isinstance(await failure(one.read(b'{"include":["x"]}')), UpstreamRefusedError)
    assert len(upstream.requests) == 1


async def test_an_upstream_that_keeps_chains_is_asked_for_nothing(upstream: FakeUpstream, transport: Transport) -> None:
    upstream.respond = lambda _: Reply.error(400, message=REFUSAL)
    keeping = rig(transport, upstream_settings(upstream.url, state="upstream"))
    assert isinstance(await failure(Asking().read(keeping)), UpstreamRefusedError)
    assert len(upstream.requests) == 1


async def test_it_is_found_out_by_whoever_takes_over(upstream: FakeUpstream, transport: Transport) -> None:
    two = rig(transport, upstream_settings(upstream.url, *KEYS[:2]))
    upstream.enqueue(Reply.error(401, "invalid_api_key"), Reply.error(400, message=REFUSAL), Reply.sse([SSE]))
    assert await Asking().read(two) == SSE
    assert [bool(request.json["include"]) for request in upstream.requests] == [True, True, False]
    assert len({request.headers["authorization"] for request in upstream.requests}) == 2


async def test_a_fault_of_the_second_asking_is_failed_over_as_any_is(
    upstream: FakeUpstream, transport: Transport
) -> None:
    two = rig(transport, upstream_settings(upstream.url, *KEYS[:2]))
    upstream.enqueue(Reply.error(400, message=REFUSAL), Reply.error(429, "rate_limit_exceeded"), Reply.sse([SSE]))
    assert await Asking().read(two) == SSE
    assert [bool(request.json["include"]) for request in upstream.requests] == [True, False, False]
    assert two.in_flight == 0


def test_it_is_remembered_for_a_day_and_told_to_the_others() -> None:
    clock, told = Clock(), list[Condition | Recovery]()
    mine, theirs = ReasoningRefusals(clock, told.append), ReasoningRefusals(clock, told.append)
    mine.add("main", "m")
    (found,) = told
    assert isinstance(found, Condition)
    assert (found.account, found.model, found.state) == ("main", "m", "no_reasoning")
    theirs.apply(found)
    for refusals in (mine, theirs):
        assert refusals.has("main", "m")
        assert not refusals.has("other", "m")
    clock.now += 86_401
    for refusals in (mine, theirs):
        assert not refusals.has("main", "m")


def test_what_is_remembered_is_bounded() -> None:
    refusals = ReasoningRefusals(Clock(), lambda _: None)
    for number in range(3000):
        refusals.add("main", f"model-{number}")
    refusals.add("main", "m" * 10_000)
    assert len(refusals._known) == 1024
    assert refusals.has("main", "model-2999")
    assert not refusals.has("main", "m" * 10_000)
