"""A stop lets live streams finish within the budget, ends the others properly, and admits nothing new."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.ids import new_id
from tests.fakes.gateway import GatewayProcess
from tests.fakes.raw_client import calling
from tests.fakes.replies import Act, Reply, Step
from tests.fakes.streams import events, item, story
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = pytest.mark.live

_BUDGET = 5.0
_SECONDS = 60.0


class Script:
    """An upstream that starts every stream; those whose input is "ends" it finishes, well within the budget."""

    def __init__(self) -> None:
        self.stories: dict[str, list[bytes]] = {}

    def __call__(self, request: Recorded) -> Reply | None:
        said = str(request.json["input"])
        if not request.json.get("stream"):
            return Reply.stall() if said == "never ends" else None
        frames = self.stories[said] = story(new_id("resp"), "finished")
        ending: list[Step] = [2.0, b"%x\r\n%b\r\n" % (len(frames[-1]), frames[-1]), b"0\r\n\r\n"]
        started = Reply.sse(frames[:-1], then=Act.STALL).steps
        return Reply([*started[:-1], *ending]) if said == "ends" else Reply(started)


@pytest.fixture
def script(upstream: FakeUpstream) -> Script:
    script = Script()
    upstream.respond = script
    return script


def gateway_process(folder: Path, upstream: FakeUpstream, drain_seconds: float) -> GatewayProcess:
    environment = {
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "sk-upstream-one",
        "ANTIPHON_DRAIN_SECONDS": str(drain_seconds),
    }
    return GatewayProcess(folder, environment).start()


async def exit_status(process: GatewayProcess) -> int:
    running = process._process
    assert running is not None
    return await asyncio.to_thread(running.wait, _SECONDS)


async def is_draining(http: httpx.AsyncClient) -> dict[str, Any]:
    """What readiness says, once it says no."""
    async with asyncio.timeout(_SECONDS):
        while (answer := await http.get("/readyz")).status_code == 200:
            await asyncio.sleep(0.02)
    assert answer.status_code == 503
    checks: dict[str, Any] = answer.json()
    return checks


async def test_sigterm_lets_streams_finish_ends_the_rest_and_admits_nothing(
    upstream: FakeUpstream, script: Script, tmp_path: Path
) -> None:
    process = gateway_process(tmp_path, upstream, _BUDGET)
    headers = {"authorization": f"Bearer {process.key}"}
    try:
        async with (
            calling(process.url, process.key, input="ends") as ends,
            calling(process.url, process.key, input="never ends") as cut,
            calling(process.url, process.key, input="never ends", stream=False) as silent,
            httpx.AsyncClient(base_url=process.url, headers=headers, timeout=_SECONDS) as http,
        ):
            for call in (ends, cut):
                await call.until(b"event: response.output_item.done")
            await upstream.request(2)
            stopped_at = time.monotonic()
            os.kill(process.pid, signal.SIGTERM)

            assert (await is_draining(http))["admission"] == "closed"
            assert (await http.get("/livez")).status_code == 200
            refused = await http.post("/v1/responses", json={"model": "demo", "input": "Hello!"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_is_overloaded")
            assert int(refused.headers["retry-after"]) >= 1
            assert len(upstream.requests) == 3

            assert await ends.rest() == b"".join(script.stories["ends"])
            started = b"".join(script.stories["never ends"][:-1])
            body = await cut.rest()
            assert body.startswith(started)
            (failed,) = events(body[len(started) :])
            assert (failed["type"], failed["sequence_number"]) == ("response.failed", 5)
            assert failed["response"]["output"] == [item("finished")]
            assert "gateway_shutdown" in failed["response"]["error"]["message"]
            assert b"server_is_overloaded" in await silent.rest()
            assert silent.status == 503
        assert await exit_status(process) == 0
        assert time.monotonic() - stopped_at < _BUDGET + 15

        process.start()
        with process.client() as client:
            for said, status in (("ends", "completed"), ("never ends", "failed")):
                response_id = events(script.stories[said][0])[0]["response"]["id"]
                kept = client.responses.retrieve(response_id)
                assert (kept.status, kept.output_text) == (status, "finished")
    finally:
        process.kill()


async def test_sigterm_ends_an_idle_gateway_at_once(upstream: FakeUpstream, tmp_path: Path) -> None:
    process = gateway_process(tmp_path, upstream, 60)
    try:
        # A kept connection that nobody uses holds up nothing.
        async with httpx.AsyncClient(base_url=process.url, timeout=_SECONDS) as http:
            assert (await http.get("/readyz")).status_code == 200
            os.kill(process.pid, signal.SIGTERM)
            assert await exit_status(process) == 0
    finally:
        process.kill()


async def test_a_second_interrupt_ends_it_at_once(upstream: FakeUpstream, script: Script, tmp_path: Path) -> None:
    process = gateway_process(tmp_path, upstream, 600)
    try:
        async with (
            calling(process.url, process.key, input="never ends") as call,
            httpx.AsyncClient(base_url=process.url, timeout=_SECONDS) as http,
        ):
            await call.until(b"event: response.output_item.done")
            os.kill(process.pid, signal.SIGINT)
            await is_draining(http)
            os.kill(process.pid, signal.SIGINT)
            # The budget is ten minutes.
            await exit_status(process)
        assert "Traceback" not in process.banner.read_text()
    finally:
        process.kill()
