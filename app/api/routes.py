"""The whole API, as one table."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Depends, FastAPI, Response

from app.api import health, models, responses
from app.api.services import caller

_Table = tuple[tuple[str, str, Callable[..., Awaitable[Response]]], ...]

_API: _Table = (
    ("POST", "/responses", responses.create_response),
    ("GET", "/responses", responses.refuse_upgrade),
    ("GET", "/responses/{response_id}", responses.retrieve_response),
    ("DELETE", "/responses/{response_id}", responses.delete_response),
    ("GET", "/responses/{response_id}/input_items", responses.list_input_items),
    ("GET", "/models", models.list_models),
    # Model names may hold slashes ("meta-llama/llama-4").
    ("GET", "/models/{model_id:path}", models.retrieve_model),
)
_PROBES: _Table = (
    ("GET", "/livez", health.livez),
    ("GET", "/health", health.livez),
    ("GET", "/healthz", health.livez),
    ("GET", "/readyz", health.readyz),
)


def add_routes(app: FastAPI) -> None:
    """Add every route. Invariant: what is under /v1 authenticates, by the router and not by its path."""
    api = APIRouter(prefix="/v1", dependencies=[Depends(caller)])
    for method, path, endpoint in _API:
        api.add_api_route(path, endpoint, methods=[method], tags=["api"])
    probes = APIRouter()
    for method, path, endpoint in _PROBES:
        probes.add_api_route(path, endpoint, methods=[method], tags=["health"])
    app.include_router(api)
    app.include_router(probes)
