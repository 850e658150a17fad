"""Gateways for the live tests: the real app on a real socket, in this loop or as a process that can be killed."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self, cast

import uvicorn
from fastapi import FastAPI
from openai import AsyncOpenAI, OpenAI
from pydantic import SecretStr

from app.boot.app_factory import create_app
from app.boot.installation import open_installation
from app.security.key_ring import KeyRing
from app.server.listener import listen
from app.server.run import configuration
from app.settings.background import BackgroundSettings
from app.settings.gateway import RelaySettings, Settings, StorageSettings
from app.settings.limits import LimitsSettings
from app.settings.server import AccessSettings, MemorySettings, ServerSettings
from app.settings.upstreams import KeySettings, UpstreamSettings
from app.storage.engine.database import Database
from tests.fakes.described import Described
from tests.fakes.ports import free_port

SECRET = b"a secret of sixteen characters and more"
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
# A busy machine is slow to commit; a test of that time sets its own.
_PATIENT: Mapping[str, Any] = {"commit_timeout_seconds": 30}


def upstream_settings(url: str, *keys: str, name: str = "fake", **options: Any) -> UpstreamSettings:
    """Settings for an upstream at this base URL."""
    return UpstreamSettings(
        name=name, base_url=url, keys=tuple(KeySettings(secret=SecretStr(key)) for key in keys), **options
    )


@dataclass(frozen=True)
class LiveGateway:
    """A gateway in this event loop. `key` belongs to the project `default`, `other_key` to another."""

    url: str
    key: str
    other_key: str
    app: FastAPI
    settings: Settings
    described: Described | None = None

    @property
    def database(self) -> Database:
        database: Database = self.app.state.services.health._database
        return database

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def client(self, key: str | None = None, **options: Any) -> AsyncOpenAI:
        options.setdefault("max_retries", 0)
        return AsyncOpenAI(base_url=self.base_url, api_key=key or self.key, **options)

    def headers(self, key: str | None = None) -> dict[str, str]:
        return {"authorization": f"Bearer {key or self.key}", "content-type": "application/json"}


@asynccontextmanager
async def running_gateway(
    database_url: str,
    upstreams: Sequence[UpstreamSettings] = (),
    *,
    server: Mapping[str, Any] | None = None,
    access: Mapping[str, Any] | None = None,
    storage: Mapping[str, Any] | None = None,
    relay: Mapping[str, Any] | None = None,
    background: Mapping[str, Any] | None = None,
    memory: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
    keys_of: LiveGateway | None = None,
) -> AsyncIterator[LiveGateway]:
    """Serve over a loopback socket from this loop, on a migrated database. No upstreams means the demo model.

    One on the database of another has `keys_of` that.
    """
    settings = Settings(
        server=ServerSettings(port=0, drain_seconds=5, **(server or {})),
        access=AccessSettings(**(access or {})),
        storage=StorageSettings(database_url=SecretStr(database_url), **{**_PATIENT, **(storage or {})}),
        relay=RelaySettings(**(relay or {})),
        background=BackgroundSettings(**(background or {})),
        memory=MemorySettings(**(memory or {})),
        limits=LimitsSettings(**(limits or {})),
        upstreams=tuple(upstreams),
    )
    if keys_of is None:
        # What is set up here has its time, whatever the gateway's is.
        patient = settings.storage.model_copy(update=_PATIENT)
        async with open_installation(patient, KeyRing(SECRET)) as installation:
            key = await installation.create_key("live", await installation.create_project("default"))
            other_key = await installation.create_key("other", await installation.create_project("other"))
    else:
        key, other_key = keys_of.key, keys_of.other_key
    app = create_app(settings, KeyRing(SECRET))
    described = Described(app)
    listener = listen(settings.server)
    serving = uvicorn.Server(configuration(cast("FastAPI", described), settings.server))
    task = asyncio.create_task(serving._serve([listener]))
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not serving.started:
                assert not task.done(), task
                await asyncio.sleep(0.01)
            await app.open()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        yield LiveGateway(url, key, other_key, app, settings, described)
    finally:
        serving.should_exit = True
        async with asyncio.timeout(_STOP_SECONDS):
            await task
        listener.close()
    described.check()


class GatewayProcess:
    """`antiphon serve` as an operator runs it. `start` again after `kill` to see what survived.

    `log` holds its standard output (the JSON lines), `banner` its standard error.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], port: int = 0) -> None:
        self.data_dir = folder / "data"
        self.log = folder / "gateway.log"
        self.banner = folder / "gateway.err"
        self.url = ""
        # It keeps its port over restarts, while it is down, too.
        self._port = port or free_port()
        self._environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("ANTIPHON_", "OPENAI_", "DATABASE_URL"))
            },
            "ANTIPHON_DATA_DIR": str(self.data_dir),
            "ANTIPHON_SECRET_KEY": SECRET.decode(),
            "ANTIPHON_SHUTDOWN_GRACE_SECONDS": "0",
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> Mapping[str, str]:
        """All that it is started with."""
        return self._environment

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    @property
    def key(self) -> str:
        """The first API key, as the first start saved it."""
        return (self.data_dir / "first-api-key").read_text().strip()

    @property
    def admin_key(self) -> str:
        """The first admin key, idem."""
        return (self.data_dir / "first-admin-key").read_text().strip()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it is not running."""
        return self._process is None or self._process.poll() is not None

    def start(self, *arguments: str) -> Self:
        """Start it and wait until it is ready."""
        self.launch(*arguments)
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            assert not self.has_ended, self.banner.read_text()
            if found := re.search(r"serves +(http://[^/\s]+)/v1", self.banner.read_text()):
                self.url = found[1]
                self._port = int(self.url.rpartition(":")[2])
                if self._answers():
                    return self
            time.sleep(0.02)
        raise AssertionError(f"not ready: {self.banner.read_text()}")

    def launch(self, *arguments: str) -> Self:
        """Start it, and wait for nothing."""
        with self.log.open("ab") as log, self.banner.open("wb") as banner:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app", "serve", "--port", str(self._port), *arguments],
                stdout=log,
                stderr=banner,
                env=self._environment,
            )
        return self

    def exit_status(self) -> int:
        """Wait for its end."""
        assert self._process is not None
        return self._process.wait(timeout=_STOP_SECONDS)

    def run(self, *arguments: str) -> str:
        """Run another verb of the command in the same environment; returns its standard output."""
        command = [sys.executable, "-m", "app", *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def client(self, key: str | None = None, **options: Any) -> OpenAI:
        options.setdefault("max_retries", 0)
        return OpenAI(base_url=f"{self.url}/v1", api_key=key or self.key, **options)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as an operator does."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(timeout=_STOP_SECONDS)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
                return bool(answer.status == HTTPStatus.OK)
        except OSError:
            return False
