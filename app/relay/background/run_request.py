"""Turn a background create call into the request that a run's row keeps, and back into a call."""

from collections.abc import Mapping
from dataclasses import replace

import orjson

from app.errors import AuthenticationError
from app.ids import new_id
from app.relay.call.exchange import Exchange
from app.relay.history.base import History
from app.runtime.compute_thread import ComputeThread
from app.security.cipher import SealError
from app.security.encryption import Sealer
from app.state.items.compacted import SEAL
from app.state.records import ApiKey
from app.state.runs import Page, Run, RunRequest
from app.upstream.headers import FROM_CLIENT
from app.wire.json_body import Json, is_large, join_object, members
from app.wire.requests.create import CreateRequest, parse_create_request, structurally
from app.wire.responses import response_object, stream_events
from app.wire.responses.tool_secrets import TOOL_LISTS, ToolSecrets

# Members for this gateway alone, which asks upstream for an ordinary stream.
_OURS = ("background", "background_options")
_SEAL = SEAL.encode()
# The members of a run's response object that its exchange is made of.
_FROM_RESPONSE = ("conversation", "model", "previous_response_id")
FIRST_NUMBER = 2
"""The number of the first event after those that every log begins with."""


def run_request_from(request: CreateRequest, caller: ApiKey, headers: Mapping[str, str], sealer: Sealer) -> RunRequest:
    """Make the run request of this call, under an id of its own. `headers` are the client's, by lower-case name.

    A request with tools that authenticate is kept sealed: others may read the database.
    """
    body = join_object(request.members)
    return RunRequest(
        id=new_id("resp"),
        project_id=caller.project_id,
        api_key_id=caller.id,
        is_stored=request.store,
        is_streamed=request.stream,
        headers={name: headers[name] for name in FROM_CLIENT if name in headers},
        body=sealer.seal(caller.project_id, body).encode() if _may_have_secrets(request, body) else body,
        is_beta=request.is_beta,
        model=request.model,
        conversation_id=request.conversation_id if request.store else None,
    )


def queued_response(run_request: RunRequest, request: CreateRequest) -> tuple[bytes, Page | None]:
    """Make the response object of a queued run, and its log until then, if it has one."""
    made = response_object.read(response_object.placeholder_response(request.fields))
    assert made is not None  # noqa: S101 - it is one of ours
    body = made.as_asked(
        store=run_request.is_stored,
        previous_response_id=request.previous_response_id,
        conversation_id=request.conversation_id,
        background=True,
        background_id=run_request.id,
    )
    body = response_object.ended(body, "queued", [])
    if not run_request.is_streamed:
        return body, None
    frames = [
        stream_events.response_frame(kind, body, number)
        for number, kind in enumerate(("response.created", "response.queued"))
    ]
    return body, Page(0, FIRST_NUMBER - 1, b"".join(frames))


async def create_request_from(
    run_request: RunRequest, max_depth: int, compute_thread: ComputeThread, sealer: Sealer
) -> CreateRequest:
    """Parse the request again, as a streamed one, so that a part of its answer is there to be saved.

    Raises InvalidRequestError when it is not valid any more, and AuthenticationError when it cannot be opened.
    """
    sent = run_request.body
    if sent.startswith(_SEAL):
        try:
            sent = sealer.open(run_request.project_id, sent.decode())
        except SealError:
            raise AuthenticationError("The secrets of this response's tools cannot be read any more.") from None
    # It passed the rules of the upstreams that serve its model when the run was created.
    asked = (
        await compute_thread.run(len(sent), parse_create_request, sent, max_depth, structurally)
        if is_large(sent)
        else parse_create_request(sent, max_depth, structurally)
    )
    passed_on = {name: value for name, value in asked.members.items() if name not in _OURS}
    return replace(
        asked,
        members={**passed_on, "stream": Json(b"true")},
        fields={**asked.fields, "stream": True},
        is_beta=run_request.is_beta,
    )


def exchange_of(run: Run, history: History) -> Exchange:
    """Make the exchange of a run from its row alone: enough to end and store it, whatever cannot be read any more.

    Its turn is settled in this history.
    """
    run_request, said = run.request, members(run.body)
    known = {name: orjson.loads(bytes(said[name])) for name in _FROM_RESPONSE}
    fields = {**known, "store": run_request.is_stored, "background": True}
    caller = ApiKey(
        run_request.api_key_id, run_request.project_id, "", "", created_at=0, revoked_at=None, retention_days=None
    )
    exchange = Exchange(CreateRequest(known["model"] or "", {}, fields), caller, run_request.headers)
    exchange.history = history
    exchange.background_id = run_request.id
    exchange.created_at = Json(bytes(said["created_at"]))
    return exchange


def _may_have_secrets(request: CreateRequest, body: bytes) -> bool:
    return ToolSecrets.of(request.fields) is not None or any(kind.encode() in body for kind in TOOL_LISTS)
