"""SIGHUP: another configuration takes effect without a restart or a stream cut short; a bad one changes nothing."""

import asyncio
import os
import re
import signal
import urllib.request
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pytest

from tests.fakes.gateway import GatewayProcess
from tests.fakes.replies import Reply
from tests.fakes.streams import story
from tests.fakes.upstream import FakeUpstream, Recorded

pytestmark = pytest.mark.live

SECONDS = 60.0


class Rig:
    """A gateway process with a config file, and an upstream that notes the keys that it is shown."""

    def __init__(self, folder: Path, upstream: FakeUpstream, environment: dict[str, str]) -> None:
        self.upstream = upstream
        self.config = folder / "antiphon.toml"
        self.key = folder / "key"
        self.go = asyncio.Event()
        self.gateway = GatewayProcess(folder, {"ANTIPHON_CONFIG": str(self.config), **environment})
        upstream.respond = self._respond
        self.configure()

    def configure(self, more: str = "", key: str = "sk-canary-old") -> None:
        self.key.write_text(key)
        self.config.write_text(
            f'[[upstream]]\nname = "fake"\nbase_url = "{self.upstream.url}"\nkeys = ["file:{self.key}"]\n{more}'
        )

    def reload(self) -> None:
        os.kill(self.gateway.pid, signal.SIGHUP)

    def said(self, event: str) -> list[dict[str, object]]:
        lines = self.gateway.log.read_bytes().splitlines()
        return [line for line in map(orjson.loads, lines) if line["event"] == event]

    async def until_said(self, event: str, times: int = 1) -> list[dict[str, object]]:
        async with asyncio.timeout(SECONDS):
            while len(said := self.said(event)) < times:
                await asyncio.sleep(0.02)
        return said

    async def until_reloadable(self, workers: int) -> None:
        """So many of its processes catch SIGHUP: one that does not yet would be ended by it."""
        children = Path(f"/proc/{self.gateway.pid}/task/{self.gateway.pid}/children")
        async with asyncio.timeout(SECONDS):
            while sum(map(_catches_hangup, children.read_text().split())) < workers:
                await asyncio.sleep(0.02)

    async def keys_used(self, calls: int = 1) -> set[str]:
        """The keys that upstream is shown by so many calls."""
        before = len(self.upstream.requests)
        with ThreadPoolExecutor(4) as threads:
            loop = asyncio.get_running_loop()
            await asyncio.gather(*(loop.run_in_executor(threads, self._call) for _ in range(calls)))
        return {request.headers["authorization"][7:] for request in self.upstream.requests[before:]}

    def _call(self) -> None:
        with self.gateway.client() as client:
            client.responses.create(model="demo", input="Hello!")

    def _respond(self, request: Recorded) -> Reply | None:
        if b"slowly" in request.body:
            first, *rest = story("resp_slow")
            return Reply.held([first], self.go, rest)
        return None


def _catches_hangup(pid: str) -> bool:
    caught = re.search(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGHUP - 1) & 1)


@pytest.fixture
async def rig(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path, upstream, {})
    await asyncio.to_thread(rig.gateway.start)
    yield rig
    await asyncio.to_thread(rig.gateway.stop)


async def test_a_new_key_takes_effect_and_a_stream_goes_on(rig: Rig) -> None:
    assert await rig.keys_used() == {"sk-canary-old"}

    def stream() -> list[str]:
        with rig.gateway.client() as client:
            return [event.type for event in client.responses.create(model="demo", input="slowly", stream=True)]

    streaming = asyncio.create_task(asyncio.to_thread(stream))
    await rig.upstream.request(1)
    rig.configure(key="sk-canary-new")
    rig.reload()
    await rig.until_said("the settings were read again")
    assert await rig.keys_used() == {"sk-canary-new"}
    rig.go.set()
    assert (await streaming)[-1] == "response.completed"
    assert "sk-canary" not in rig.gateway.log.read_text()


async def test_the_settings_in_force_are_shown_with_their_source(rig: Rig) -> None:
    def shown() -> dict[str, object]:
        asked = urllib.request.Request(
            f"{rig.gateway.url}/admin/v1/settings", headers={"authorization": f"Bearer {rig.gateway.admin_key}"}
        )
        with urllib.request.urlopen(asked, timeout=SECONDS) as answer:
            return {each["name"]: (each["value"], each["source"]) for each in orjson.loads(answer.read())["data"]}

    source = f"{rig.config}: [[upstream]] #1"
    before = await asyncio.to_thread(shown)
    assert before["upstreams.0.models"] == (["*"], "default")
    rig.configure('models = ["demo*"]\n[server]\nmax_body_bytes = 1000\n')
    rig.reload()
    await rig.until_said("the settings were read again")
    after = await asyncio.to_thread(shown)
    # What needs a restart is shown as it is until then.
    assert {name for name in after if after[name] != before[name]} == {"upstreams.0.models"}
    assert after["upstreams.0.models"] == (["demo*"], source)
    rig.configure("models = []\n")
    rig.reload()
    await rig.until_said("the settings were not read again: those before stay in force")
    assert await asyncio.to_thread(shown) == after


@pytest.mark.slow
async def test_a_file_with_mistakes_changes_nothing_and_every_one_is_named(rig: Rig) -> None:
    rig.configure('colour = "red"\n[relay]\nidle_timeout_seconds = -1\n', key="sk-canary-new")
    rig.reload()
    await rig.until_said("the settings were not read again: those before stay in force")
    problems = [str(line["problem"]) for line in rig.said("the settings have a mistake")]
    assert len(problems) == 2
    assert any("colour" in problem for problem in problems)
    assert any("idle_timeout_seconds" in problem for problem in problems)
    assert await rig.keys_used() == {"sk-canary-old"}
    # The next one is judged by itself.
    rig.configure(key="sk-canary-new")
    rig.reload()
    await rig.until_said("the settings were read again")
    assert await rig.keys_used() == {"sk-canary-new"}


async def test_what_needs_a_restart_is_said(rig: Rig) -> None:
    rig.configure("[server]\nmax_body_bytes = 1000\n[storage]\nretention_days = 3\n")
    rig.reload()
    await rig.until_said("the settings were read again")
    (line,) = rig.said("these settings are different, and take effect at the next start")
    assert line["tables"] == ["server", "storage"]


@pytest.mark.slow
async def test_every_worker_reads_again(tmp_path: Path, upstream: FakeUpstream, empty_postgresql_url: str) -> None:
    rig = Rig(tmp_path, upstream, {"DATABASE_URL": empty_postgresql_url})
    await asyncio.to_thread(rig.gateway.start, "--workers", "2")
    try:
        await rig.until_reloadable(2)
        assert await rig.keys_used(16) == {"sk-canary-old"}
        rig.configure(key="sk-canary-new")
        rig.reload()
        await rig.until_said("the settings were read again", times=2)
        assert await rig.keys_used(16) == {"sk-canary-new"}
    finally:
        await asyncio.to_thread(rig.gateway.stop)
