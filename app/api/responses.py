"""The `responses` endpoints: take in, hand on, answer."""

import time
from collections.abc import Awaitable, Callable
from functools import partial

import orjson
from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from app.api.answers import JsonAnswer, for_list, list_answer
from app.api.intake import headers_of
from app.api.queries import check_include, is_beta, read_page_query, read_stream_query
from app.api.services import Caller, Held, Services, ServicesOf
from app.relay.background import not_found
from app.relay.client import Connection
from app.state import policy
from app.state.listing import input_of, page
from app.wire.requests import parse_create_request

_JSON = "application/json"


class CreateResponse:
    """Create a model response, streamed or whole."""

    def __init__(self, services: Services, needed: policy.Scope) -> None:
        self._services = services
        self._needed = needed
        self._parse = partial(parse_create_request, is_strict=services.is_strict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call; the relay writes to the socket as upstream's bytes arrive.

        Raises ApiError before the first byte, for the edge to answer.
        """
        services = self._services
        headers = headers_of(scope)
        caller = await services.identify(scope, headers, self._needed)
        with await services.registry.admit(caller.project_id) as place:
            connection = scope["extensions"]["antiphon"]["connection"]
            request = await services.intake.read(self._parse, headers, receive, place.bytes, connection.take_whole)
            request.is_beta = is_beta(scope)
            server = services.background if request.background else services.relay
            serving = server.serve(request, caller, headers, send, connection, place=place)
            # The prompt is not to be held here while the answer streams.
            del request
            await serving


class EventStream(Response):
    """What a run in the background says, as it says it."""

    def __init__(self, follow: Callable[[Send, Connection], Awaitable[None]]) -> None:
        super().__init__()
        self._follow = follow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await self._follow(send, scope["extensions"]["antiphon"]["connection"])


async def retrieve_response(
    response_id: str, request: Request, caller: Caller, services: ServicesOf, held: Held
) -> Response:
    """Return a response as it stands, or stream what it says after some event."""
    check_include(request, services.is_strict)
    after = read_stream_query(request)
    if after is not None:
        key = await services.background.find_log(caller.project_id, response_id, held.add)
        return EventStream(partial(services.background.follow, caller, key, after))
    body = await services.archive.read_body(caller.project_id, response_id, held.add)
    if body is None:
        raise not_found(response_id)
    return JsonAnswer(body)


async def cancel_response(response_id: str, caller: Caller, services: ServicesOf, held: Held) -> Response:
    """End a response in the background where it is, and return it."""
    return JsonAnswer(await services.background.cancel(caller.project_id, response_id, held.add))


async def delete_response(response_id: str, caller: Caller, services: ServicesOf) -> Response:
    """Delete a stored response and its items."""
    if not await services.archive.delete(caller.project_id, response_id):
        raise not_found(response_id)
    deleted = {"id": response_id, "object": "response.deleted", "deleted": True}
    return Response(orjson.dumps(deleted), media_type=_JSON)


async def list_input_items(
    response_id: str, request: Request, caller: Caller, services: ServicesOf, held: Held
) -> Response:
    """List what goes into a stored response, finished or not: the turns it continues, then its own input."""
    query = read_page_query(request)
    check_include(request, services.is_strict)
    read = partial(services.responses.read_chain, caller.project_id, response_id, int(time.time()), for_list(held))
    chain = await read() or await services.background.read_input(caller, response_id, held)
    if chain is None and (chain := await read()) is None:
        # Nor has it ended between the two.
        raise not_found(response_id)
    return await list_answer(lambda: page(input_of(chain), query), chain.size, services.offload, held)
