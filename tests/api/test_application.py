"""The framework's app, where the gateway does other than it."""

from pathlib import Path

import httpx2
import pytest

from app.boot.app_factory import create_app
from app.security.key_ring import KeyRing
from app.settings.gateway import Settings, StorageSettings


async def test_the_description_of_the_api_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app(Settings(storage=StorageSettings(data_dir=tmp_path)), KeyRing(b"secret of sixteen"))
    app.state.services.readiness.serves()
    written = 0
    describe = app.openapi

    def count() -> dict[str, object]:
        nonlocal written
        written += 1
        return describe()

    monkeypatch.setattr(app, "openapi", count)
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
        answers = [await client.get("/openapi.json") for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200}
    assert answers[0].headers["content-type"] == "application/json"
    assert answers[0].json() == answers[2].json() == describe()
    assert written == 1
