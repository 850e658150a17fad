"""From a valid request to what upstream is sent: the state it builds on, read once, and its body for one account."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from app.relay.memory import Memory
from app.state.items import input_items, references
from app.state.records import ApiKey, Chain, Item
from app.state.replay import check_calls, replay
from app.upstream.account import Account
from app.wire import wording
from app.wire.body import LARGE_BYTES, Json, elements, join_array, join_object
from app.wire.requests import CreateRequest

_GATEWAY_STATE = ("previous_response_id", "conversation", "background")
_NOT_STORED = Json(b"false")
_ENCRYPTED_REASONING = b'"reasoning.encrypted_content"'


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """What has to be known of a turn until it is settled; the prompt is not held until then.

    It will be kept in `memory`, if anywhere. `items` is the turn's input: none where nothing will be kept. `store` is
    what the client asked. `parent_key` is the row of the turn it continues, `background_id` the id that a response in
    the background was given before it began.
    """

    caller: ApiKey
    model: str
    store: bool
    previous_response_id: str | None
    parent_key: int | None
    items: tuple[Item, ...]
    memory: Memory | None
    conversation_id: str | None = None
    background_id: str | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """One call: what the client asked, for whom, what it continues, and its own input as items.

    `items` are left out where neither the replay nor the store needs them. `refers` says that some of them stand for
    references, which no upstream is sent. `memory` is where its outcome is kept; None where nothing is.
    """

    request: CreateRequest
    caller: ApiKey
    chain: Chain | None
    items: tuple[Item, ...]
    refers: bool
    memory: Memory | None

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
        )

    @property
    def prefer(self) -> str | None:
        """The account that served the chain so far: the one that can read all of it.

        A client that names stored items in place of a chain has one too: that of the latest item only one can read,
        else the one that served the latest of them, which alone can look its id up where upstream keeps the state.
        """
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
        members = dict(self.request.members)
        keeps_state = account.upstream.state == "upstream"
        if not (keeps_state and self.prefer in {None, account.name}):
            for name in _GATEWAY_STATE:
                members.pop(name, None)
            if self.chain or self.refers:
                turns = self.chain.turns if self.chain else ()
                members["input"] = Json(join_array(replay(turns, self.items, account.name)))
        if not keeps_state:
            members["store"] = _NOT_STORED
            self._ask_for_reasoning(members)
        for name in account.upstream.strip:
            members.pop(name, None)
        return join_object(members)

    def _ask_for_reasoning(self, members: dict[str, Json]) -> None:
        """Ask for reasoning in the form that can be replayed, where this turn may be continued.

        Models that do not reason refuse that, so it is asked for only where the client speaks of reasoning itself.
        """
        if self.request.store and self.request.fields.get("reasoning"):
            included = elements(members["include"]) if self.request.fields.get("include") else []
            if _ENCRYPTED_REASONING not in included:
                members["include"] = Json(join_array([*included, _ENCRYPTED_REASONING]))


async def prepare(request: CreateRequest, caller: ApiKey, memory: Memory, *, keep: bool) -> Exchange:
    """Read the state that the request names; with `keep` its outcome will go to the same memory.

    Raises the API's own errors for ids this project does not have.
    """
    chain = None
    if request.previous_response_id is not None:
        chain = await memory.read_chain(caller.project_id, request.previous_response_id, int(time.time()))
        if chain is None:
            raise wording.previous_response_not_found(request.previous_response_id)
    named = references(request.input)
    resolved: Mapping[str, Item] = {}
    if named:
        resolved = await memory.read_items(caller.project_id, named, int(time.time()))
        for item_id in sorted(named - resolved.keys()):
            raise wording.item_not_found(item_id)
    items: tuple[Item, ...] = ()
    if request.input is not None and (keep or chain is not None or named):
        given, raw = request.input, request.members["input"]
        is_large = len(memoryview(raw)) >= LARGE_BYTES
        items = (
            await asyncio.to_thread(input_items, given, raw, resolved)
            if is_large
            else input_items(given, raw, resolved)
        )
    if chain is not None:
        check_calls(chain, items)
    return Exchange(request, caller, chain, items, refers=bool(named), memory=memory if keep else None)
