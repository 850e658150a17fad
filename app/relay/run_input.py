"""Read the input of a response in the background: its own items, under ids that never change, and what it continues."""

import hashlib
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from app.byte_budget import Reservation
from app.errors import AuthenticationError, InvalidRequestError, NotFoundError
from app.offload import Offload
from app.relay.context_room import ContextRoom
from app.relay.exchange import Exchange
from app.relay.memory import Memory
from app.relay.order import request_of
from app.relay.prepare import prepare
from app.relay.run_faults import is_passing
from app.relay.stage import Stage
from app.state.items import input_items, storable
from app.state.packing import pack
from app.state.records import NO_ACCOUNT, ApiKey, Chain, Item, Turn
from app.state.references import references
from app.state.runs import Order, Run, holder_of
from app.wire.requests import CreateRequest


async def open_memory(stage: Stage, run: Run, request: CreateRequest) -> Memory:
    """What the run's turn builds on, and where it goes: its conversation is held, if it has one and will be stored.

    One that only ends holds it if it can: who had it before may be gone, and hold it still. Raises as `hold` does.
    """
    conversation_id, order, memory = request.conversation_id, run.order, stage.memory
    if conversation_id is None:
        return memory
    if order.is_stored:
        try:
            return await stage.conversations.hold(order.project_id, conversation_id, memory, holder_of(run))
        except InvalidRequestError as error:
            if not (run.only_ends and is_passing(error, is_started=False)):
                raise
    return await stage.conversations.open(order.project_id, conversation_id, memory)


async def prepare_run(
    stage: Stage, order: Order, request: CreateRequest, caller: ApiKey, memory: Memory, *, held: Reservation
) -> Exchange:
    """The exchange that is made of an order, as `prepare` does; where it will be stored its items are named."""
    room = ContextRoom(stage.max_context_bytes, held)
    exchange = await prepare(
        request, caller, memory, keep=order.is_stored, sealer=stage.sealer, room=room, offload=stage.offload
    )
    told = (order, request, exchange.items)
    exchange.items = await stage.offload.run(request.size, _named, *told) if request.is_large else _named(*told)
    return exchange


def _named(order: Order, request: CreateRequest, items: Sequence[Item]) -> tuple[Item, ...]:
    """Give the items that their client gave none ids that are the same each time the order is read.

    An id is a cursor, and the order is read anew for each page of its items, and when the response is made.
    """
    given: Any = request.input
    ids = set() if given is None or isinstance(given, str) else {item.get("id") for item in given}
    return tuple(
        [item if item.id in ids else replace(item, id=_id(order, item, place)) for place, item in enumerate(items)]
    )


def _id(order: Order, item: Item, place: int) -> str:
    """An id as `app.ids` makes them, of this order's time."""
    prefix, (_, told) = item.id.partition("_")[0], order.id.split("_", 1)
    return f"{prefix}_{told[:8]}{hashlib.sha256(f'{order.id} {place}'.encode()).hexdigest()[:40]}"


async def own_items(order: Order, request: CreateRequest, offload: Offload) -> tuple[Item, ...]:
    """The items of the input itself, for where what it refers to is not there: references are left out."""
    return await offload.run(request.size, _own, order, request) if request.is_large else _own(order, request)


async def read_input(stage: Stage, order: Order, caller: ApiKey, held: Reservation) -> Chain:
    """All that goes into a response that is not finished, as the chain that it will be: its own input is the last turn.

    What it continues is left out where that is gone, and its input where that cannot be read any more: it will fail.
    """
    earlier: tuple[Turn, ...] = ()
    items: tuple[Item, ...] = ()
    try:
        request = await request_of(order, stage.max_json_depth, stage.offload, stage.sealer)
        items = await own_items(order, request, stage.offload)
        memory = stage.memory
        if request.conversation_id is not None:
            memory = await stage.conversations.open(order.project_id, request.conversation_id, memory)
        exchange = await prepare_run(stage, order, request, caller, memory, held=held)
        items, earlier = exchange.items, exchange.chain.turns if exchange.chain else ()
    except (AuthenticationError, InvalidRequestError, NotFoundError):
        pass
    return Chain(None, (*earlier, pack("queued", NO_ACCOUNT, storable(items))), is_stored=False)


def _own(order: Order, request: CreateRequest) -> tuple[Item, ...]:
    given = request.input
    if given is None:
        return ()
    missing = references(given).needs
    items = _named(order, request, input_items(given, request.members["input"], {}))
    return tuple([item for item in items if item.id not in missing])
