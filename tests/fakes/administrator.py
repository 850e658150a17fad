"""A gateway in this loop without a socket, and an administrator who asks it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from pydantic import SecretStr

from app.boot.app_factory import create_app
from app.security.key_ring import KeyRing
from app.settings.gateway import RelaySettings, Settings, StorageSettings
from app.settings.server import ServerSettings
from app.settings.upstreams import UpstreamSettings
from tests.fakes.described import Described

MASTER_KEY = "the master key of these tests"
SECRET = b"a secret of sixteen characters and more"


class Administrator:
    """Calls as the master key's holder, or with another key. An answer of another status than the expected fails."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client

    async def ask(
        self, method: str, path: str, body: Any = None, *, status: int = 200, key: str = MASTER_KEY
    ) -> dict[str, Any]:
        answer = await self.answer(method, path, body, key=key)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/json"
        found: dict[str, Any] = answer.json()
        return found

    async def answer(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = MASTER_KEY,
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        sent = {**(headers or {}), **({"authorization": f"Bearer {key}"} if key else {})}
        return await self.client.request(method, f"/admin/v1{path}", json=body, headers=sent)

    async def refused(
        self, method: str, path: str, body: Any = None, *, status: int = 400, key: str = MASTER_KEY
    ) -> str:
        """The `param` of the refusal, which is in OpenAI's shape; without one, its code."""
        found = await self.ask(method, path, body, status=status, key=key)
        error = found.pop("error")
        assert found == {}
        assert error.keys() == {"message", "type", "param", "code"}
        assert error["message"]
        return str(error["param"] or error["code"])

    async def project(self, name: str = "team", **members: Any) -> dict[str, Any]:
        return await self.ask("POST", "/projects", {"name": name, **members}, status=201)

    async def key(self, project: Mapping[str, Any], name: str = "laptop", **members: Any) -> dict[str, Any]:
        return await self.ask("POST", "/keys", {"project_id": project["id"], "name": name, **members}, status=201)


@asynccontextmanager
async def administering(
    database_url: str,
    upstreams: tuple[UpstreamSettings, ...] = (),
    relay: Mapping[str, Any] | None = None,
) -> AsyncIterator[Administrator]:
    """An administrator of a gateway on this migrated database."""
    settings = Settings(
        server=ServerSettings(admin_key=SecretStr(MASTER_KEY)),
        # A busy machine is slow to commit.
        storage=StorageSettings(database_url=SecretStr(database_url), commit_timeout_seconds=30),
        relay=RelaySettings(**(relay or {})),
        upstreams=upstreams,
    )
    app = create_app(settings, KeyRing(SECRET))
    described = Described(app)
    transport = httpx2.ASGITransport(described)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client,
    ):
        await app.open()
        yield Administrator(client)
    described.check()
