"""Reverse proxies in front of a gateway, as docs/deployment.md sets them up: nginx, Caddy and HAProxy themselves."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.fakes.ports import free_port

_PAGE = Path(__file__).parents[2] / "docs" / "deployment.md"
_START_SECONDS = 30.0
FRONTS = ("nginx", "caddy", "haproxy")
_LANGUAGES = {"nginx": "nginx", "caddy": "caddyfile", "haproxy": "haproxy"}
# What of a documented configuration is the reader's own to fill in, and what it is here.
_LISTENERS = {
    "nginx": ("listen 80;", "listen 127.0.0.1:{port};"),
    "caddy": ("gateway.example.com {", "http://:{port} {{\n    bind 127.0.0.1"),
    "haproxy": ("bind :80", "bind 127.0.0.1:{port}"),
}
_GATEWAY = "127.0.0.1:8000"
_AROUND = {
    "nginx": (
        """daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; events {{ }}
        http {{ access_log off; client_body_temp_path {folder}/1; proxy_temp_path {folder}/2;
        fastcgi_temp_path {folder}/3; uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
        """,
        "}}\n",
    ),
    "caddy": ("{{\n admin off\n auto_https off\n}}\n", ""),
    "haproxy": ("", ""),
}
_COMMANDS = {
    "nginx": ("nginx", "-p", "{folder}", "-e", "{folder}/error.log", "-c", "{file}"),
    "caddy": ("caddy", "run", "--config", "{file}", "--adapter", "caddyfile"),
    "haproxy": ("haproxy", "-q", "-f", "{file}"),
}


def documented(front: str) -> str:
    """The one configuration of it in front of a gateway, in docs/deployment.md."""
    _, section = _PAGE.read_text().split("\n## Behind a reverse proxy\n")
    (found,) = re.findall(rf"```{_LANGUAGES[front]}\n(.*?)```", section, re.DOTALL)
    return str(found)


@contextmanager
def running_front(front: str, gateway_url: str, folder: Path) -> Iterator[str]:
    """Run it in front of this gateway; yields its URL. Skips where it is not installed."""
    if shutil.which(front) is None:
        reason = f"{front} IS NOT INSTALLED: its documented configuration is untested (apt-get install {front})"
        pytest.skip(reason)
    port = free_port()
    filled = {"folder": folder, "port": port, "file": folder / "configuration"}
    placeholder, listener = _LISTENERS[front]
    snippet = documented(front)
    assert snippet.count(placeholder) == snippet.count(_GATEWAY) == 1, snippet
    before, after = (part.format(**filled) for part in _AROUND[front])
    snippet = snippet.replace(placeholder, listener.format(**filled))
    snippet = snippet.replace(_GATEWAY, gateway_url.removeprefix("http://"))
    (folder / "configuration").write_text(f"{before}{snippet}{after}")
    environment: Mapping[str, str] = {
        "PATH": os.environ["PATH"],
        **dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(folder)),
    }
    with (folder / "output").open("wb") as output:
        command = [part.format(**filled) for part in _COMMANDS[front]]
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=folder)
    try:
        _wait(process, port, folder / "output")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(_START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, output: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, output.read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise AssertionError(f"it does not listen: {output.read_text()}")
