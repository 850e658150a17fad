"""Read the input of a background response: its own items, under ids that never change, and what it continues."""

import hashlib
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from app.errors import AuthenticationError, InvalidRequestError, NotFoundError
from app.relay.background.errors import is_transient
from app.relay.background.run_dependencies import RunDependencies
from app.relay.background.run_request import create_request_from
from app.relay.call.exchange import Exchange
from app.relay.history.base import History
from app.runtime.byte_budget import Reservation
from app.runtime.compute_thread import ComputeThread
from app.state.items.references import references
from app.state.items.stored_form import input_items, storable
from app.state.items.turn_packing import pack
from app.state.records import NO_ACCOUNT, ApiKey, Chain, Item, Turn
from app.state.runs import Run, RunRequest, lock_holder_of
from app.wire.requests.create import CreateRequest


async def open_history(dependencies: RunDependencies, run: Run, request: CreateRequest) -> History:
    """Open the history of the run's turn: its conversation, locked if the turn will be stored, or the stored history.

    A run that only ends locks it if it can: the owner before may be gone and still have the lock. Raises as `lock`
    does.
    """
    conversation_id, run_request, history = request.conversation_id, run.request, dependencies.history
    if conversation_id is None:
        return history
    if run_request.is_stored:
        try:
            return await dependencies.conversations.lock(
                run_request.project_id, conversation_id, history, lock_holder_of(run)
            )
        except InvalidRequestError as error:
            if not (run.only_ends and is_transient(error, is_started=False)):
                raise
    return await dependencies.conversations.open(run_request.project_id, conversation_id, history)


async def prepare_run(
    dependencies: RunDependencies, exchange: Exchange, run_request: RunRequest, history: History, *, held: Reservation
) -> None:
    """Prepare the exchange of a run; where it will be stored, give its items their ids."""
    await dependencies.preparer.prepare(exchange, history, held, keep=run_request.is_stored)
    request = exchange.request
    args = (run_request, request, exchange.items)
    exchange.items = (
        await dependencies.compute_thread.run(request.size, _named, *args) if request.is_large else _named(*args)
    )


def _named(run_request: RunRequest, request: CreateRequest, items: Sequence[Item]) -> tuple[Item, ...]:
    """Give items without an id from the client ids that are the same each time the request is read.

    An id is a cursor, and the request is read anew for each page of its items, and when the response is made.
    """
    given: Any = request.input
    ids = set() if given is None or isinstance(given, str) else {item.get("id") for item in given}
    return tuple(
        [
            item if item.id in ids else replace(item, id=_id(run_request, item, position))
            for position, item in enumerate(items)
        ]
    )


def _id(run_request: RunRequest, item: Item, position: int) -> str:
    """Make an id as `app.ids` does, with the time of this run's id."""
    prefix, (_, own) = item.id.partition("_")[0], run_request.id.split("_", 1)
    return f"{prefix}_{own[:8]}{hashlib.sha256(f'{run_request.id} {position}'.encode()).hexdigest()[:40]}"


async def own_items(run_request: RunRequest, request: CreateRequest, compute_thread: ComputeThread) -> tuple[Item, ...]:
    """Read the items of the input itself, where the items that it refers to are gone: references are left out."""
    return (
        await compute_thread.run(request.size, _own, run_request, request)
        if request.is_large
        else _own(run_request, request)
    )


async def read_input(
    dependencies: RunDependencies, run_request: RunRequest, caller: ApiKey, held: Reservation
) -> Chain:
    """Read the input of an unfinished response as the chain that it will be: its own input is the last turn.

    A history that is gone is left out, and so is an input that cannot be read any more: the run will fail.
    """
    earlier: tuple[Turn, ...] = ()
    items: tuple[Item, ...] = ()
    try:
        request = await create_request_from(
            run_request, dependencies.max_json_depth, dependencies.compute_thread, dependencies.sealer
        )
        items = await own_items(run_request, request, dependencies.compute_thread)
        history = dependencies.history
        if request.conversation_id is not None:
            history = await dependencies.conversations.open(run_request.project_id, request.conversation_id, history)
        exchange = Exchange(request, caller)
        await prepare_run(dependencies, exchange, run_request, history, held=held)
        items, earlier = exchange.items, exchange.chain.turns if exchange.chain else ()
    except (AuthenticationError, InvalidRequestError, NotFoundError):
        pass
    return Chain(None, (*earlier, pack("queued", NO_ACCOUNT, storable(items))), is_stored=False)


def _own(run_request: RunRequest, request: CreateRequest) -> tuple[Item, ...]:
    given = request.input
    if given is None:
        return ()
    missing = references(given).needs
    items = _named(run_request, request, input_items(given, request.members["input"], {}))
    return tuple([item for item in items if item.id not in missing])
