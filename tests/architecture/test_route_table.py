"""The table of routes is the whole API, and every route in it asks who is calling."""

from pathlib import Path

from fastapi.routing import APIRoute

from app.api import routes
from app.api.services import caller
from app.main import create_app
from app.settings import Settings, StorageSettings

OPEN = {"/livez", "/health", "/healthz", "/readyz"}
README = Path(__file__).parents[2] / "README.md"


def test_every_route_but_the_probes_authenticates(tmp_path: Path) -> None:
    app = create_app(Settings(storage=StorageSettings(data_dir=tmp_path)), b"secret of sixteen")
    endpoints = [route for route in app.routes if isinstance(route, APIRoute)]
    assert len(endpoints) == len(routes.API) + len(routes.PROBES)
    assert [getattr(route, "path", None) for route in app.routes if route not in endpoints] == ["/openapi.json"]
    for route in endpoints:
        if route.path not in OPEN:
            assert caller in [dependency.call for dependency in route.dependant.dependencies], route.path


def test_the_readme_names_every_endpoint() -> None:
    text = README.read_text()
    for method, path, _ in routes.API:
        if path == "/responses" and method == "GET":
            continue  # the answer to a WebSocket upgrade, not an endpoint to call
        shown = path.replace("response_id", "id").replace("model_id:path", "id")
        assert f"{method} /v1{shown}`" in text, path
