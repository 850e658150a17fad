"""The table of routes is the whole API, and every route in it asks who is calling."""

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import httpx2
from fastapi.routing import APIRoute

from app.api import probes, routes
from app.api.admin.admin_routes import ADMIN
from app.api.application import Application
from app.api.dependencies import Permission, administrator
from app.boot.app_factory import create_app
from app.security.key_ring import KeyRing
from app.settings.gateway import Settings, StorageSettings
from app.settings.server import ServerSettings

OPEN = {"/livez", "/health", "/healthz", "/readyz"}
README = Path(__file__).parents[2] / "README.md"


def app_of(folder: Path) -> Application:
    """The app with every surface."""
    server = ServerSettings(surfaces=("chat", "embeddings", "completions", "moderations"))
    return create_app(Settings(server=server, storage=StorageSettings(data_dir=folder)), KeyRing(b"secret of sixteen"))


def test_every_route_but_the_probes_authenticates(tmp_path: Path) -> None:
    app = app_of(tmp_path)
    endpoints = [route for route in app.routes if isinstance(route, APIRoute)]
    assert len(endpoints) == len(routes.API) + len(routes.DIRECT) + len(probes.PROBES) + len(ADMIN)
    assert [getattr(route, "path", None) for route in app.routes if route not in endpoints] == [
        "/openapi.json",
        "/docs",
    ]
    for route in endpoints:
        asked = [dependency.call for dependency in route.dependant.dependencies]
        if route.path.startswith("/admin/"):
            assert administrator in asked, route.path
        elif route.path not in OPEN and not isinstance(route, routes.DirectRoute):
            permissions = [each for each in asked if isinstance(each, Permission)]
            assert len(permissions) == 1, route.path


async def test_every_direct_route_authenticates_before_it_reads(tmp_path: Path) -> None:
    app = app_of(tmp_path)
    app.state.services.readiness.serves()
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
        for method, path, *_ in routes.DIRECT:
            answer = await client.request(method, f"/v1{path}", content=b"\xff not JSON")
            assert (answer.status_code, answer.json()["error"]["type"]) == (401, "invalid_request_error"), path


async def test_every_socket_authenticates_before_it_opens(tmp_path: Path) -> None:
    app = app_of(tmp_path)
    app.state.services.readiness.serves()
    for path, *_ in routes.SOCKETS:
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: MutableMapping[str, Any], sent: list[MutableMapping[str, Any]] = sent) -> None:
            sent.append(message)

        await app({"type": "websocket", "raw_path": f"/v1{path}".encode(), "headers": []}, receive, send)
        assert [message["type"] for message in sent] == [
            "websocket.http.response.start",
            "websocket.http.response.body",
        ]
        assert sent[0]["status"] == 401, path


def test_a_direct_route_is_in_the_document_like_any_other(tmp_path: Path) -> None:
    app = app_of(tmp_path)
    documented = app.openapi()["paths"]["/v1/responses"]["post"]
    assert documented["description"] == "Create a model response, streamed or whole."
    assert documented["tags"] == ["api"]


def test_the_readme_names_every_endpoint() -> None:
    text = README.read_text()
    for method, path, *_ in (*routes.API, *routes.DIRECT):
        shown = path.replace("response_id", "id").replace("conversation_id", "id").replace("model_id:path", "id")
        assert f"{method} /v1{shown}`" in text, path
