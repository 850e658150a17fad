"""What docs/keys-and-teams.md has a team type works as it stands there, in its order."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.gateway import GatewayProcess
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "keys-and-teams.md").read_text()
# What starts the gateway is done here in another way.
STARTING = ("export ", "make run")
# Not every machine that has Python has this one: `curl URL -H HEADER` is all that the guide types.
CURL = """
import sys, urllib.request
url, _, header = sys.argv[1:]
print(urllib.request.urlopen(urllib.request.Request(url, headers=dict([header.split(": ", 1)]))).read().decode())
"""


def typed() -> list[str]:
    """Every line that the guide has one type, in order."""
    blocks: list[str] = re.findall(r"^```console\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [line for line in lines if not line.startswith(STARTING)]


@pytest.fixture
async def gateway(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[GatewayProcess]:
    gateway = GatewayProcess(tmp_path, {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-upstream-shared"})
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.mark.slow
async def test_the_guide_can_be_followed_to_the_letter(gateway: GatewayProcess, tmp_path: Path) -> None:
    with gateway.client() as client:
        await asyncio.to_thread(client.responses.create, model="demo", input="Hi")
    commands = typed()
    assert len(commands) > 15
    # One shell, because a line may use what the one before it has set; it ends at the first that fails.
    script = "\n".join(["set -eu -o pipefail", *commands])
    script = script.replace(".venv/bin/antiphon", f"{sys.executable} -m app").replace(
        "http://127.0.0.1:8000", gateway.url
    )
    script = script.replace("curl ", f"{sys.executable} -c '{CURL}' ").replace("python3", sys.executable)
    script = script.replace("sk-…", "sk-upstream-second").replace("(cat data/", f"(cat {gateway.data_dir}/")
    environment = {**os.environ, **gateway._environment, "PYTHONPATH": str(ROOT)}
    done = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=250,
        check=False,
    )
    said = done.stdout.decode()
    assert done.returncode == 0, f"{said}\n{done.stderr.decode()}"
    assert "sk-upstream-second" not in said
    assert said.count("sk-aph_") == 4
