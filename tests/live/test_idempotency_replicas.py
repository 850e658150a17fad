"""Two gateways on one database make a call with an Idempotency-Key once between them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.fakes.gateway import running_gateway, upstream_settings
from tests.fakes.keyed import KeyedClient, asked, client_to, code
from tests.fakes.replies import Reply
from tests.fakes.streams import story
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live


@pytest.fixture
async def replicas(postgresql_url: str, upstream: FakeUpstream) -> AsyncIterator[tuple[KeyedClient, KeyedClient]]:
    """A client of each of two gateways with one database."""
    settings = [upstream_settings(upstream.url, "sk-upstream-one")]
    async with (
        running_gateway(postgresql_url, settings) as one,
        running_gateway(postgresql_url, settings, keys_of=one) as two,
        client_to(one) as first,
        client_to(two) as second,
    ):
        yield first, second


async def test_a_repeat_at_another_replica_waits_for_the_answer(
    replicas: tuple[KeyedClient, KeyedClient], upstream: FakeUpstream
) -> None:
    here, there = replicas
    go, frames = asyncio.Event(), story("resp_theirs")
    upstream.enqueue(Reply.held(frames[:3], go, frames[3:]))
    async with here.streaming() as first:
        await anext(first)
        repeat = asyncio.create_task(there.post(**asked(stream=True)))
        other = await there.post(**asked(stream=True, temperature=0.5))
        assert code(other) == (409, "idempotency_key_reused")
        assert not repeat.done()
        go.set()
        assert (await repeat).content == b"".join(frames)
    assert len(upstream.requests) == 1


async def test_repeats_at_both_replicas_at_once_are_one_call(
    replicas: tuple[KeyedClient, KeyedClient], upstream: FakeUpstream
) -> None:
    answers = await asyncio.gather(*[client.post() for client in replicas * 4])
    assert {(answer.status_code, answer.content) for answer in answers} == {(200, answers[0].content)}
    assert len(upstream.requests) == 1


async def test_the_log_of_a_background_stream_is_told_by_the_other_replica_while_it_runs(
    replicas: tuple[KeyedClient, KeyedClient], upstream: FakeUpstream
) -> None:
    here, there = replicas
    go, frames = asyncio.Event(), story("resp_theirs")
    upstream.enqueue(Reply.held(frames[:3], go, frames[3:]))
    async with here.streaming(background=True) as first, there.streaming(background=True) as repeat:
        heard = [await anext(first), await anext(repeat)]
        go.set()
        for number, chunks in enumerate((first, repeat)):
            heard[number] += b"".join([chunk async for chunk in chunks])
    assert heard[0] == heard[1]
    assert len(upstream.requests) == 1
