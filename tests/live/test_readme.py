"""What the README tells a newcomer to type works as it stands there."""

import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.fakes.gateway import GatewayProcess

pytestmark = pytest.mark.live

README = (Path(__file__).parents[2] / "README.md").read_text()
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(tmp_path, {}).start()
    yield gateway
    gateway.stop()


def block(language: str, containing: str) -> str:
    """The README's first code block in this language with this text in it."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return next(text for text in blocks if containing in text)


def test_the_curl_answers(gateway: GatewayProcess) -> None:
    typed = block("console", "curl").removeprefix("$ ").replace("\\\n", " ").replace(ADDRESS, gateway.url)
    command, url, *options = shlex.split(typed.replace("$(cat data/first-api-key)", gateway.key))
    assert command == "curl"
    given = list(zip(options[::2], options[1::2], strict=True))
    headers = dict(value.split(": ", 1) for flag, value in given if flag == "-H")
    (data,) = (value for flag, value in given if flag == "-d")
    with urllib.request.urlopen(urllib.request.Request(url, data.encode(), headers), timeout=60) as answer:
        assert orjson.loads(answer.read())["status"] == "completed"


def test_the_sdk_snippet_answers(gateway: GatewayProcess, tmp_path: Path) -> None:
    snippet = block("python", "OpenAI(").replace(ADDRESS, gateway.url)
    done = subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert done.stdout.decode() == "Your favourite colour is teal.\n", done.stderr.decode()
