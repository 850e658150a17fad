"""Hold one call from admitted to settled: the request, the state that it builds on, and its body for one account."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

import orjson

from app.relay.call.reservation import NOTHING
from app.relay.history.base import History
from app.relay.stream.accumulator import StreamAccumulator
from app.runtime.byte_budget import Reserve, reserve_nothing
from app.runtime.compute_thread import ComputeThread
from app.settings.upstreams import Endpoint
from app.state.items.account_bound import was_made_by_upstream
from app.state.items.compacted import Compaction, is_sealed_reasoning
from app.state.items.history_input import items_sent, replay
from app.state.items.stored_form import input_items
from app.state.items.token_estimate import estimate_history
from app.state.records import ApiKey, Chain, Item
from app.state.usage import UsageEntry
from app.upstream.account import Account
from app.upstream.call.upstream_call import UpstreamCall
from app.wire.json.sliced_decoder import decode
from app.wire.json_body import Json, elements, join_around, join_array, join_object
from app.wire.requests.create import CreateRequest
from app.wire.requests.input_items import TRIGGER, item_type
from app.wire.responses.tool_secrets import ToolSecrets

_GATEWAY_STATE = ("previous_response_id", "conversation", "background")
_NOT_STORED = Json(b"false")
_TRIGGER = b'{"type":"compaction_trigger"}'
_REASONING_ALONE = Json(b'["reasoning.encrypted_content"]')
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Exchange(UpstreamCall):
    """Record one call from admitted to settled, each step filling in its part; it is also the call that upstream gets.

    `request`, `caller`, the `headers` and the usage `entry` are there at first; the meter adds the `grant`.
    `Preparer.prepare` adds what the call builds on: the `chain` and the `items` of its own input, left out where
    neither upstream nor the store needs them. `refers` says that some items stand for references, which no upstream is
    sent. `expand` turns a compaction into what an upstream is sent for it, and `is_sealed` says that the input has a
    compaction or reasoning that this gateway sealed. `has_triggers`: some input asks for something and says nothing;
    `asks_compaction`: the last input does. `is_large`: work on the whole context is for `app.runtime.compute_thread`.

    `compaction` stands for the whole context where that was made short. The `answer` accumulates a stream.

    The turn is settled in `history`, if anywhere, and can be continued where it `is_kept`; then it has its `items`.
    `parent_key` is the row of the turn that it continues, `background_id` the id that a response in the background was
    given before it began, and `created_at` its time as the client was shown it.

    Invariant: a running stream holds what its settling needs, and not the prompt (`release_prompt`).
    """

    __slots__ = (
        "answer",
        "asks_compaction",
        "background_id",
        "caller",
        "chain",
        "compaction",
        "created_at",
        "expand",
        "grant",
        "has_triggers",
        "history",
        "is_kept",
        "is_large",
        "is_sealed",
        "items",
        "parent_key",
        "refers",
        "request",
    )

    def __init__(  # Without keywords for the parent class: every call makes an Exchange, and they triple the time.
        self,
        request: CreateRequest,
        caller: ApiKey,
        headers: Mapping[str, str] = _NO_HEADERS,
        entry: UsageEntry | None = None,
    ) -> None:
        self.caller = caller
        self.project_id = caller.project_id
        self.surface = "responses"
        self.headers = headers
        self.entry = entry or UsageEntry.unrecorded()
        self.endpoint: Endpoint | None = None
        self.method, self.path = "POST", ""
        self.prefer: str | None = None
        self.only: str | None = None
        self.unfit: frozenset[str] = frozenset()
        self.grant = NOTHING
        self.chain: Chain | None = None
        self.items: tuple[Item, ...] = ()
        self.refers = False
        self.expand: Callable[[bytes], bytes] = bytes
        self.is_sealed = False
        self.has_triggers = False
        self.asks_compaction = False
        self.compaction: Compaction | None = None
        self.answer: StreamAccumulator | None = None
        self.history: History | None = None
        self.is_kept = False
        self.parent_key: int | None = None
        self.background_id: str | None = None
        self.created_at: Json | None = None
        self.without_reasoning: set[str] | None = None
        self.reserve: Reserve = reserve_nothing
        self.ask(request)

    def ask(self, request: CreateRequest) -> None:
        """Set the request: a background run reads its request only when it begins."""
        self.request = request
        self.model = request.model
        self.stream = request.stream
        self.is_background = request.background
        self.is_beta = request.is_beta
        cache_key = request.fields.get("prompt_cache_key")
        self.cache_key = cache_key if isinstance(cache_key, str) else None
        self.secrets = ToolSecrets.of(request.fields)
        self.is_large = request.is_large
        self.large_bytes = 0

    @property
    def size(self) -> int:
        """Return the bytes of the chain and the request."""
        return (self.chain.size if self.chain else 0) + self.request.size

    @property
    def own_items(self) -> int:
        """Return how many items the client has sent; a text is one."""
        given = self.request.input
        return 1 if isinstance(given, str) else len(given or ())

    @property
    def may_be_shortened(self) -> bool:
        """Tell whether the client lets its context be compacted, once that is long enough."""
        return "context_management" in self.request.members and not self.asks_compaction

    @property
    def turn_size(self) -> int:
        """Return the bytes held until the turn is settled: its own input where that is kept, and a compaction."""
        made = 0 if self.compaction is None else len(self.compaction.item)
        return made + sum([len(item.content) for item in self.items])

    def release_prompt(self) -> None:
        """Release what upstream was sent, once it answers; a turn that is kept has its items."""
        self.request.release()
        self.chain = None
        if not self.is_kept:
            self.items = ()

    def variation(
        self,
        body_of: Callable[[Account], bytes],
        *,
        endpoint: Endpoint | None = None,
        entry: UsageEntry | None = None,
        asks_for_reasoning: bool = False,
    ) -> UpstreamCall:
        """Make another call to the accounts of this call, for a whole answer: with a body made of the whole context."""
        return UpstreamCall(
            model=self.model,
            prefer=self.prefer,
            only=self.only,
            cache_key=self.cache_key,
            project_id=self.project_id,
            body_of=body_of,
            headers=self.headers,
            endpoint=endpoint,
            entry=entry or self.entry,
            is_background=self.is_background,
            large_bytes=self.size,
            secrets=self.secrets,
            is_beta=self.is_beta,
            without_reasoning=self.without_reasoning if asks_for_reasoning else None,
            reserve=self.reserve,
        )

    async def history_tokens(self, compute_thread: ComputeThread) -> int:
        """Estimate the tokens of the history: of the chain, and of the items that the input refers to."""
        if self.compaction is not None:
            contents = [self.compaction.content]
        else:
            contents = [turn.content for turn in self.chain.turns] if self.chain else []
            contents += [item.content for item in self.items if item.served_by is not None]
        if self.is_large:
            return await compute_thread.run(self.size, estimate_history, contents)
        return estimate_history(contents)

    def render(self, account: Account) -> bytes:
        """Render the request body for this account: stateless, with the whole history, all else as the client sent it.

        An upstream that keeps chains itself gets the client's own body, unless it has not seen the chain.
        """
        members, history = self._standalone(account)
        if account.upstream.state == "gateway":
            members["store"] = _NOT_STORED
            self._ask_for_reasoning(members, account)
        if "context_management" in members and not account.upstream.offers("compact"):
            del members["context_management"]
        if self.asks_compaction and account.upstream.offers("compact"):
            history = [*(history or ()), _TRIGGER]
        return sendable(members, account, history)

    def standalone(self, account: Account) -> bytes:
        """Render the request with its history in the input, as far as this account does not know it."""
        members, history = self._standalone(account)
        return sendable(members, account, history)

    def _standalone(self, account: Account) -> tuple[dict[str, Json], Sequence[bytes] | None]:
        """Return the request's members, and the elements that replace those of its input, if any do."""
        members = dict(self.request.members)
        history: Sequence[bytes] | None = None
        is_stateless = account.upstream.state == "gateway"
        needs_history = is_stateless or self.compaction is not None or not self._is_known_to(account)
        if needs_history:
            for name in _GATEWAY_STATE:
                members.pop(name, None)
        if self.compaction is not None:
            history = [self.compaction.content]
        elif needs_history and (self.chain or self.refers):
            turns = self.chain.turns if self.chain else ()
            history = replay(turns, self.items, account.reads, self.expand)
        elif self.is_sealed or self.has_triggers:
            history = [*self._expanded(elements(members["input"]), account)]
        return members, history

    def context(self, account: str) -> list[Item]:
        """Return all items of the call and its history that this account can read, oldest first; none that was sealed.

        A compaction of this gateway's is replaced by what was kept of the context before it.
        """
        items = self.items
        if not items and self.request.input is not None:
            items = input_items(self.request.input, self.request.members["input"], {})
        context: list[Item] = []
        for item in items_sent(self.chain.turns if self.chain else (), items, {None, account}):
            content = self.expand(item.content) if item.type == "compaction" else item.content
            if content == item.content:
                context.append(item)
            else:
                stood_for = b"[%b]" % content
                context += input_items(decode(stood_for), stood_for, {})
        return context

    def _is_known_to(self, account: Account) -> bool:
        """Tell whether this account's upstream has all that the call continues. No upstream knows our conversations."""
        if self.request.conversation_id is not None:
            return False
        if self.chain is None:
            return {self.prefer, *[item.served_by for item in self.items]} <= {None, account.name}
        return self.chain.is_stored and was_made_by_upstream(self.chain.turns[-1], account.name)

    def _expanded(self, given: Iterable[bytes], account: Account) -> Iterator[bytes]:
        is_native = not account.upstream.is_translated
        for item, raw in zip(self.request.input or (), given, strict=True):
            if item.get("type") != TRIGGER and not (is_native and is_sealed_reasoning(item)):
                yield self.expand(raw) if item_type(item) == "compaction" else raw

    def _ask_for_reasoning(self, members: dict[str, Json], account: Account) -> None:
        if self.without_reasoning is None or account.upstream.name in self.without_reasoning:
            return
        included = members["include"] if self.request.fields.get("include") else None
        members["include"] = (
            _REASONING_ALONE
            if included is None
            else Json(join_array([*elements(included), b'"reasoning.encrypted_content"']))
        )


def sendable(members: dict[str, Json], account: Account, history: Sequence[bytes] | None = None) -> bytes:
    """Join these members to a body for the account: with upstream's model name, without members it does not know.

    A `history` replaces the input, as its elements.
    """
    if account.upstream.aliases and "model" in members:
        asked = orjson.loads(bytes(members["model"]))
        members["model"] = Json(orjson.dumps(account.upstream.aliases.get(asked, asked)))
    for name in account.upstream.strip:
        members.pop(name, None)
    if history is None or "input" in account.upstream.strip:
        return join_object(members)
    members.setdefault("input", _NOT_STORED)
    return join_around(members, "input", history)
