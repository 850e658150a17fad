"""What a client orders in the background: as a row keeps it, and as the call that is made of it again."""

from collections.abc import Mapping
from dataclasses import replace

import orjson

from app.errors import AuthenticationError
from app.ids import new_id
from app.offload import Offload
from app.relay.exchange import OpenTurn
from app.relay.memory import Memory
from app.sealing import Sealer, SealError
from app.state.compaction import SEAL
from app.state.records import ApiKey
from app.state.runs import Order, Page, Run
from app.upstream.headers import FROM_CLIENT
from app.wire import events, response
from app.wire.body import Json, is_large, join_object, members
from app.wire.requests import CreateRequest, parse_create_request, structurally
from app.wire.tools import TOOL_LISTS, ToolSecrets

# What means something to this gateway alone, which asks upstream for an ordinary stream.
_OURS = ("background", "background_options")
_SEAL = SEAL.encode()
# What a turn is told of by the response object of its order.
_TOLD = ("conversation", "model", "previous_response_id")
FIRST_NUMBER = 2
"""The number of the first event after those that every log begins with."""


def order_of(request: CreateRequest, caller: ApiKey, headers: Mapping[str, str], sealer: Sealer) -> Order:
    """The order that this request is, under an id of its own. `headers` are the client's, by lower-case name.

    What has tools that authenticate waits sealed: the row may be read by whoever reads the database.
    """
    body = join_object(request.members)
    return Order(
        id=new_id("resp"),
        project_id=caller.project_id,
        api_key_id=caller.id,
        is_stored=request.store,
        is_streamed=request.stream,
        headers={name: headers[name] for name in FROM_CLIENT if name in headers},
        request=sealer.seal(caller.project_id, body).encode() if _may_have_secrets(request, body) else body,
        is_beta=request.is_beta,
        model=request.model,
        conversation_id=request.conversation_id if request.store else None,
    )


def queued(order: Order, request: CreateRequest) -> tuple[bytes, Page | None]:
    """The response object of an order that nobody has begun, and its log until then, if it has one."""
    made = response.read(response.unannounced(request.fields))
    assert made is not None  # noqa: S101 - it is one of ours
    body = made.as_asked(
        store=order.is_stored,
        previous_response_id=request.previous_response_id,
        conversation_id=request.conversation_id,
        background=True,
        background_id=order.id,
    )
    body = response.ended(body, "queued", [])
    if not order.is_streamed:
        return body, None
    frames = [events.of(kind, body, number) for number, kind in enumerate(("response.created", "response.queued"))]
    return body, Page(0, FIRST_NUMBER - 1, b"".join(frames))


async def request_of(order: Order, max_depth: int, offload: Offload, sealer: Sealer) -> CreateRequest:
    """The request again, as one that upstream streams, so that a part of its answer is there to be kept.

    Raises InvalidRequestError when it is not valid any more, and AuthenticationError when it cannot be opened.
    """
    sent = order.request
    if sent.startswith(_SEAL):
        try:
            sent = sealer.open(order.project_id, sent.decode())
        except SealError:
            raise AuthenticationError("The secrets of this response's tools cannot be read any more.") from None
    # It passed the rules of those who serve its model when it was ordered.
    asked = (
        await offload.run(len(sent), parse_create_request, sent, max_depth, structurally)
        if is_large(sent)
        else parse_create_request(sent, max_depth, structurally)
    )
    passed_on = {name: value for name, value in asked.members.items() if name not in _OURS}
    return replace(
        asked,
        members={**passed_on, "stream": Json(b"true")},
        fields={**asked.fields, "stream": True},
        is_beta=order.is_beta,
    )


def turn_of(run: Run, memory: Memory) -> OpenTurn:
    """The turn of a run as its row alone tells it: enough to end and to store it, whatever cannot be read any more."""
    order, said = run.order, members(run.body)
    told = {name: orjson.loads(bytes(said[name])) for name in _TOLD}
    return OpenTurn(
        caller=ApiKey(order.api_key_id, order.project_id, "", "", created_at=0, revoked_at=None, retention_days=None),
        model=told["model"],
        store=order.is_stored,
        previous_response_id=told["previous_response_id"],
        parent_key=None,
        items=(),
        memory=memory,
        background=True,
        conversation_id=told["conversation"] and told["conversation"]["id"],
        background_id=order.id,
        created_at=Json(bytes(said["created_at"])),
    )


def _may_have_secrets(request: CreateRequest, body: bytes) -> bool:
    return ToolSecrets.of(request.fields) is not None or any(kind.encode() in body for kind in TOOL_LISTS)
