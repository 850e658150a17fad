"""Work on what is large: one thread, one job at a time, and the loop goes on."""

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import AsyncIterator

import orjson
import pytest

from app.runtime.compute_thread import ComputeThread
from app.wire.json.sliced_decoder import decode

MB = 1_000_000


@pytest.fixture
def offload() -> ComputeThread:
    return ComputeThread()


class Gate:
    """A job that holds the thread until it is let go."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        assert self.opened.wait(30)


@pytest.fixture
async def gate(offload: ComputeThread) -> AsyncIterator[Gate]:
    gate = Gate()
    held = asyncio.create_task(offload.run(1, gate))
    await asyncio.to_thread(gate.entered.wait, 30)
    yield gate
    gate.opened.set()
    await held


def _thread_name() -> str:
    return threading.current_thread().name


async def test_a_job_returns_or_raises_to_its_caller_from_one_thread(offload: ComputeThread) -> None:
    names = [await offload.run(size, _thread_name) for size in (1, 60 * MB, 1)]
    assert names == ["offload"] * 3
    with pytest.raises(KeyError, match="gone"):
        await offload.run(1, dict[str, str]().pop, "gone")


async def test_a_small_job_goes_before_larger_ones_that_wait(offload: ComputeThread, gate: Gate) -> None:
    done: list[str] = []
    jobs = [
        asyncio.create_task(offload.run(size, done.append, name))
        for size, name in ((600 * MB, "largest"), (60 * MB, "large"), (1, "small"))
    ]
    await asyncio.sleep(0)
    gate.opened.set()
    await asyncio.gather(*jobs)
    assert done == ["small", "large", "largest"]


async def test_a_job_that_has_waited_long_goes_first(
    offload: ComputeThread, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    old = asyncio.create_task(offload.run(60 * MB, done.append, "large and old"))
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    now = loop.time()
    with monkeypatch.context() as later:
        later.setattr(type(loop), "time", lambda _: now + 3600, raising=False)
        new = asyncio.ensure_future(offload.run(1, done.append, "small and new"))
        await asyncio.sleep(0)
    gate.opened.set()
    await asyncio.gather(old, new)
    assert done == ["large and old", "small and new"]


async def test_a_job_whose_caller_left_before_it_began_is_not_done(offload: ComputeThread, gate: Gate) -> None:
    done: list[str] = []
    job = asyncio.create_task(offload.run(1, done.append, "left"))
    await asyncio.sleep(0)
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)
    gate.opened.set()
    await offload.run(MB, done.append, "next")
    assert done == ["next"]


async def test_a_job_sees_the_context_of_its_caller(offload: ComputeThread) -> None:
    request = contextvars.ContextVar("request", default="")
    request.set("req_1")
    assert await offload.run(1, request.get) == "req_1"


async def test_the_loop_goes_on_while_a_huge_document_is_decoded(offload: ComputeThread) -> None:
    raw = orjson.dumps([{"role": "user", "content": [{"type": "input_text", "text": "y"}] * 20}] * 4000)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    def ticks_during_decoding() -> int:
        before = ticks
        assert len(decode(raw)) == 4000
        return ticks - before

    ticking = asyncio.create_task(tick())
    try:
        # In one step of the interpreter the loop would wake once or twice, before it and behind it.
        assert await offload.run(len(raw), ticks_during_decoding) > 8
    finally:
        ticking.cancel()


async def test_what_a_job_that_fails_had_at_hand_is_freed_at_once(offload: ComputeThread) -> None:
    class Body:
        def refuse(self) -> None:
            raise ValueError

    body = Body()
    held = weakref.ref(body)
    gc.disable()
    try:
        try:
            await offload.run(1, body.refuse)
        except ValueError:
            del body
        # The thread lets go of its job a moment after the loop has its outcome.
        await offload.run(1, int)
        assert held() is None
    finally:
        gc.enable()
