"""Compact contexts where upstream cannot: the same model writes a summary, and the gateway seals it."""

import time
from collections.abc import Awaitable, Iterable

import orjson

from app.errors import InvalidRequestError, OverloadedError, UpstreamError, forget_frames
from app.ids import new_id
from app.observability.logging import note
from app.relay.call.exchange import Exchange
from app.relay.context.retained_messages import (
    TRIGGERED_TOKENS,
    budget_under,
    retained,
    split_history,
    user_messages,
)
from app.relay.context.summary_cache import Summaries, Summary
from app.relay.context.summary_request import digest, facts_of, summary_in, summary_request
from app.relay.metering.meter import Meter
from app.relay.stream.accumulator import final_object
from app.runtime.byte_budget import Reserve
from app.runtime.compute_thread import ComputeThread
from app.security.encryption import Sealer
from app.state.items import compacted
from app.state.items.compacted import Compaction
from app.state.items.listed_form import item_as_listed
from app.state.items.token_estimate import estimate_item, estimate_request
from app.state.records import Item
from app.state.usage import UsageEntry
from app.upstream.account import Account
from app.upstream.call.answer import UpstreamAnswer
from app.upstream.call.upstream_client import UpstreamClient
from app.wire.json.sliced_decoder import decode
from app.wire.json_body import Json, join_array, join_object
from app.wire.requests.input_items import LONGEST_SEALED
from app.wire.responses import gateway_response, response_object

# A context is taken apart into its items, and each of them is decoded to be counted.
_COPIES = 2


class Compactor:
    """Compact contexts, each by the model and the accounts that its own call would go to."""

    def __init__(
        self, upstream: UpstreamClient, sealer: Sealer, max_answer_bytes: int, compute_thread: ComputeThread
    ) -> None:
        self._compute_thread = compute_thread
        self._upstream = upstream
        self._sealer = sealer
        self._max_answer_bytes = max_answer_bytes
        self._summaries = Summaries()

    async def compact(self, exchange: Exchange, reserve: Reserve) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Answer a compact call with headers and body: upstream's own where the account offers compaction, else ours.

        Raises what opening and reading the call raises, and UpstreamError for an answer without a summary.
        """

        def body_of(account: Account) -> bytes:
            if account.upstream.offers("compact"):
                return exchange.standalone(account)
            return summary_request(exchange, exchange.context(account.name), account)

        await reserve(exchange.size * _COPIES)
        answer = await self._upstream.open(exchange.variation(body_of, endpoint="compact"))
        try:
            raw, facts = await self._read(answer, exchange.entry, reserve)
        finally:
            await answer.aclose()
        if answer.account.upstream.offers("compact"):
            if facts is None:
                raise UpstreamError("Upstream's answer is not a compaction.", code="upstream_invalid_answer")
            return answer.headers, raw
        summary = summary_in(facts, exchange)
        made = await self._compute_thread.run(exchange.size, self._compacted, exchange, answer.account.name, summary)
        return answer.headers, made

    async def shorten(self, exchange: Exchange, reserve: Reserve, meter: Meter) -> None:
        """Compact the context of this exchange, if the client asks for that, it is long enough, and upstream cannot.

        The account that the call goes to first decides whether upstream can. The summary is metered by itself. The
        exchange stays as it is where its context cannot be compacted, for whatever reason: upstream may take it all the
        same.
        """
        try:
            exchange.compaction = await self._compaction_for(exchange, reserve, meter)
        except (UpstreamError, OverloadedError) as error:
            forget_frames(error)
            note(not_compacted=error.code or error.status)

    async def _compaction_for(self, exchange: Exchange, reserve: Reserve, meter: Meter) -> Compaction | None:
        """Make the compaction that stands for the context of this call, if one does. Raises as `compact` does."""
        threshold = _threshold(exchange)
        account = self._upstream.first(exchange)
        # A prompt template's model is known to upstream alone.
        if threshold is None or not exchange.request.model or account.upstream.offers("compact"):
            return None
        size = exchange.size
        await reserve(size * _COPIES)
        items, tokens = await self._compute_thread.run(size, _measured, exchange, account)
        if tokens < threshold:
            return None
        history, unanswered = await self._compute_thread.run(size, split_history, items)
        # What only one account can read cannot go on inside an item that every account is sent.
        if not history or any(item.account is not None for item in unanswered):
            return None
        kept = await self._compute_thread.run(size, retained, history, budget_under(threshold), unanswered)
        if kept is None or not (
            replaced := await self._compute_thread.run(size, compacted.replaced_tokens, history, kept)
        ):
            return None

        key = exchange.caller.project_id, await self._compute_thread.run(size, digest, exchange, history, account)
        summary = self._summaries.find(key)
        if summary is None:
            async with meter.summary(exchange, tokens) as entry:
                summary = await self._summarise(exchange, entry, reserve)
            self._summaries.keep(key, summary)
        text, usage = summary

        def shortened() -> Compaction | None:
            said = compacted.summary_item(text)
            content = b",".join([*kept, said, *[item.content for item in unanswered]])
            if estimate_item(said) >= replaced or len(content) > compacted.LARGEST_CONTENT:
                return None
            item = compacted.compaction_item(self._sealer.seal(exchange.caller.project_id, content))
            return Compaction(item, content, orjson.loads(bytes(usage)), key)

        return await self._compute_thread.run(size, shortened)

    def open(self, exchange: Exchange, reserve: Reserve) -> Awaitable[UpstreamAnswer]:
        """Ask upstream for this exchange's response, or make the compaction that it asks for.

        Raises what opening the call raises, and as `compact` does.
        """
        if exchange.asks_compaction:
            return self._answer(exchange, reserve)
        if exchange.compaction is not None:
            return self._open_shortened(exchange.compaction, exchange)
        return self._upstream.open(exchange)

    async def _open_shortened(self, made: Compaction, exchange: Exchange) -> UpstreamAnswer:
        """Ask upstream with a compacted context. Without an answer the summary stays cached for the next try."""
        answer = await self._upstream.open(exchange)
        if made.summary_key is not None:
            self._summaries.drop(made.summary_key)
        return answer

    async def _summarise(self, exchange: Exchange, entry: UsageEntry, reserve: Reserve) -> Summary:
        """Have upstream summarise what the call continues, as the call of this entry."""

        def body_of(account: Account) -> bytes:
            history, _ = split_history(exchange.context(account.name))
            return summary_request(exchange, history, account)

        answer = await self._upstream.open(exchange.variation(body_of, entry=entry))
        try:
            _, facts = await self._read(answer, entry, reserve)
        finally:
            await answer.aclose()
        return summary_in(facts, exchange)

    async def _answer(self, exchange: Exchange, reserve: Reserve) -> UpstreamAnswer:
        """Answer a call that asks for a compaction, as its client wants it: a response of that one item.

        Upstream's own where the account makes compactions, else ours of a summary. Raises as `compact` does.
        """

        def body_of(account: Account) -> bytes:
            if account.upstream.offers("compact"):
                return exchange.render(account)
            context = exchange.context(account.name)
            if not context:
                raise InvalidRequestError("There is nothing before the compaction trigger to compact.", param="input")
            _kept(exchange, context)
            return summary_request(exchange, context, account)

        await reserve(exchange.size * _COPIES)
        answer = await self._upstream.open(exchange.variation(body_of, asks_for_reasoning=True))
        if answer.account.upstream.offers("compact"):
            return answer
        try:
            _, facts = await self._read(answer, exchange.entry, reserve)
            made = await self._compute_thread.run(exchange.size, self._response, exchange, answer.account.name, facts)
        except BaseException:
            await answer.aclose()
            raise
        if not exchange.request.stream:
            return answer.rewritten({**answer.client_headers, b"content-type": b"application/json"}, made)
        frames = b"".join(gateway_response.stream(made))
        return answer.rewritten({**answer.client_headers, b"content-type": b"text/event-stream; charset=utf-8"}, frames)

    def _response(self, exchange: Exchange, account: str, facts: response_object.ResponseFacts | None) -> bytes:
        """Make the response whose output is a compaction of the whole context."""
        text, usage = summary_in(facts, exchange)
        model = (facts.model if facts else "") or exchange.request.model
        tier = facts.service_tier if facts else None
        kept = _kept(exchange, exchange.context(account))
        item = compacted.compaction_item(self._sealed(exchange, b",".join([*kept, compacted.summary_item(text)])))
        return gateway_response.completed(exchange.request.fields, [item], usage, model, tier)

    def _compacted(self, exchange: Exchange, account: str, made: Summary) -> bytes:
        """Make the body of a compact call's answer where this gateway compacts."""
        item = compacted.compaction_item(self._sealed(exchange, compacted.summary_item(made.text)))
        said = user_messages(exchange.context(account))
        return join_object(
            {
                "id": Json(orjson.dumps(new_id("resp"))),
                "object": Json(b'"response.compaction"'),
                "created_at": Json(b"%d" % time.time()),
                "output": Json(join_array([*map(item_as_listed, said), item])),
                "usage": made.usage,
            }
        )

    def _sealed(self, exchange: Exchange, content: bytes) -> str:
        sealed = self._sealer.seal(exchange.caller.project_id, content)
        if len(sealed) > LONGEST_SEALED:
            raise _too_large()
        return sealed

    async def _read(
        self, answer: UpstreamAnswer, entry: UsageEntry, reserve: Reserve
    ) -> tuple[bytes, response_object.ResponseFacts | None]:
        """Read the answer, as bytes and as facts, and note its usage: before it is closed, as caps count it then."""
        raw = await answer.read_whole(self._max_answer_bytes, reserve)
        if answer.is_stream:
            # Some upstreams stream whatever they are asked for.
            raw = await self._compute_thread.run(len(raw), final_object, raw)
        return raw, await self._compute_thread.run(len(raw), facts_of, raw, entry)


def context_tokens(exchange: Exchange, context: Iterable[Item]) -> int:
    """Estimate the tokens of the call with this context."""
    return estimate_request({**exchange.request.fields, "input": (decode(item.content) for item in context)})


def _measured(exchange: Exchange, account: Account) -> tuple[list[Item], int]:
    """Return the context of a call, and how many tokens it has."""
    items = exchange.context(account.name)
    return items, context_tokens(exchange, items)


def _kept(exchange: Exchange, context: list[Item]) -> list[bytes]:
    """Return what a compaction that answers a trigger holds beside the summary. Raises InvalidRequestError.

    Where the turn is kept it may be continued by its id, and then the item stands for the whole context.
    """
    kept = [] if not exchange.is_kept else retained(context, TRIGGERED_TOKENS)
    if kept is None:
        raise _too_large()
    return kept


def _too_large() -> InvalidRequestError:
    return InvalidRequestError("The input is too large to be compacted.", param="input")


def _threshold(exchange: Exchange) -> int | None:
    """Return from how many tokens on the client wants its context compacted; None where it leaves that to upstream."""
    edits = exchange.request.fields.get("context_management") or ()
    limits = [edit.get("compact_threshold") for edit in edits if edit["type"] == "compaction"]
    return min([limit for limit in limits if limit is not None], default=None)
