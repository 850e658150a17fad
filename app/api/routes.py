"""Declare the whole API as one table, and add its routes to the app."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import unquote

from fastapi import APIRouter, Depends, FastAPI, Response
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp
from starlette.types import Scope as Asgi

from app.api import probes
from app.api.admin.admin_routes import add_admin_routes
from app.api.dependencies import Permission
from app.api.services import Services
from app.api.v1 import compact_and_count, conversations, models, passthrough, responses, usage, websocket
from app.settings.upstreams import SURFACES
from app.state.policies import Scope

# Method, path below /v1, the scope that a key needs for it, endpoint.
API: tuple[tuple[str, str, Scope, Callable[..., Awaitable[Response]]], ...] = (
    ("GET", "/responses/{response_id}", "responses", responses.retrieve_response),
    ("DELETE", "/responses/{response_id}", "responses", responses.delete_response),
    ("POST", "/responses/{response_id}/cancel", "responses", responses.cancel_response),
    ("GET", "/responses/{response_id}/input_items", "responses", responses.list_input_items),
    ("POST", "/conversations", "conversations", conversations.create_conversation),
    ("GET", "/conversations/{conversation_id}", "conversations", conversations.retrieve_conversation),
    ("POST", "/conversations/{conversation_id}", "conversations", conversations.update_conversation),
    ("DELETE", "/conversations/{conversation_id}", "conversations", conversations.delete_conversation),
    ("POST", "/conversations/{conversation_id}/items", "conversations", conversations.create_items),
    ("GET", "/conversations/{conversation_id}/items", "conversations", conversations.list_items),
    ("GET", "/conversations/{conversation_id}/items/{item_id}", "conversations", conversations.retrieve_item),
    ("DELETE", "/conversations/{conversation_id}/items/{item_id}", "conversations", conversations.delete_item),
    ("GET", "/models", "models", models.list_models),
    # Model names may hold slashes ("meta-llama/llama-4").
    ("GET", "/models/{model_id:path}", "models", models.retrieve_model),
    ("GET", "/usage", "usage", usage.show_usage),
)
# Plain ASGI, built from the services: FastAPI's layers would cost more than the call itself.
DIRECT: tuple[tuple[str, str, Scope, Callable[[Services, Scope], ASGIApp]], ...] = (
    ("POST", "/responses", "responses", responses.CreateResponse),
    ("POST", "/responses/compact", "responses", compact_and_count.CompactContext),
    ("POST", "/responses/input_tokens", "responses", compact_and_count.CountInputTokens),
    ("POST", SURFACES["chat"], "chat", passthrough.CreateChatCompletion),
    ("POST", SURFACES["embeddings"], "embeddings", passthrough.CreateEmbeddings),
    ("POST", SURFACES["completions"], "completions", passthrough.CreateCompletion),
    ("POST", SURFACES["moderations"], "moderations", passthrough.CreateModeration),
)
# WebSocket endpoints, which FastAPI's table and document have no place for.
SOCKETS: tuple[tuple[str, Scope, Callable[[Services, Scope], ASGIApp]], ...] = (
    ("/responses", "responses", websocket.ResponsesWebSocket),
)


class LiteralRoute(APIRoute):
    """Match a route with the path as sent, and decode only the ids in it."""

    def matches(self, scope: Asgi) -> tuple[Match, Asgi]:
        match, found = super().matches(scope)
        if match is not Match.NONE:
            found["path_params"] = {name: unquote(sent) for name, sent in found["path_params"].items()}
        return match, found


class DirectRoute(APIRoute):
    """List a plain ASGI endpoint in FastAPI's table and document; the endpoint authenticates by itself."""

    def __init__(self, path: str, app: ASGIApp, *, method: str) -> None:
        async def documented() -> None: ...

        documented.__doc__ = app.__doc__
        super().__init__(path, documented, methods=[method], tags=["api"], name=type(app).__name__)
        self.app = app


def add_routes(app: FastAPI, services: Services) -> Mapping[tuple[str, str], ASGIApp]:
    """Add the routes of what is served; returns the direct ones, by method (of a WebSocket: WEBSOCKET) and path.

    Invariant: every route under /v1 authenticates for a scope as a part of itself, not by a test of its path.
    """
    served = {"responses", *services.limits.surfaces}
    direct = {
        (method, f"/v1{path}"): endpoint(services, scope) for method, path, scope, endpoint in DIRECT if scope in served
    }
    for (method, path), call in direct.items():
        app.router.routes.append(DirectRoute(path, call, method=method))
    app.router.routes.extend(framework_routes())
    sockets = {("WEBSOCKET", f"/v1{path}"): endpoint(services, scope) for path, scope, endpoint in SOCKETS}
    return {**direct, **sockets, ("OPTIONS", "*"): probes.options}


def framework_routes() -> Sequence[BaseRoute]:
    """Make FastAPI's routes; each finds the services by the app of its request, so that any app may have them."""
    router = APIRouter(route_class=LiteralRoute)
    for method, path, scope, endpoint in API:
        permission = Depends(Permission(scope))
        router.add_api_route(f"/v1{path}", endpoint, methods=[method], tags=["api"], dependencies=[permission])
    add_admin_routes(router)
    for method, path, endpoint in probes.PROBES:
        router.add_api_route(path, endpoint, methods=[method], tags=["health"])
    return router.routes
