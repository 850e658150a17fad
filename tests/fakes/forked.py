"""Gateway processes for tests with hundreds of crashes: each is a fork of a process that has all modules loaded.

A start takes a tenth of the command's own, nearly all of which is importing; what is served is the same.
"""

import multiprocessing
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Self

from app.boot.start import start
from app.settings.gateway import load_settings
from tests.fakes.gateway import GatewayProcess

_CONTEXT = multiprocessing.get_context("forkserver")
_STOP_SECONDS = 60.0


class ForkedGateway(GatewayProcess):
    """The same as its base, started sooner."""

    _fork: BaseProcess | None = None

    @property
    def pid(self) -> int:
        assert self._fork is not None
        assert self._fork.pid is not None
        return self._fork.pid

    @property
    def has_ended(self) -> bool:
        return self._fork is None or not self._fork.is_alive()

    def launch(self, *arguments: str) -> Self:
        """Start it, and wait for nothing."""
        assert not arguments
        _CONTEXT.set_forkserver_preload([__name__, "app.boot.app_factory"])
        self.banner.write_bytes(b"")
        self._fork = _CONTEXT.Process(
            target=_serve, args=(self.port, dict(self.environment), self.log, self.banner), daemon=True
        )
        self._fork.start()
        return self

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def _end(self, number: signal.Signals) -> None:
        if self._fork is not None and self._fork.is_alive():
            self.send(number)
            self._fork.join(_STOP_SECONDS)
            assert not self._fork.is_alive()


def _serve(port: int, environment: Mapping[str, str], log: Path, banner: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for path, descriptor in ((log, 1), (banner, 2)):
        with path.open("ab") as file:
            os.dup2(file.fileno(), descriptor)
    with suppress(KeyboardInterrupt):
        start(load_settings({"port": port}))
