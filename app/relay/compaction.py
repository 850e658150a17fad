"""Contexts made short where upstream cannot do it: the same model writes a summary, and it is sealed.

Must not know whose connection waits for it.
"""

import time
from collections.abc import Awaitable, Iterable
from dataclasses import replace

import orjson

from app.byte_budget import Reserve
from app.errors import InvalidRequestError, OverloadedError, UpstreamError, forget_frames
from app.ids import new_id
from app.observability.logging import note
from app.offload import Offload
from app.relay.exchange import Exchange
from app.relay.fold import gathered
from app.relay.meter import MeteredCall
from app.relay.summaries import Summaries, Summary
from app.relay.summary_request import digest, facts_of, summary_in, summary_request
from app.sealing import Sealer
from app.state import compaction
from app.state.compaction import Compaction
from app.state.estimate import estimate_item, estimate_request
from app.state.ledger import Entry
from app.state.listed_item import listed
from app.state.records import Item
from app.upstream.account import Account
from app.upstream.answer import UpstreamAnswer
from app.upstream.call import UpstreamCall
from app.upstream.connect import UpstreamClient
from app.wire import response, whole_response
from app.wire.body import Json, join_array, join_object
from app.wire.input_items import LONGEST_SEALED
from app.wire.slices import decode

# A context is taken apart into its items, and each of them is decoded to be counted.
_COPIES = 2
# Of what the user has said, as much as stays word for word beside the summary in a context that is continued by its id.
_RETAINED_TOKENS = 20_000


class Compactor:
    """Has contexts summarised, each by the model and the accounts that its own call would go to."""

    def __init__(self, upstream: UpstreamClient, sealer: Sealer, max_answer_bytes: int, offload: Offload) -> None:
        self._offload = offload
        self._upstream = upstream
        self._sealer = sealer
        self._max_answer_bytes = max_answer_bytes
        self._summaries = Summaries()

    async def compact(
        self, exchange: Exchange, call: UpstreamCall, reserve: Reserve
    ) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """The answer to a compact call, headers and body: upstream's own where the account has compaction, else ours.

        Raises what opening and reading the call raises, and UpstreamError for an answer without a summary.
        """

        def render(account: Account) -> bytes:
            if account.upstream.offers("compact"):
                return exchange.standalone(account)
            return summary_request(exchange, exchange.context(account.name), account)

        size = exchange.size
        await reserve(size * _COPIES)
        asked = replace(call, render=render, endpoint="compact", large_bytes=size, without_reasoning=None)
        answer = await self._upstream.open(asked)
        try:
            raw, facts = await self._read(answer, call.entry, reserve)
        finally:
            await answer.aclose()
        if answer.account.upstream.offers("compact"):
            if facts is None:
                raise UpstreamError("Upstream's answer is not a compaction.", code="upstream_invalid_answer")
            return answer.headers, raw
        summary = summary_in(facts, exchange)
        body = await self._offload.run(exchange.size, self._compacted, exchange, answer.account.name, summary)
        return answer.headers, body

    async def relieve(self, exchange: Exchange, call: UpstreamCall, reserve: Reserve, metered: MeteredCall) -> Exchange:
        """The exchange with its context made short, if it asks for that, is long enough, and upstream cannot.

        The account that the call goes to first decides whether upstream can. The summary is metered by itself. The
        exchange stays as it is where its context cannot be made short, for whatever reason: upstream may take it all
        the same.
        """
        try:
            made = await self._made(exchange, call, reserve, metered)
        except (UpstreamError, OverloadedError) as error:
            forget_frames(error)
            note(not_compacted=error.code or error.status)
            return exchange
        return exchange if made is None else replace(exchange, compaction=made)

    async def _made(
        self, exchange: Exchange, call: UpstreamCall, reserve: Reserve, metered: MeteredCall
    ) -> Compaction | None:
        """Make what is to stand for the context of this call, if anything is. Raises as `compact` does."""
        threshold = _threshold(exchange)
        account = self._upstream.first(call)
        # A prompt template's model is known to upstream alone.
        if threshold is None or not exchange.request.model or account.upstream.offers("compact"):
            return None
        size = exchange.size
        await reserve(size * _COPIES)
        items, tokens = await self._offload.run(size, _measured, exchange, account)
        if tokens < threshold:
            return None
        history, unanswered = await self._offload.run(size, compaction.cut, items)
        # What only one account can read cannot go on inside an item that every account is sent.
        if not history or any(item.account is not None for item in unanswered):
            return None
        kept = await self._offload.run(size, compaction.retained, history, threshold // 2, unanswered)
        if kept is None or not (replaced := await self._offload.run(size, compaction.replaced_tokens, history, kept)):
            return None

        key = exchange.caller.project_id, await self._offload.run(size, digest, exchange, history, account)
        summary = self._summaries.find(key)
        if summary is None:
            async with metered.summary(exchange.request, tokens) as entry:
                summary = await self._summarised(exchange, replace(call, entry=entry), reserve)
            self._summaries.keep(key, summary)
        text, usage = summary

        def shortened() -> Compaction | None:
            said = compaction.summary(text)
            content = b",".join([*kept, said, *[item.content for item in unanswered]])
            if estimate_item(said) >= replaced or len(content) > compaction.LARGEST_CONTENT:
                return None
            item = compaction.compaction_item(self._sealer.seal(exchange.caller.project_id, content))
            return Compaction(item, content, orjson.loads(bytes(usage)), key)

        return await self._offload.run(size, shortened)

    def open(self, exchange: Exchange, call: UpstreamCall, reserve: Reserve) -> Awaitable[UpstreamAnswer]:
        """Ask upstream for this exchange's response, or have the compaction made that it asks for.

        Raises what opening the call raises, and as `compact` does.
        """
        if exchange.asks_compaction:
            return self._answer(exchange, call, reserve)
        if exchange.compaction is not None:
            return self._open_shortened(exchange.compaction, call)
        return self._upstream.open(call)

    async def _open_shortened(self, made: Compaction, call: UpstreamCall) -> UpstreamAnswer:
        """Ask with a context that was made short. Where that gets no answer, its summary waits for the next try."""
        answer = await self._upstream.open(call)
        if made.summary_key is not None:
            self._summaries.drop(made.summary_key)
        return answer

    async def _summarised(self, exchange: Exchange, call: UpstreamCall, reserve: Reserve) -> Summary:
        """A summary of what the call continues, by upstream."""

        def render(account: Account) -> bytes:
            history, _ = compaction.cut(exchange.context(account.name))
            return summary_request(exchange, history, account)

        asked = replace(call, render=render, stream=False, large_bytes=exchange.size, without_reasoning=None)
        answer = await self._upstream.open(asked)
        try:
            _, facts = await self._read(answer, call.entry, reserve)
        finally:
            await answer.aclose()
        return summary_in(facts, exchange)

    async def _answer(self, exchange: Exchange, call: UpstreamCall, reserve: Reserve) -> UpstreamAnswer:
        """The answer to a call that asks for a compaction, as its client wants it: a response of that one item.

        Upstream's own where the account makes compactions, else ours of a summary. Raises as `compact` does.
        """

        def render(account: Account) -> bytes:
            if account.upstream.offers("compact"):
                return exchange.render(account)
            context = exchange.context(account.name)
            if not context:
                raise InvalidRequestError("There is nothing before the compaction trigger to compact.", param="input")
            _kept(exchange, context)
            return summary_request(exchange, context, account)

        await reserve(exchange.size * _COPIES)
        answer = await self._upstream.open(replace(call, render=render, stream=False, large_bytes=exchange.size))
        if answer.account.upstream.offers("compact"):
            return answer
        try:
            _, facts = await self._read(answer, call.entry, reserve)
            made = await self._offload.run(exchange.size, self._response, exchange, answer.account.name, facts)
        except BaseException:
            await answer.aclose()
            raise
        if not exchange.request.stream:
            return answer.rewritten({**answer.told, b"content-type": b"application/json"}, made)
        frames = b"".join(whole_response.stream(made))
        return answer.rewritten({**answer.told, b"content-type": b"text/event-stream; charset=utf-8"}, frames)

    def _response(self, exchange: Exchange, account: str, facts: response.ResponseFacts | None) -> bytes:
        """The response whose output is a compaction of all that the call continues and says."""
        text, usage = summary_in(facts, exchange)
        model = (facts.model if facts else "") or exchange.request.model
        tier = facts.service_tier if facts else None
        kept = _kept(exchange, exchange.context(account))
        item = compaction.compaction_item(self._sealed(exchange, b",".join([*kept, compaction.summary(text)])))
        return whole_response.completed(exchange.request.fields, [item], usage, model, tier)

    def _compacted(self, exchange: Exchange, account: str, made: Summary) -> bytes:
        """What a compact call is answered where this gateway compacts."""
        item = compaction.compaction_item(self._sealed(exchange, compaction.summary(made.text)))
        said = compaction.user_messages(exchange.context(account))
        return join_object(
            {
                "id": Json(orjson.dumps(new_id("resp"))),
                "object": Json(b'"response.compaction"'),
                "created_at": Json(b"%d" % time.time()),
                "output": Json(join_array([*map(listed, said), item])),
                "usage": made.usage,
            }
        )

    def _sealed(self, exchange: Exchange, content: bytes) -> str:
        sealed = self._sealer.seal(exchange.caller.project_id, content)
        if len(sealed) > LONGEST_SEALED:
            raise _too_large()
        return sealed

    async def _read(
        self, answer: UpstreamAnswer, entry: Entry | None, reserve: Reserve
    ) -> tuple[bytes, response.ResponseFacts | None]:
        """Read the answer, as bytes and as facts, and note what it took: before it is closed, as caps count it then."""
        raw = await answer.read_whole(self._max_answer_bytes, reserve)
        if answer.is_stream:
            # Some upstreams stream whatever they are asked for.
            raw = await self._offload.run(len(raw), gathered, raw)
        return raw, await self._offload.run(len(raw), facts_of, raw, entry)


def context_tokens(exchange: Exchange, context: Iterable[Item]) -> int:
    """How many tokens the call has with this context, by estimate."""
    return estimate_request({**exchange.request.fields, "input": (decode(item.content) for item in context)})


def _measured(exchange: Exchange, account: Account) -> tuple[list[Item], int]:
    """The context of a call, and how many tokens it has."""
    items = exchange.context(account.name)
    return items, context_tokens(exchange, items)


def _kept(exchange: Exchange, context: list[Item]) -> list[bytes]:
    """Cut what an item that answers a trigger holds beside the summary. Raises InvalidRequestError.

    Where the turn is kept it may be continued by its id, and then the item stands for the whole context.
    """
    kept = [] if exchange.memory is None else compaction.retained(context, _RETAINED_TOKENS)
    if kept is None:
        raise _too_large()
    return kept


def _too_large() -> InvalidRequestError:
    return InvalidRequestError("The input is too large to be compacted.", param="input")


def _threshold(exchange: Exchange) -> int | None:
    """From how many tokens on the client wants its context compacted; None where it leaves that to upstream."""
    edits = exchange.request.fields.get("context_management") or ()
    limits = [edit.get("compact_threshold") for edit in edits if edit["type"] == "compaction"]
    return min([limit for limit in limits if limit is not None], default=None)
