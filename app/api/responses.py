"""The `responses` endpoints: take in, hand on, answer."""

import time

import orjson
from fastapi import HTTPException, Request, Response
from starlette.types import Receive, Scope, Send

from app.api.intake import check_include, check_not_streamed, headers_of, read_create_request, read_page_query
from app.api.services import Caller, Services, ServicesOf
from app.errors import InvalidRequestError, NotFoundError
from app.state.listing import input_of, page

_JSON = "application/json"


class CreateResponse:
    """Create a model response, streamed or whole."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call; the relay writes to the socket as upstream's bytes arrive.

        Raises ApiError before the first byte, for the edge to answer.
        """
        services = self._services
        headers = headers_of(scope)
        caller = await services.authenticator.identify(headers)
        await services.relay.serve(
            # In no variable here: the prompt is not to be held while the answer streams.
            await read_create_request(headers, receive, services.limits),
            caller,
            headers,
            send,
            scope["extensions"]["antiphon"]["connection"],
        )


async def retrieve_response(response_id: str, request: Request, caller: Caller, services: ServicesOf) -> Response:
    """Return a stored response as upstream finished it."""
    check_include(request)
    check_not_streamed(request)
    body = await services.responses.read_body(caller.project_id, response_id, int(time.time()))
    if body is None:
        raise _not_found(response_id)
    return Response(body, media_type=_JSON)


async def delete_response(response_id: str, caller: Caller, services: ServicesOf) -> Response:
    """Delete a stored response and its items."""
    if not await services.responses.delete(caller.project_id, response_id, int(time.time())):
        raise _not_found(response_id)
    deleted = {"id": response_id, "object": "response", "deleted": True}
    return Response(orjson.dumps(deleted), media_type=_JSON)


async def list_input_items(response_id: str, request: Request, caller: Caller, services: ServicesOf) -> Response:
    """List what went into a stored response: the turns it continues, then its own input."""
    query = read_page_query(request)
    check_include(request)
    chain = await services.responses.read_chain(caller.project_id, response_id, int(time.time()))
    if chain is None:
        raise _not_found(response_id)
    return Response(page(input_of(chain), query), media_type=_JSON)


async def refuse_upgrade(request: Request) -> Response:
    """Answer a WebSocket upgrade with 426, on which clients such as Codex go on over HTTP at once."""
    if request.headers.get("upgrade", "").lower() == "websocket":
        raise InvalidRequestError(
            "This gateway does not serve the Responses API over WebSocket. Use HTTP.",
            code="websocket_not_supported",
            status=426,
        )
    raise HTTPException(405, headers={"allow": "POST"})


def _not_found(response_id: str) -> NotFoundError:
    return NotFoundError(f"Response with id '{response_id[:512]}' not found.")
