"""Read the `Idempotency-Key` of a request, and answer a call that has one once."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from app.api.request_body import connection_of, headers_of
from app.api.services import Services
from app.errors import InvalidRequestError
from app.relay.idempotency.keyed_calls import OnQueued
from app.relay.idempotency.recorded_answer import RecordedAnswer
from app.runtime.byte_budget import Reservation
from app.state.idempotency import Fingerprint, KeyedRequest
from app.state.records import ApiKey

T = TypeVar("T")

KEY = "idempotency-key"

_LONGEST_KEY = 255


def fingerprint(scope: Scope, headers: Mapping[str, str]) -> Fingerprint:
    """Make the fingerprint of a request with a key. Raises InvalidRequestError for an empty or too long key."""
    key = headers[KEY]
    if not 0 < len(key) <= _LONGEST_KEY:
        raise InvalidRequestError(
            f"Invalid 'Idempotency-Key' header: expected 1 to {_LONGEST_KEY} characters, but got {len(key)} instead.",
            code="invalid_idempotency_key",
        )
    return Fingerprint(key, b"%b?%b" % (scope["path"].encode(), scope["query_string"]))


class KeyedAnswer(Response):
    """Send the answer of a keyed call as a FastAPI response: the recorded one, or a new one that is recorded."""

    def __init__(
        self,
        services: Services,
        caller: ApiKey,
        keyed: KeyedRequest,
        make: Callable[[], Awaitable[tuple[Response, str]]],
    ) -> None:
        super().__init__()
        self._services = services
        self._caller = caller
        self._keyed = keyed
        self._make = make

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = connection_of(scope)

        async def make(record: RecordedAnswer, _: OnQueued) -> str:
            answer, object_id = await self._make()
            await answer(scope, receive, record.send)
            return object_id

        with await self._services.registry.admit(self._caller.project_id) as admitted:
            await self._services.idempotency.serve(
                self._keyed, make, send, connection, admitted=admitted, metered=None, keeps=True
            )


async def answer_once(  # noqa: PLR0917
    request: Request,
    services: Services,
    caller: ApiKey,
    held: Reservation,
    parse: Callable[[bytes, int], T],
    make: Callable[[T], Awaitable[tuple[Response, str]]],
) -> Response:
    """Answer a body by `make`, which returns the answer and its object's id; once if the request has a key."""
    headers = headers_of(request.scope)
    if KEY not in headers:
        return (await make(await services.body_reader.read(parse, headers, request.receive, held)))[0]
    hashed = fingerprint(request.scope, headers)
    given = await services.body_reader.read(hashed.of(parse), headers, request.receive, held)
    return KeyedAnswer(services, caller, hashed.request(caller.project_id, caller.id), partial(make, given))
