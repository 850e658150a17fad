"""Make the body of the call that has a model summarise a context, and read its answer."""

import hashlib
from collections.abc import Iterable

from app.errors import UpstreamError
from app.relay.exchange import Exchange, sendable
from app.relay.summaries import Summary
from app.state import compaction
from app.state.estimate import estimate_items
from app.state.ledger import Entry
from app.state.limits import most_output_tokens
from app.state.records import Item, Usage
from app.upstream.account import Account
from app.wire import response
from app.wire.body import Json

# What stands beside the input in a call for a summary; a summary is text, and calls no tool.
_PASSED_ON = (
    "model",
    "instructions",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "user",
)
_NOT_STORED = Json(b"false")


def summary_request(exchange: Exchange, history: Iterable[Item], account: Account) -> bytes:
    """The body of the call to this account that has it summarise this history."""
    given = exchange.request.members
    members = {name: given[name] for name in _PASSED_ON if name in given}
    members |= {"input": Json(compaction.request_for([item.content for item in history])), "store": _NOT_STORED}
    if (cap := most_output_tokens(exchange.caller)) is not None:
        members["max_output_tokens"] = Json(b"%d" % cap)
    return sendable(members, account)


def digest(exchange: Exchange, history: Iterable[Item], account: Account) -> bytes:
    """What tells one call for a summary from another."""
    return hashlib.sha256(summary_request(exchange, history, account)).digest()


def facts_of(raw: bytes, entry: Entry | None) -> response.ResponseFacts | None:
    """What upstream has answered; what it took is its entry's, whatever becomes of the answer."""
    facts = response.read(raw)
    if facts is not None and entry is not None:
        entry.usage = Usage.of(facts.usage)
        entry.model_served = facts.model or None
        entry.service_tier = facts.service_tier
        entry.is_metered = entry.usage is not None and entry.usage.input_tokens + entry.usage.output_tokens > 0
        if not entry.is_metered:
            entry.relayed_tokens = estimate_items(facts.output)
    return facts


def summary_in(facts: response.ResponseFacts | None, exchange: Exchange) -> Summary:
    """What a model has written to this call's caller. Raises UpstreamError when that is no summary, or half of one."""
    text = response.text_of(facts) if facts is not None and facts.status == "completed" else ""
    if facts is None or not text.strip():
        cap = most_output_tokens(exchange.caller)
        is_cut = cap is not None and facts is not None and facts.status == "incomplete"
        raise UpstreamError(
            f"The summary of the context is longer than the {cap} output tokens that this API key may have."
            if is_cut
            else "The model wrote no summary to compact the context to.",
            code="compaction_failed",
            headers={"x-should-retry": "false"},
        )
    return Summary(text, facts.members.get("usage", Json(b"null")))
