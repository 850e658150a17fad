"""Large bodies, histories and answers are worked on in one thread beside the loop; nothing of a plain call is."""

import threading
from collections import defaultdict
from typing import Any

import httpx
import orjson
import pytest

from app.relay.call import prepare, settle
from app.relay.call.exchange import Exchange
from app.runtime.compute_thread import ComputeThread
from app.storage.responses.store import SaveResponse
from app.wire.json.sliced_decoder import SlicedDecoder
from tests.fakes.gateway import LiveGateway
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = pytest.mark.live

MESSAGE = {"role": "user", "content": [{"type": "input_text", "text": "y"}] * 4}
Threads = defaultdict[str, set[str]]


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Threads:
    """The names of the threads in which each kind of work was done."""
    seen: Threads = defaultdict(set)

    def watch(owner: Any, name: str) -> None:
        work = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            seen[name].add(threading.current_thread().name)
            return work(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)

    for owner, name in (
        (SlicedDecoder, "members"),
        (SlicedDecoder, "check"),
        (Exchange, "render"),
        (prepare, "references"),
        (prepare, "input_items"),
        (prepare, "check_calls"),
        (settle, "output_items"),
        (SaveResponse, "of"),
    ):
        watch(owner, name)
    return seen


def answer(items: int = 1, filler: int = 0) -> dict[str, Any]:
    said = {"type": "message", "role": "assistant", "status": "completed", "content": []}
    return {"id": "resp_1", "object": "response", "status": "completed", "output": [said] * items, "x": [[]] * filler}


async def ask(gateway: LiveGateway, **body: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=gateway.base_url, headers=gateway.headers(), timeout=60) as client:
        return await client.post("/responses", content=orjson.dumps({"model": "demo", **body}))


def _items_sent(request: Recorded) -> int:
    given = request.json["input"]
    assert isinstance(given, list)
    return len(given)


async def test_a_large_body_is_worked_on_off_the_loop(
    gateway: LiveGateway, upstream: FakeUpstream, threads: Threads
) -> None:
    upstream.enqueue(Reply.json(200, answer()))
    given = [MESSAGE] * 3000
    assert (await ask(gateway, input=given)).status_code == 200
    assert (await upstream.request()).json["input"] == given
    assert threads.keys() >= {"members", "references", "input_items", "render", "output_items", "of"}
    assert set().union(*threads.values()) == {"offload"}


async def test_a_large_history_is_worked_on_off_the_loop(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, threads: Threads
) -> None:
    upstream.enqueue(Reply.json(200, answer()), Reply.json(200, {**answer(), "id": "resp_2"}))
    await ask(sqlite_gateway, input=[MESSAGE] * 3000)
    threads.clear()
    assert (await ask(sqlite_gateway, input="And?", previous_response_id="resp_1")).status_code == 200
    assert [_items_sent(sent) for sent in upstream.requests] == [3000, 3002]
    assert (threads["render"], threads["check_calls"]) == ({"offload"}, {"offload"})


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
async def test_a_large_answer_is_read_off_the_loop(
    sqlite_gateway: LiveGateway,
    upstream: FakeUpstream,
    threads: Threads,
    is_stream: bool,
) -> None:
    told = answer(items=3000, filler=100_000)
    event = {"type": "response.completed", "sequence_number": 0, "response": told}
    reply = Reply.body(
        200, b"event: response.completed\ndata: %b\n\n" % orjson.dumps(event), content_type="text/event-stream"
    )
    upstream.enqueue(reply if is_stream else Reply.json(200, told))
    answered = await ask(sqlite_gateway, input="Hello.", stream=is_stream)
    assert answered.status_code == 200
    assert answered.content.count(b"[]") == 103_000
    assert (threads["members"], threads["output_items"], threads["of"]) == ({"offload"},) * 3


async def test_a_plain_call_needs_no_thread(
    sqlite_gateway: LiveGateway, upstream: FakeUpstream, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(ComputeThread, "run", refuse)
    upstream.enqueue(Reply.json(200, answer()), Reply.json(200, {**answer(), "id": "resp_2"}))
    assert (await ask(sqlite_gateway, input=[MESSAGE] * 100)).status_code == 200
    # Large by its size, and quickly done: one text.
    assert (await ask(sqlite_gateway, input="y" * 500_000, previous_response_id="resp_1")).status_code == 200
    assert threads["render"] == {"MainThread"}
