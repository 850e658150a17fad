"""Make the body of the call that has a model summarise a context, and read its answer."""

import hashlib
from collections.abc import Iterable

from app.errors import UpstreamError
from app.relay.call.exchange import Exchange, sendable
from app.relay.context.summary_cache import Summary
from app.state.items import compacted
from app.state.items.token_estimate import estimate_items
from app.state.limit_windows import most_output_tokens
from app.state.records import Item, TokenUsage
from app.state.usage import UsageEntry
from app.upstream.account import Account
from app.wire.json_body import Json
from app.wire.responses import response_object

# The members beside the input in a call for a summary; a summary is text, and calls no tool.
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
    """Make the body that has this account summarise this history."""
    given = exchange.request.members
    members = {name: given[name] for name in _PASSED_ON if name in given}
    members |= {"input": Json(compacted.summary_input([item.content for item in history])), "store": _NOT_STORED}
    if (cap := most_output_tokens(exchange.caller)) is not None:
        members["max_output_tokens"] = Json(b"%d" % cap)
    return sendable(members, account)


def digest(exchange: Exchange, history: Iterable[Item], account: Account) -> bytes:
    """Hash the request for a summary, to tell it from another."""
    return hashlib.sha256(summary_request(exchange, history, account)).digest()


def facts_of(raw: bytes, entry: UsageEntry) -> response_object.ResponseFacts | None:
    """Read the facts of upstream's answer, and enter its usage, whatever becomes of the answer."""
    facts = response_object.read(raw)
    if facts is not None:
        entry.usage = TokenUsage.of(facts.usage)
        entry.model_served = facts.model or None
        entry.service_tier = facts.service_tier
        is_told = entry.usage is not None and entry.usage.input_tokens + entry.usage.output_tokens > 0
        entry.is_metered = is_told and "estimated" not in (facts.usage or ())
        if not entry.is_metered:
            entry.relayed_tokens = estimate_items(facts.output)
    return facts


def summary_in(facts: response_object.ResponseFacts | None, exchange: Exchange) -> Summary:
    """Return the summary that a model has written. Raises UpstreamError when there is none, or half of one."""
    text = response_object.text_of(facts) if facts is not None and facts.status == "completed" else ""
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
