import asyncio
import base64
import sys
from pathlib import Path

import orjson

from app.upstream.transport import Transport
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream
from tests.upstream.rig import rig, upstream_settings

DEMO = b'{"model":"demo","input":"hi","stream":true,"store":false}'


async def test_it_answers_as_the_demo_model_by_default(upstream: FakeUpstream, transport: Transport) -> None:
    assert b"event: response.completed\n" in await rig(transport, upstream_settings(upstream.url)).read(DEMO)


async def test_a_callable_may_wait_or_leave_the_answer_to_the_demo_model(
    upstream: FakeUpstream, transport: Transport
) -> None:
    async def later() -> Reply:
        await asyncio.sleep(0)
        return Reply.json(200, "later")

    one = rig(transport, upstream_settings(upstream.url))
    upstream.respond = lambda _: later()
    assert await one.read() == b'"later"'
    upstream.respond = lambda _: None
    assert b"response.completed" in await one.read(DEMO)
    assert upstream.requests[1].json["model"] == "demo"


async def test_it_runs_as_a_process_of_its_own_and_logs_what_it_received(tmp_path: Path, transport: Transport) -> None:
    log = tmp_path / "requests.jsonl"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fakes.upstream", "--port", "0", "--log", str(log)),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        url = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()
        assert b"response.completed" in await rig(transport, upstream_settings(url)).read(DEMO)
    finally:
        process.terminate()
        await process.wait()
    (line,) = log.read_bytes().splitlines()
    request = orjson.loads(line)
    assert (request["method"], request["path"]) == ("POST", "/v1/responses")
    assert base64.b64decode(request["body"]) == DEMO
