"""One call and its turn: what the client asked, what that builds on, and its body for one account."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import orjson

from app.offload import Offload
from app.relay.memory import Memory
from app.state.compaction import Compaction
from app.state.estimate import estimate_history
from app.state.items import input_items
from app.state.ledger import Entry
from app.state.ownership import is_upstreams
from app.state.records import ApiKey, Chain, Item
from app.state.replay import replay, standing
from app.upstream.account import Account
from app.wire.body import Json, elements, join_around, join_array, join_object
from app.wire.input_items import TRIGGER, item_type
from app.wire.requests import CreateRequest
from app.wire.slices import decode
from app.wire.tools import ToolSecrets

_GATEWAY_STATE = ("previous_response_id", "conversation", "background")
_NOT_STORED = Json(b"false")
_TRIGGER = b'{"type":"compaction_trigger"}'
_REASONING = "reasoning.encrypted_content"
_REASONING_ALONE = Json(b'["reasoning.encrypted_content"]')


# Not frozen, here and below, though nobody changes them: every call makes one, and a frozen one costs thrice as much.
@dataclass(slots=True)
class OpenTurn:
    """What has to be known of a turn until it is settled; the prompt is not held until then.

    It will be kept in `memory`, if anywhere. `items` is the turn's input: none where nothing will be kept. `store` is
    what the client asked. `parent_key` is the row of the turn it continues, `background_id` the id that a response in
    the background was given before it began, and `created_at` its time as its client was told it. The `entry` is told
    how the turn ended. The `secrets` of its tools are in nothing that is made or kept of it. `is_large`: its settling
    is for `app.offload`.
    """

    caller: ApiKey
    model: str
    store: bool
    previous_response_id: str | None
    parent_key: int | None
    items: tuple[Item, ...]
    memory: Memory | None
    conversation_id: str | None = None
    background: bool = False
    background_id: str | None = None
    created_at: Json | None = None
    compaction: Compaction | None = None
    entry: Entry | None = None
    secrets: ToolSecrets | None = None
    is_large: bool = False

    @property
    def size(self) -> int:
        """Sum the bytes that are held of its input, and of what stands for its context."""
        made = 0 if self.compaction is None else len(self.compaction.item)
        return made + sum([len(item.content) for item in self.items])


@dataclass(slots=True)
class Exchange:
    """One call: what the client asked, for whom, what it continues, and its own input as items.

    `items` are left out where neither the replay nor the store needs them. `refers` says that some of them stand for
    references, which no upstream is sent. `memory` is where its outcome is kept; None where nothing is.

    `expand` makes of a compaction what an upstream is sent for it, and `is_sealed` says that the input has one of this
    gateway's. `is_owned`: the call, or what it continues, names what only one account has; the `owner` has what it
    needs, where that is known. `compaction` stands for the whole context where that was made short. `has_triggers`:
    some input asks for something and says nothing; `asks_compaction`: the last does. `is_large`: work on all of it is
    for `app.offload`. `without_reasoning` names the upstreams that refuse to be asked for encrypted reasoning.
    """

    request: CreateRequest
    caller: ApiKey
    chain: Chain | None
    items: tuple[Item, ...]
    refers: bool
    memory: Memory | None
    expand: Callable[[bytes], bytes] = bytes
    is_sealed: bool = False
    is_owned: bool = False
    is_large: bool = False
    compaction: Compaction | None = None
    owner: str | None = None
    has_triggers: bool = False
    asks_compaction: bool = False
    secrets: ToolSecrets | None = None
    without_reasoning: set[str] = field(default_factory=set)

    @property
    def size(self) -> int:
        """What it continues and says, in bytes."""
        return (self.chain.size if self.chain else 0) + self.request.size

    async def history_tokens(self, offload: Offload) -> int:
        """How many tokens there are, by estimate, of what it continues and refers to."""
        if self.compaction is not None:
            contents = [self.compaction.content]
        else:
            contents = [turn.content for turn in self.chain.turns] if self.chain else []
            contents += [item.content for item in self.items if item.served_by is not None]
        if self.is_large:
            return await offload.run(self.size, estimate_history, contents)
        return estimate_history(contents)

    @property
    def turn(self) -> OpenTurn:
        """What the settling of this call needs."""
        request = self.request
        return OpenTurn(
            caller=self.caller,
            model=request.model,
            store=request.store,
            previous_response_id=request.previous_response_id,
            parent_key=self.chain.key if self.chain else None,
            items=self.items if self.memory else (),
            memory=self.memory,
            conversation_id=request.conversation_id,
            background=request.background,
            compaction=self.compaction,
            secrets=self.secrets,
            # A compaction may hold far more than the request says.
            is_large=self.request.is_large or self.compaction is not None,
        )

    @property
    def prefer(self) -> str | None:
        """The account that served the chain so far: the one that can read all of it.

        A client that names stored items in place of a chain has one too: that of the latest item only one can read,
        else the one that served the latest of them, which alone can look its id up where upstream keeps the state.
        """
        if self.owner is not None:
            return self.owner
        if self.chain:
            return self.chain.account
        if not self.refers:
            return None
        latest_first = self.items[::-1]
        bound = next((item.account for item in latest_first if item.account), None)
        return bound or next((item.served_by for item in latest_first if item.served_by), None)

    def render(self, account: Account) -> bytes:
        """The request body for this account: stateless, the whole history in it, all else as the client sent it.

        An upstream that keeps chains itself gets the client's own body, unless the chain is one that it has not seen.
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
        """The request with all that it continues in its input, as far as this account needs to be told."""
        members, history = self._standalone(account)
        return sendable(members, account, history)

    def _standalone(self, account: Account) -> tuple[dict[str, Json], Sequence[bytes] | None]:
        """Its members, and the elements that its input has in place of what the client sent, if it has others."""
        members = dict(self.request.members)
        history: Sequence[bytes] | None = None
        told = account.upstream.state == "gateway" or self.compaction is not None or not self._is_known_to(account)
        if told:
            for name in _GATEWAY_STATE:
                members.pop(name, None)
        if self.compaction is not None:
            history = [self.compaction.content]
        elif told and (self.chain or self.refers):
            turns = self.chain.turns if self.chain else ()
            history = replay(turns, self.items, account.name, self.expand)
        elif self.is_sealed or self.has_triggers:
            history = [*self._expanded(elements(members["input"]))]
        return members, history

    def context(self, account: str) -> list[Item]:
        """All that the call continues and says, as far as this account can read it, oldest first.

        In the place of a compaction of this gateway's stands what was kept of the context before it.
        """
        items = self.items
        if not items and self.request.input is not None:
            items = input_items(self.request.input, self.request.members["input"], {})
        context: list[Item] = []
        for item in standing(self.chain.turns if self.chain else (), items, account):
            content = self.expand(item.content) if item.type == "compaction" else item.content
            if content == item.content:
                context.append(item)
            else:
                stood_for = b"[%b]" % content
                context += input_items(decode(stood_for), stood_for, {})
        return context

    def _is_known_to(self, account: Account) -> bool:
        """Whether this account's upstream has all that the call continues. No upstream knows our conversations."""
        if self.request.conversation_id is not None:
            return False
        if self.chain is None:
            return {self.prefer, *[item.served_by for item in self.items]} <= {None, account.name}
        return self.chain.is_stored and is_upstreams(self.chain.turns[-1], account.name)

    def _expanded(self, given: Iterable[bytes]) -> Iterator[bytes]:
        for item, raw in zip(self.request.input or (), given, strict=True):
            if item.get("type") != TRIGGER:
                yield self.expand(raw) if item_type(item) == "compaction" else raw

    @property
    def asks_for_reasoning(self) -> bool:
        """Whether it asks for reasoning in the form that can be replayed, though its client did not.

        It does where the turn may be continued, also where the client says nothing of reasoning: many models reason
        unasked. Those that refuse to be asked are found out and remembered (`app.upstream.connect`).
        """
        is_kept = self.request.store or self.memory is not None
        return is_kept and _REASONING not in (self.request.fields.get("include") or ())

    def _ask_for_reasoning(self, members: dict[str, Json], account: Account) -> None:
        if not self.asks_for_reasoning or account.upstream.name in self.without_reasoning:
            return
        included = members["include"] if self.request.fields.get("include") else None
        members["include"] = (
            _REASONING_ALONE
            if included is None
            else Json(join_array([*elements(included), b'"reasoning.encrypted_content"']))
        )


def sendable(members: dict[str, Json], account: Account, history: Sequence[bytes] | None = None) -> bytes:
    """The body of these members, in the account's upstream's name for the model, without those it does not know.

    With a `history` that stands in the place of the input, as its elements.
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
