"""Read the state that a request builds on, once, and note in its exchange which accounts can serve it."""

import time
from collections.abc import Callable, Collection, Mapping
from functools import partial

from app.relay.call.context_limit import ContextLimit
from app.relay.call.exchange import Exchange
from app.relay.call.sealed_compactions import expand, find_sealed
from app.relay.history.base import History, resolve
from app.relay.history.conversation import ReadConversation
from app.runtime.byte_budget import Reservation
from app.runtime.compute_thread import ComputeThread
from app.security.encryption import Sealer
from app.state.items.account_bound import (
    asked_for_approval,
    chain_names_account_bound,
    has_container,
    item_names_account_bound,
)
from app.state.items.compacted import sealed_for
from app.state.items.history_input import check_calls
from app.state.items.references import references
from app.state.items.stored_form import input_items
from app.state.records import Item
from app.upstream.account import upstream_name
from app.wire import error_messages
from app.wire.json_body import HUGE_BYTES

_REASONING = "reasoning.encrypted_content"


class Preparer:
    """Prepare exchanges. `keeping_upstreams` are the names of upstreams that keep chains themselves."""

    def __init__(
        self,
        sealer: Sealer,
        compute_thread: ComputeThread,
        *,
        max_context_bytes: int,
        keeping_upstreams: Collection[str] = (),
    ) -> None:
        self._sealer = sealer
        self._compute_thread = compute_thread
        self._max_context_bytes = max_context_bytes
        self._keeping_upstreams = keeping_upstreams

    async def prepare(self, exchange: Exchange, history: History, held: Reservation, *, keep: bool) -> None:
        """Read the state that the request names; with `keep` the turn can be continued, and is settled in `history`.

        A call in a conversation has the conversation as its history. What is read is reserved, and `held`. Raises the
        API's own errors for ids this project does not have, and for a context that is too long.
        """
        request, compute_thread = exchange.request, self._compute_thread
        given = request.input
        limit = ContextLimit(self._max_context_bytes, held)
        own_bytes = request.size
        limit.add(0 if given is None else own_bytes)
        exchange.entry.input_bytes = own_bytes
        exchange.is_kept = keep
        if keep and exchange.history is None:
            exchange.history = history
        project_id = exchange.project_id
        chain = None
        if isinstance(history, ReadConversation):
            chain = await history.read_history(limit.reserve)
        elif request.previous_response_id is not None:
            chain = await history.read_chain(project_id, request.previous_response_id, int(time.time()), limit.reserve)
            if chain is None:
                raise error_messages.previous_response_not_found(request.previous_response_id)
        if chain is not None:
            exchange.chain = chain
        named = await compute_thread.run(own_bytes, references, given) if request.is_large else references(given)
        resolved = await resolve(history, project_id, named, limit.reserve, chain) if named.ids else {}
        unseal = partial(self._sealer.open, project_id)
        exchange.expand = partial(expand, unseal)
        exchange.refers = named.has_stubs or bool(resolved)
        exchange.has_triggers, exchange.asks_compaction = named.has_triggers, named.asks_compaction
        if request.is_large or (chain is not None and chain.is_large) or limit.used >= HUGE_BYTES:
            exchange.is_large, exchange.large_bytes = True, exchange.size
            await compute_thread.run(exchange.size, self._complete, exchange, resolved, unseal)
        else:
            self._complete(exchange, resolved, unseal)
        if chain is not None:
            exchange.parent_key = chain.key
        if named.ids:
            # An item that is named many times is sent and kept as many times.
            await limit.reserve(sum([len(item.content) for item in exchange.items]))

    def _complete(self, exchange: Exchange, resolved: Mapping[str, Item], unseal: Callable[[str], bytes]) -> None:
        """Inspect the items of an exchange, and those that it refers to. Raises InvalidRequestError."""
        request, chain, given = exchange.request, exchange.chain, exchange.request.input
        if given is not None and (exchange.is_kept or chain is not None or exchange.refers):
            exchange.items = input_items(given, request.members["input"], resolved)
        if chain is not None:
            check_calls(chain, exchange.items)
        exchange.is_sealed, is_account_bound = find_sealed(request, unseal)
        if asks_for_reasoning(exchange):
            exchange.without_reasoning = set()
        owner = None
        if chain is not None or resolved:
            asked = asked_for_approval(exchange.items, resolved)
            owner = asked or (has_container(request.fields, chain) if chain is not None else None)
            is_account_bound = (
                is_account_bound
                or asked is not None
                or any(item.account and item_names_account_bound(item.content) for item in resolved.values())
                or (chain is not None and chain_names_account_bound(chain))
            )
        exchange.prefer = prefer = served_by(exchange) if owner is None else owner
        # A conversation is the gateway's own: any account that serves it is sent all of it.
        is_chain = request.conversation_id is None
        if prefer is not None and (is_account_bound or (is_chain and upstream_name(prefer) in self._keeping_upstreams)):
            exchange.only = prefer


def asks_for_reasoning(exchange: Exchange) -> bool:
    """Tell whether the gateway asks for reasoning in the form that can be replayed, though the client did not.

    It does where the turn may be continued, also where the client says nothing of reasoning: many models reason
    unasked. Models that refuse are found out and remembered (`app.upstream.call.upstream_client`).
    """
    request = exchange.request
    return (exchange.is_kept or request.store) and _REASONING not in (request.fields.get("include") or ())


def served_by(exchange: Exchange) -> str | None:
    """Return the account that served the chain so far: the account that can read all of it.

    A client may name stored items in place of a chain. Then it is the account of the latest item that only one account
    can read, else the account that served the latest item: where upstream keeps the state, no other can look its id up.
    """
    if exchange.chain:
        return exchange.chain.account
    if not exchange.refers:
        return None
    latest_first = exchange.items[::-1]
    # What was sealed is bound to no one account.
    accounts = (item.account for item in latest_first if item.account != sealed_for(item.account))
    bound = next(filter(None, accounts), None)
    return bound or next((item.served_by for item in latest_first if item.served_by), None)
