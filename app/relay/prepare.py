"""From a valid request to an exchange: the state that it builds on, read once."""

import time
from collections.abc import Callable, Mapping
from functools import partial

from app.offload import Offload
from app.relay.context_room import ContextRoom
from app.relay.conversation import OpenConversation
from app.relay.exchange import Exchange
from app.relay.memory import Memory, resolve
from app.relay.sealed_input import expand, look_into
from app.sealing import Sealer
from app.state.items import input_items
from app.state.ownership import asked_for_approval, chain_names_owned, has_container, item_names_owned
from app.state.records import ApiKey, Item
from app.state.references import references
from app.state.replay import check_calls
from app.wire import wording
from app.wire.body import HUGE_BYTES
from app.wire.requests import CreateRequest
from app.wire.tools import ToolSecrets


async def prepare(
    request: CreateRequest,
    caller: ApiKey,
    memory: Memory,
    *,
    keep: bool,
    sealer: Sealer,
    room: ContextRoom,
    offload: Offload,
) -> Exchange:
    """Read the state that the request names; with `keep` its outcome will go to the same memory.

    Of a call in a conversation the memory is that. What is read has to find room. Raises the API's own errors for ids
    this project does not have, and for a context that is too long.
    """
    given = request.input
    own_bytes = 0 if given is None else len(memoryview(request.members["input"]))
    room.add(own_bytes)
    chain = None
    if isinstance(memory, OpenConversation):
        chain = await memory.read_history(room.reserve)
    elif request.previous_response_id is not None:
        chain = await memory.read_chain(caller.project_id, request.previous_response_id, int(time.time()), room.reserve)
        if chain is None:
            raise wording.previous_response_not_found(request.previous_response_id)
    named = await offload.run(request.size, references, given) if request.is_large else references(given)
    resolved = await resolve(memory, caller.project_id, named, room.reserve, chain) if named.ids else {}
    unseal = partial(sealer.open, caller.project_id)
    made = Exchange(
        request,
        caller,
        chain,
        items=(),
        refers=named.has_stubs or bool(resolved),
        memory=memory if keep else None,
        expand=partial(expand, unseal),
        secrets=ToolSecrets.of(request.fields),
        is_large=request.is_large or (chain is not None and chain.is_large) or room.used >= HUGE_BYTES,
        has_triggers=named.has_triggers,
        asks_compaction=named.asks_compaction,
    )
    if made.is_large:
        await offload.run(made.size, _complete, made, resolved, unseal)
    else:
        _complete(made, resolved, unseal)
    if named.ids:
        # One may be named many times, and is then sent and kept as many times.
        await room.reserve(sum([len(item.content) for item in made.items]))
    return made


def _complete(made: Exchange, resolved: Mapping[str, Item], unseal: Callable[[str], bytes]) -> None:
    """Look at the items of an exchange, with those that it refers to. Raises InvalidRequestError."""
    request, chain, given = made.request, made.chain, made.request.input
    if given is not None and (made.memory is not None or chain is not None or made.refers):
        made.items = input_items(given, request.members["input"], resolved)
    if chain is not None:
        check_calls(chain, made.items)
    made.is_sealed, made.is_owned = look_into(request, unseal)
    if chain is None and not resolved:
        return
    asked = asked_for_approval(made.items, resolved)
    made.owner = asked or (has_container(request.fields, chain) if chain is not None else None)
    made.is_owned = (
        made.is_owned
        or asked is not None
        or any(item.account and item_names_owned(item.content) for item in resolved.values())
        or (chain is not None and chain_names_owned(chain))
    )
