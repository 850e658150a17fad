"""Invariant 12 for content and `store: false`: no content where it is not wanted."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.forked import ForkedGateway
from tests.fakes.gateway import GatewayProcess
from tests.fakes.raw_client import calling
from tests.fakes.replies import Act, Reply
from tests.fakes.streams import events, item, response, story
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = pytest.mark.live

_CANARY = "canary-5e1f0c-of-content"
_ID = "resp_of_the_canary"
# What a client may write that holds content. The upstream's answers say it too.
_BODY: dict[str, Any] = {
    "model": "demo",
    "input": [{"role": "user", "content": _CANARY}],
    "instructions": _CANARY,
    "metadata": {"note": _CANARY},
    "user": _CANARY,
}
_REFUSED = [
    b'{"model": "demo", "input": "' + _CANARY.encode(),
    b'{"model": "demo", "input": "hi", "temperature": "%b"}' % _CANARY.encode(),
    b'{"model": "demo", "input": "hi", "previous_response_id": "resp_%b"}' % _CANARY.encode(),
    b'{"model": "demo", "input": [{"type": "item_reference", "id": "msg_%b"}]}' % _CANARY.encode(),
    b'{"model": "demo", "input": "hi", "tools": "%b"}' % _CANARY.encode(),
]
_UPSTREAM_ERRORS = [
    Reply.error(400, "invalid_prompt", message=_CANARY),
    Reply.error(500, message=_CANARY),
    Reply.html(500, _CANARY),
    Reply.html(200, _CANARY),
    Reply.truncated(f'{{"id": "{_CANARY}'.encode()),
]
_STREAM_ERRORS = [
    Reply.sse(story(_ID, _CANARY)[:-1], then=Act.CLOSE),
    Reply.sse([*story(_ID)[:2], b"event: response.completed\ndata: {" + _CANARY.encode() + b"\n\n"]),
]


@pytest.fixture
async def process(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[GatewayProcess]:
    """A gateway that logs all it can. What it writes is in `tmp_path`."""
    environment = {
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "sk-upstream-one",
        "ANTIPHON_LOG_LEVEL": "debug",
        # Each call has its own answer: none waits for a key until it would get another.
        "ANTIPHON_POOL_WAIT_SECONDS": "0",
    }
    process = ForkedGateway(tmp_path, environment).start()
    yield process
    process.stop()


@pytest.fixture
async def http(process: GatewayProcess) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {process.key}", "content-type": "application/json"}
    async with httpx.AsyncClient(base_url=f"{process.url}/v1", headers=headers, timeout=60) as client:
        yield client


def files_with(folder: Path, text: str) -> set[str]:
    """The files below this folder, logs and database included, that hold this text."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"gateway.log", "gateway.err", "antiphon.db"} <= {path.name for path in files}
    return {path.name for path in files if text.encode() in path.read_bytes()}


def telling(request: Recorded) -> Reply:
    """An answer that says the canary, streamed or whole."""
    if request.json.get("stream"):
        return Reply.sse(story(_ID, _CANARY))
    return Reply.json(200, response(_ID, "completed", [item(_CANARY)]))


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_stored_can_be_found_and_is_gone_once_it_is_deleted(
    process: GatewayProcess, http: httpx.AsyncClient, upstream: FakeUpstream, tmp_path: Path, stream: bool
) -> None:
    upstream.respond = telling
    async with calling(process.url, process.key, **_BODY, stream=stream) as call:
        assert _CANARY in (await call.rest()).decode()
    assert files_with(tmp_path, _CANARY) & {"antiphon.db", "antiphon.db-wal"}
    assert (await http.delete(f"/responses/{_ID}")).status_code == 200
    assert files_with(tmp_path, _CANARY) == set()


@pytest.mark.slow
async def test_what_was_said_in_a_conversation_is_gone_once_both_are_deleted(
    http: httpx.AsyncClient, upstream: FakeUpstream, tmp_path: Path
) -> None:
    upstream.respond = telling
    started = {"items": [{"role": "user", "content": _CANARY}], "metadata": {"note": _CANARY}}
    conversation = (await http.post("/conversations", json=started)).json()["id"]
    (one,) = (await http.get(f"/conversations/{conversation}/items")).json()["data"]
    assert (await http.post(f"/conversations/{conversation}", json={"metadata": None})).status_code == 200
    assert (await http.delete(f"/conversations/{conversation}/items/{one['id']}")).status_code == 200
    assert files_with(tmp_path, _CANARY) == set()
    assert (await http.post("/responses", json={**_BODY, "conversation": conversation})).status_code == 200
    assert (await http.delete(f"/responses/{_ID}")).status_code == 200
    assert files_with(tmp_path, _CANARY)
    assert (await http.delete(f"/conversations/{conversation}")).status_code == 200
    assert files_with(tmp_path, _CANARY) == set()


async def test_what_is_not_to_be_stored_leaves_no_content(
    process: GatewayProcess, http: httpx.AsyncClient, upstream: FakeUpstream, tmp_path: Path
) -> None:
    upstream.respond = telling
    for stream in (False, True):
        async with calling(process.url, process.key, **_BODY, stream=stream, store=False) as call:
            assert _CANARY in (await call.rest()).decode()
        assert _CANARY.encode() in upstream.requests[-1].body
    async with calling(process.url, process.key, **_BODY, store=False) as call:
        # A client that leaves amid the stream.
        await call.until(b"response.created")
    for body in _REFUSED:
        assert (await http.post("/responses", content=body)).status_code in {400, 404}
    for reply in _UPSTREAM_ERRORS:
        upstream.enqueue(reply)
        assert (await http.post("/responses", json={**_BODY, "store": False})).status_code >= 400
    for reply in _STREAM_ERRORS:
        upstream.enqueue(reply)
        async with calling(process.url, process.key, **_BODY, store=False) as call:
            await call.rest()
    assert (await http.get(f"/responses/{_CANARY}?include={_CANARY}")).status_code == 404
    assert (await http.get(f"/{_CANARY}")).status_code == 404
    assert files_with(tmp_path, _CANARY) == set()
    process.stop()
    assert files_with(tmp_path, _CANARY) == set()
    assert files_with(tmp_path, '"route":"/v1/responses"') == {"gateway.log"}


@pytest.mark.slow
async def test_a_stored_response_that_failed_leaves_its_content_in_no_log(
    process: GatewayProcess, http: httpx.AsyncClient, upstream: FakeUpstream, tmp_path: Path
) -> None:
    for reply in _UPSTREAM_ERRORS:
        upstream.enqueue(reply)
        assert (await http.post("/responses", json=_BODY)).status_code >= 400
    for reply in _STREAM_ERRORS:
        upstream.enqueue(reply)
        async with calling(process.url, process.key, **_BODY) as call:
            assert events(await call.rest())[-1]["type"] == "response.failed"
    # The second of the two has an id that is taken: a failed write.
    assert files_with(tmp_path, _CANARY) <= {"antiphon.db", "antiphon.db-wal"}
