"""What a call is charged of which upstream has not said what it took: what it was sent, and what its client got."""

import asyncio
from typing import Any

import pytest

from app.errors import InvalidRequestError
from app.relay.call.exchange import Exchange
from app.relay.metering.limiter import Limiter
from app.relay.metering.meter import Meter, MeteredCall
from app.relay.metering.prices import Prices
from app.relay.stream.accumulator import StreamAccumulator
from app.runtime.compute_thread import ComputeThread
from app.state.policies import KeyPolicy, Limits
from app.state.records import TokenUsage
from app.state.usage import Endpoint, UsageEntry
from app.storage.limits.memory_counts import MemoryCounts
from app.wire.responses import stream_events
from tests.builders import make_caller, make_request
from tests.fakes.streams import frame, response

LIMITED = KeyPolicy(limits=Limits(tokens_per_minute=100_000))
GIVEN = 29


class Metering:
    """Calls whose entries are kept, and the tokens that they were charged."""

    def __init__(self) -> None:
        self.entries: list[UsageEntry] = []
        self.counts = MemoryCounts()
        itself: Any = self
        self.meter = Meter(Limiter(self.counts, Prices(()), ComputeThread()), itself, ComputeThread())

    def record(self, entry: UsageEntry) -> None:
        self.entries.append(entry)

    def call(self, *, policy: KeyPolicy = LIMITED, endpoint: Endpoint = "responses") -> MeteredCall[Exchange]:
        return self.meter.call(make_request(input="x" * 100), make_caller(policy=policy), {}, endpoint=endpoint)

    @property
    def charged(self) -> int:
        return sum(count.used for count in self.counts._counts.values())


@pytest.fixture
def metering() -> Metering:
    return Metering()


def passed(text: str) -> StreamAccumulator:
    accumulator = StreamAccumulator({"model": "demo"}, 100_000)
    for seen in (
        frame("response.created", 0, response=response("resp_1", "in_progress")),
        frame("response.output_text.delta", 1, delta=text, item_id="msg_1"),
    ):
        accumulator.feed(seen, stream_events.kind(seen))
    return accumulator


async def test_a_client_that_leaves_pays_for_its_input_and_what_it_got(metering: Metering) -> None:
    async with metering.call() as call:
        call.entry.attempts, call.entry.first_byte_ms, call.entry.history_tokens = 1, 5, 200
        call.answer = passed("x" * 4000)
        call.entry.status = 499
    assert metering.charged == GIVEN + 200 + 1000
    [entry] = metering.entries
    assert (entry.usage, entry.is_estimated) == (TokenUsage(GIVEN + 200, 1000, GIVEN + 1200), True)


async def test_what_upstream_said_is_what_counts(metering: Metering) -> None:
    async with metering.call() as call:
        call.entry.attempts, call.entry.first_byte_ms = 1, 5
        call.entry.usage, call.entry.is_metered = TokenUsage(7, 3, 10), True
        call.answer = passed("x" * 4000)
    assert metering.charged == 10
    assert (metering.entries[0].usage, metering.entries[0].is_estimated) == (TokenUsage(7, 3, 10), False)


async def test_a_summary_that_goes_before_is_a_call_of_its_own_and_paid_for_at_once(metering: Metering) -> None:
    async with metering.call() as call:
        async with metering.meter.summary(call, 400) as entry:
            entry.attempts, entry.usage, entry.is_metered = 1, TokenUsage(500, 50, 550, 20), True
        assert metering.charged == GIVEN + 550
        call.entry.status = 400
    summary, own = metering.entries
    assert (summary.endpoint, summary.usage, summary.status) == ("compact", TokenUsage(500, 50, 550, 20), 200)
    assert (own.endpoint, own.usage, own.status) == ("responses", None, 400)
    assert summary.request_id == own.request_id
    assert metering.charged == 550


async def test_a_summary_that_is_left_alone_is_paid_for_by_estimate(metering: Metering) -> None:
    async def leave() -> None:
        async with metering.call() as call, metering.meter.summary(call, 400) as entry:
            entry.attempts = 1
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await leave()
    assert (metering.entries[0].status, metering.entries[0].usage) == (499, TokenUsage(400, 0, 400))
    assert metering.entries[0].is_estimated


async def test_a_summary_that_nobody_was_asked_for_is_no_call(metering: Metering) -> None:
    async def refused() -> None:
        async with metering.call() as call, metering.meter.summary(call, 400):
            raise InvalidRequestError("No.")

    with pytest.raises(InvalidRequestError):
        await refused()
    assert [entry.endpoint for entry in metering.entries] == ["responses"]
    assert metering.charged == 0


async def test_who_has_no_limits_is_counted_by_size(metering: Metering) -> None:
    async with metering.call(policy=KeyPolicy()) as call:
        call.entry.attempts, call.entry.status, call.entry.input_bytes = 1, 499, 102
    assert metering.entries[0].usage == TokenUsage(26, 0, 26)


@pytest.mark.parametrize(
    "facts",
    [
        {"attempts": 0, "status": 499},
        {"attempts": 2, "status": 400, "first_byte_ms": 5},
        {"attempts": 1, "status": 200, "first_byte_ms": 5, "response_status": "failed"},
        {"attempts": 1, "status": 200, "response_status": "failed"},
    ],
    ids=["never asked", "refused", "failed in its first event", "refused in the background"],
)
async def test_what_upstream_refused_or_was_not_asked_is_in_no_bill(metering: Metering, facts: dict[str, Any]) -> None:
    async with metering.call() as call:
        for name, value in facts.items():
            setattr(call.entry, name, value)
    assert metering.entries[0].usage is None
    assert not metering.entries[0].is_estimated


async def test_what_failed_after_words_of_it_were_heard_is_paid_for(metering: Metering) -> None:
    async with metering.call() as call:
        call.entry.attempts, call.entry.first_byte_ms, call.entry.response_status = 1, 5, "failed"
        call.answer = passed("x" * 400)
    assert metering.entries[0].usage == TokenUsage(GIVEN, 100, GIVEN + 100)


async def test_counting_tokens_is_free_whoever_leaves(metering: Metering) -> None:
    async with metering.call(endpoint="input_tokens") as call:
        call.entry.attempts, call.entry.status = 1, 499
    assert (metering.entries[0].usage, metering.charged) == (None, 0)
