"""The whole API, as one table."""

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import unquote

from fastapi import Depends, FastAPI, Response
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import ASGIApp
from starlette.types import Scope as Asgi

from app.api import context, conversations, health, models, responses, usage, websocket
from app.api.admin.routes import add_admin_routes
from app.api.services import Permission, Services
from app.state.policy import Scope

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
# Plain ASGI, built from the services: the framework's layers cost more than all that a call itself does here.
DIRECT: tuple[tuple[str, str, Scope, Callable[[Services, Scope], ASGIApp]], ...] = (
    ("POST", "/responses", "responses", responses.CreateResponse),
    ("POST", "/responses/compact", "responses", context.CompactContext),
    ("POST", "/responses/input_tokens", "responses", context.CountInputTokens),
)
# The same over WebSocket, which the framework's table and document have no place for.
SOCKETS: tuple[tuple[str, Scope, Callable[[Services, Scope], ASGIApp]], ...] = (
    ("/responses", "responses", websocket.ResponsesSocket),
)
# Balancers ask by HEAD, too: the server leaves the body out.
PROBES: tuple[tuple[str, str, Callable[..., Awaitable[Response]]], ...] = tuple(
    (method, path, endpoint)
    for path, endpoint in (
        ("/livez", health.livez),
        ("/health", health.livez),
        ("/healthz", health.livez),
        ("/readyz", health.readyz),
    )
    for method in ("GET", "HEAD")
)


class LiteralRoute(APIRoute):
    """A route that is matched with the path as it was sent. What stands for an id is decoded then, and nothing else."""

    def matches(self, scope: Asgi) -> tuple[Match, Asgi]:
        match, found = super().matches(scope)
        if match is not Match.NONE:
            found["path_params"] = {name: unquote(sent) for name, sent in found["path_params"].items()}
        return match, found


class DirectRoute(APIRoute):
    """A route in the framework's table and document whose calls are plain ASGI, and authenticate by themselves."""

    def __init__(self, path: str, app: ASGIApp, *, method: str) -> None:
        async def documented() -> None: ...

        documented.__doc__ = app.__doc__
        super().__init__(path, documented, methods=[method], tags=["api"], name=type(app).__name__)
        self.app = app


def add_routes(app: FastAPI, services: Services) -> Mapping[tuple[str, str], ASGIApp]:
    """Add every route; returns the direct ones, by method (of a WebSocket: WEBSOCKET) and path.

    Invariant: what is under /v1 authenticates, for a scope, as a part of its route, not by a test of its path.
    """
    app.router.route_class = LiteralRoute
    direct = {(method, f"/v1{path}"): endpoint(services, scope) for method, path, scope, endpoint in DIRECT}
    for (method, path), call in direct.items():
        app.router.routes.append(DirectRoute(path, call, method=method))
    for method, path, scope, endpoint in API:
        permission = Depends(Permission(scope))
        app.add_api_route(f"/v1{path}", endpoint, methods=[method], tags=["api"], dependencies=[permission])
    add_admin_routes(app)
    for method, path, endpoint in PROBES:
        app.add_api_route(path, endpoint, methods=[method], tags=["health"])
    sockets = {("WEBSOCKET", f"/v1{path}"): endpoint(services, scope) for path, scope, endpoint in SOCKETS}
    return {**direct, **sockets, ("OPTIONS", "*"): health.options}
