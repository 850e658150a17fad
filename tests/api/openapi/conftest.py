"""A gateway that is built and not started: its description needs no more."""

from typing import Any

import pytest

from app.api.application import Application
from app.boot.app_factory import create_app
from app.security.key_ring import KeyRing
from app.settings.gateway import Settings, StorageSettings
from app.settings.server import ServerSettings


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Application:
    server = ServerSettings(surfaces=("chat", "embeddings", "completions", "moderations"))
    settings = Settings(server=server, storage=StorageSettings(data_dir=tmp_path_factory.mktemp("described")))
    app = create_app(settings, KeyRing(b"secret of sixteen"))
    app.state.services.readiness.serves()
    return app


@pytest.fixture(scope="session")
def told(gateway: Application) -> dict[str, Any]:
    return gateway.openapi()
