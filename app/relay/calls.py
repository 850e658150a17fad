"""An exchange as a call to upstream: the account that it prefers, and the one that alone can serve it."""

from collections.abc import Collection, Mapping

from app.relay.prepare import Exchange
from app.state.ledger import Entry
from app.upstream.account import upstream_name
from app.upstream.call import UpstreamCall


def upstream_call(
    exchange: Exchange, headers: Mapping[str, str], keeping_upstreams: Collection[str], entry: Entry | None = None
) -> UpstreamCall:
    """The call that this exchange makes; `keeping_upstreams` are the names of those that keep chains themselves."""
    cache_key = exchange.request.fields.get("prompt_cache_key")
    return UpstreamCall(
        model=exchange.request.model,
        render=exchange.render,
        stream=exchange.request.stream,
        prefer=exchange.prefer,
        only=_holder(exchange, keeping_upstreams),
        cache_key=cache_key if isinstance(cache_key, str) else None,
        project_id=exchange.caller.project_id,
        headers=headers,
        entry=entry,
        is_background=exchange.request.background,
    )


def _holder(exchange: Exchange, keeping_upstreams: Collection[str]) -> str | None:
    """The one account that can continue this: it has what was named, or its upstream keeps the chain."""
    if exchange.prefer is None:
        return None
    # A conversation is the gateway's own: whoever serves it is told all of it.
    is_chain = exchange.request.conversation_id is None
    is_held = exchange.is_owned or (is_chain and upstream_name(exchange.prefer) in keeping_upstreams)
    return exchange.prefer if is_held else None
