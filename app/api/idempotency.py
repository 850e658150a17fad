"""The `Idempotency-Key` of a request: taken in, and handed on with what its body comes to."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from app.api.intake import headers_of
from app.api.services import Services
from app.byte_budget import Reservation
from app.errors import InvalidRequestError
from app.relay.idempotency import Ordered
from app.relay.recorded_answer import RecordedAnswer
from app.state.idempotency import Fingerprint, KeyedRequest
from app.state.records import ApiKey

T = TypeVar("T")

KEY = "idempotency-key"
"""The header's name."""

_LONGEST_KEY = 255


def fingerprint(scope: Scope, headers: Mapping[str, str]) -> Fingerprint:
    """That of this request, which has a key. Raises InvalidRequestError for a key that is empty or too long."""
    key = headers[KEY]
    if not 0 < len(key) <= _LONGEST_KEY:
        raise InvalidRequestError(
            f"Invalid 'Idempotency-Key' header: expected 1 to {_LONGEST_KEY} characters, but got {len(key)} instead.",
            code="invalid_idempotency_key",
        )
    return Fingerprint(key, b"%b?%b" % (scope["path"].encode(), scope["query_string"]))


class KeyedAnswer(Response):
    """The answer of a call that is made once, as a response of the framework's."""

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
        connection = scope["extensions"]["antiphon"]["connection"]

        async def make(record: RecordedAnswer, _: Ordered) -> str:
            answer, object_id = await self._make()
            await answer(scope, receive, record.send)
            return object_id

        with await self._services.registry.admit(self._caller.project_id) as place:
            await self._services.idempotency.serve(
                self._keyed, make, send, connection, place=place, metered=None, keeps=True
            )


async def answer_once(  # noqa: PLR0917
    request: Request,
    services: Services,
    caller: ApiKey,
    held: Reservation,
    parse: Callable[[bytes, int], T],
    make: Callable[[T], Awaitable[tuple[Response, str]]],
) -> Response:
    """Answer this body by `make`, which returns the id of what it shows, too; once where the request has a key."""
    headers = headers_of(request.scope)
    if KEY not in headers:
        return (await make(await services.intake.read(parse, headers, request.receive, held)))[0]
    hashed = fingerprint(request.scope, headers)
    given = await services.intake.read(hashed.of(parse), headers, request.receive, held)
    return KeyedAnswer(services, caller, hashed.request(caller.project_id, caller.id), partial(make, given))
