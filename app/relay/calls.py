"""An exchange as a call to upstream: the account that it prefers, and the one that alone can serve it."""

from collections.abc import Collection, Mapping

from app.relay.exchange import Exchange
from app.state.ledger import Entry
from app.upstream.account import upstream_name
from app.upstream.call import UpstreamCall


def upstream_call(
    exchange: Exchange, headers: Mapping[str, str], keeping_upstreams: Collection[str], entry: Entry | None = None
) -> UpstreamCall:
    """The call that this exchange makes; `keeping_upstreams` are the names of those that keep chains themselves."""
    request, prefer = exchange.request, exchange.prefer
    if entry is not None:
        entry.input_bytes = request.size
    cache_key = request.fields.get("prompt_cache_key")
    return UpstreamCall(
        model=request.model,
        render=exchange.render,
        stream=request.stream,
        prefer=prefer,
        only=prefer if prefer is not None and _is_held(exchange, prefer, keeping_upstreams) else None,
        cache_key=cache_key if isinstance(cache_key, str) else None,
        project_id=exchange.caller.project_id,
        headers=headers,
        entry=entry,
        is_background=request.background,
        large_bytes=exchange.size if exchange.is_large else 0,
        secrets=exchange.secrets,
        is_beta=request.is_beta,
        without_reasoning=exchange.without_reasoning if exchange.asks_for_reasoning else None,
    )


def _is_held(exchange: Exchange, account: str, keeping_upstreams: Collection[str]) -> bool:
    """Whether only this account can continue it: it has what was named, or its upstream keeps the chain."""
    # A conversation is the gateway's own: whoever serves it is told all of it.
    is_chain = exchange.request.conversation_id is None
    return exchange.is_owned or (is_chain and upstream_name(account) in keeping_upstreams)
