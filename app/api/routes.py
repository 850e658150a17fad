"""The whole API, as one table."""

from collections.abc import Awaitable, Callable

from fastapi import Depends, FastAPI, Response

from app.api import health, models, responses
from app.api.services import caller

_Table = tuple[tuple[str, str, Callable[..., Awaitable[Response]]], ...]

API: _Table = (
    ("POST", "/responses", responses.create_response),
    ("GET", "/responses", responses.refuse_upgrade),
    ("GET", "/responses/{response_id}", responses.retrieve_response),
    ("DELETE", "/responses/{response_id}", responses.delete_response),
    ("GET", "/responses/{response_id}/input_items", responses.list_input_items),
    ("GET", "/models", models.list_models),
    # Model names may hold slashes ("meta-llama/llama-4").
    ("GET", "/models/{model_id:path}", models.retrieve_model),
)
PROBES: _Table = (
    ("GET", "/livez", health.livez),
    ("GET", "/health", health.livez),
    ("GET", "/healthz", health.livez),
    ("GET", "/readyz", health.readyz),
)


def add_routes(app: FastAPI) -> None:
    """Add every route. Invariant: what is under /v1 authenticates as a part of its route, not by a test of its path."""
    for method, path, endpoint in API:
        app.add_api_route(f"/v1{path}", endpoint, methods=[method], tags=["api"], dependencies=[Depends(caller)])
    for method, path, endpoint in PROBES:
        app.add_api_route(path, endpoint, methods=[method], tags=["health"])
