"""A stop is announced, then refuses nobody who has come, lets live streams finish and ends the others properly."""

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
from tests.fakes.raw_http import RawClient
from tests.fakes.replies import Act, Reply, Step
from tests.fakes.streams import events, item, story
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = pytest.mark.live

_CALLS = (
    ("/v1/responses", b'{"model": "demo", "input": "Hello!"}'),
    ("/v1/chat/completions", b'{"model": "demo", "messages": [{"role": "user", "content": "Hello!"}]}'),
    ("/v1/embeddings", b'{"model": "demo", "input": "Hello!"}'),
)
_GRACE = 4.0
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


def gateway_process(
    folder: Path, upstream: FakeUpstream, drain_seconds: float, grace_seconds: float = 0
) -> GatewayProcess:
    environment = {
        "ANTIPHON_SHUTDOWN_GRACE_SECONDS": str(grace_seconds),
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
    assert answer.headers["connection"] == "close"
    checks: dict[str, Any] = answer.json()
    return checks


async def refuses_connections(process: GatewayProcess) -> None:
    """Wait until nobody can connect any more."""
    async with asyncio.timeout(_SECONDS):
        while True:
            try:
                async with RawClient.to(process.url):
                    await asyncio.sleep(0.05)
            except OSError:
                return


@pytest.mark.slow
async def test_sigterm_is_announced_lets_streams_finish_and_ends_the_rest(
    upstream: FakeUpstream, script: Script, tmp_path: Path
) -> None:
    process = gateway_process(tmp_path, upstream, _BUDGET, grace_seconds=_GRACE)
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

            assert (await is_draining(http))["admission"] == "draining"
            assert (await http.get("/livez")).status_code == 200
            served = await http.post("/v1/responses", json={"model": "demo", "input": "Hello!"})
            assert (served.status_code, served.headers["connection"]) == (200, "close")
            assert len(upstream.requests) == 4
            await refuses_connections(process)

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
        assert time.monotonic() - stopped_at < _GRACE + _BUDGET + 15

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


@pytest.mark.parametrize(
    "numbers",
    [(signal.SIGINT, signal.SIGINT), pytest.param((signal.SIGTERM, signal.SIGTERM), marks=pytest.mark.slow)],
)
@pytest.mark.slow
async def test_a_second_signal_ends_it_at_once(
    numbers: tuple[signal.Signals, signal.Signals], upstream: FakeUpstream, script: Script, tmp_path: Path
) -> None:
    process = gateway_process(tmp_path, upstream, 600)
    try:
        async with (
            calling(process.url, process.key, input="never ends") as call,
            httpx.AsyncClient(
                base_url=process.url, headers={"authorization": f"Bearer {process.key}"}, timeout=_SECONDS
            ) as http,
        ):
            kept = (await http.post("/v1/responses", json={"model": "demo", "input": "Hello!"})).json()["id"]
            await call.until(b"event: response.output_item.done")
            os.kill(process.pid, numbers[0])
            await refuses_connections(process)
            os.kill(process.pid, numbers[1])
            # The budget is ten minutes.
            await exit_status(process)
        assert "Traceback" not in process.banner.read_text()
        process.start()
        with process.client() as client:
            assert client.responses.retrieve(kept).status == "completed"
    finally:
        process.kill()


@pytest.mark.slow
async def test_the_grace_is_for_proxies_and_not_for_a_terminal(upstream: FakeUpstream, tmp_path: Path) -> None:
    process = gateway_process(tmp_path, upstream, 600, grace_seconds=600)
    try:
        os.kill(process.pid, signal.SIGINT)
        assert await exit_status(process) == 0
    finally:
        process.kill()


async def test_a_stop_answers_every_request_that_reaches_it(upstream: FakeUpstream, tmp_path: Path) -> None:
    process = gateway_process(tmp_path, upstream, 30, grace_seconds=0.5)
    answered = 0

    async def ask_on(path: str, body: bytes, *, keeps: bool) -> None:
        """Ask until nobody can connect any more: over a connection kept as long as it may be, or over a new one."""
        nonlocal answered
        headers = {"authorization": f"Bearer {process.key}", "content-type": "application/json"}
        while True:
            try:
                connecting = RawClient.to(process.url)
                client = await connecting.__aenter__()
            except ConnectionRefusedError:
                return
            try:
                is_kept = True
                while is_kept:
                    answer = await client.ask("POST", path, headers, body)
                    assert answer.status == 200
                    answered += 1
                    is_kept = keeps and answer.headers.get("connection") != "close"
            finally:
                await connecting.__aexit__(None, None, None)

    try:
        async with asyncio.TaskGroup() as clients:
            for path, body in _CALLS:
                for keeps in (True, True, False):
                    clients.create_task(ask_on(path, body, keeps=keeps))
            while answered < 40:
                await asyncio.sleep(0.01)
            os.kill(process.pid, signal.SIGTERM)
        assert await exit_status(process) == 0
    finally:
        process.kill()


@pytest.mark.slow
async def test_a_request_whose_head_has_begun_to_arrive_is_answered(upstream: FakeUpstream, tmp_path: Path) -> None:
    process = gateway_process(tmp_path, upstream, 30)
    try:
        async with RawClient.to(process.url) as slow, RawClient.to(process.url) as idle:
            await slow.send(b"GET /livez HTTP/1.1\r\nhost: gateway\r\n")
            os.kill(process.pid, signal.SIGTERM)
            # Nothing came on this one.
            assert await idle.rest() == b""
            await slow.send(b"\r\n")
            answer = await slow.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await exit_status(process) == 0
    finally:
        process.kill()
