"""Serve the calls that are relayed as they came: chat completions, embeddings, completions and moderations."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

from starlette.types import Receive, Scope, Send

from app.api.request_body import connection_of, headers_of
from app.api.services import Services
from app.state import policies
from app.wire.requests.create import CreateRequest
from app.wire.requests.passthrough_request import PassthroughRequest, RelayedSurface, parse_passthrough_request
from app.wire.requests.response_in_chat import parse_chat_request


class Passthrough:
    """Relay a call."""

    surface: ClassVar[RelayedSurface]

    def __init__(self, services: Services, needed: policies.Scope) -> None:
        self._services = services
        self._needed = needed
        self._parse: Callable[[bytes, int], PassthroughRequest | CreateRequest]
        self._parse = partial(parse_passthrough_request, self.surface)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call. Raises ApiError before the first byte, for the middleware to answer."""
        services = self._services
        headers = headers_of(scope)
        caller = await services.identify(scope, headers, self._needed)
        with await services.registry.admit(caller.project_id) as admitted:
            connection = connection_of(scope)
            request = await services.body_reader.read(
                self._parse, headers, receive, admitted.bytes, connection.take_whole
            )
            serving = services.passthrough.serve(request, caller, headers, send, connection, admitted=admitted)
            # The prompt is not to be held here while the answer streams.
            del request
            await serving


class CreateChatCompletion(Passthrough):
    """Create a chat completion, streamed or whole, of which nothing is stored.

    A create call that comes in its place is made as a response, and answered as a completion.
    """

    surface = "chat"

    def __init__(self, services: Services, needed: policies.Scope) -> None:
        super().__init__(services, needed)
        self._parse = partial(parse_chat_request, is_strict=services.is_strict)


class CreateEmbeddings(Passthrough):
    """Create embeddings of texts."""

    surface = "embeddings"


class CreateCompletion(Passthrough):
    """Complete a prompt, streamed or whole, in the API before chat completions."""

    surface = "completions"


class CreateModeration(Passthrough):
    """Classify texts or images by what is harmful in them."""

    surface = "moderations"
