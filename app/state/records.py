"""Define the records that pass between rooms: items, turns, chains, responses, projects and keys."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

import msgspec
from msgspec.structs import astuple

from app.state.policies import ANY_KEY, ANY_PROJECT, KeyPolicy, ProjectPolicy, allows_model

NO_ACCOUNT = ""
"""The account of an item that is stored, but that is sent to no upstream again."""

# Above these a chain is large: items are inspected one by one, bytes are copied.
_MANY_ITEMS, _MANY_BYTES = 2_000, 1_000_000

# The largest number in a column of the database.
_LARGEST_COUNT = 2**63 - 1
_COUNTS = {int}
_NO_DETAILS: Mapping[str, Any] = MappingProxyType({})

_FACTS = msgspec.msgpack.Decoder(tuple[tuple[str, bool, int, str | None, str | None], ...])


class Item(msgspec.Struct, frozen=True):
    """Store one input or output item of a turn, as it is replayed.

    `content` is the item's JSON object in the form a stateless upstream takes it: without its id, unless the type
    requires one. `account` names the only account that can read the item (reasoning, compaction, hosted tools), or
    those of `sealed_for`; None means that any can. `call_id` pairs a call with its output. An item that was read by its
    id also has `served_by`, the account of its turn, and `twins`, the earlier items of that turn with the same id.
    """

    id: str
    type: str
    is_output: bool
    content: bytes
    account: str | None = None
    call_id: str | None = None
    served_by: str | None = None
    twins: tuple["Item", ...] = ()


class TokenUsage(msgspec.Struct, frozen=True):
    """Count tokens as upstream reported them, and searches: what a response is paid for by.

    Of the input tokens `cached_tokens` were read from upstream's cache, and `cache_write_tokens` written to it.
    """

    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0
    web_searches: int = 0
    file_searches: int = 0

    @classmethod
    def of(cls, counts: Mapping[str, Any] | None, web_searches: int = 0, file_searches: int = 0) -> Self | None:
        """Read the `usage` of a response object, and add so many searches; an invalid count is 0."""
        if counts is None:
            return None
        given, made = counts.get("input_tokens_details"), counts.get("output_tokens_details")
        given = given if type(given) is dict else _NO_DETAILS
        made = made if type(made) is dict else _NO_DETAILS
        counted: tuple[Any, ...] = (
            counts.get("input_tokens"),
            counts.get("output_tokens"),
            counts.get("total_tokens"),
            given.get("cached_tokens", 0),
            made.get("reasoning_tokens", 0),
            # Most upstreams leave it out.
            given.get("cache_write_tokens", 0),
            web_searches,
            file_searches,
        )
        if set(map(type, counted)) != _COUNTS or min(counted) < 0 or max(counted) > _LARGEST_COUNT:
            counted = tuple([count if type(count) is int and 0 <= count <= _LARGEST_COUNT else 0 for count in counted])
        return cls(*counted)

    def plus(self, other: "TokenUsage") -> "TokenUsage":
        """Add another usage."""
        return TokenUsage(*[ours + theirs for ours, theirs in zip(astuple(self), astuple(other), strict=True)])


# Not frozen, though it is never changed: every turn makes one, and a frozen one costs thrice as much.
@dataclass(slots=True)
class StoredResponse:
    """Hold a finished turn to be stored. Times are unix seconds; `body` is the response object as GET returns it."""

    id: str
    project_id: str
    api_key_id: str
    parent_key: int | None
    status: str
    model: str
    account: str
    created_at: int
    expires_at: int
    body: bytes
    usage: TokenUsage | None
    items: tuple[Item, ...]

    @property
    def is_large(self) -> bool:
        """Tell whether making a row of it would hold up every other call of the process."""
        return len(self.items) > _MANY_ITEMS

    @property
    def size(self) -> int:
        """Return the bytes of body and items."""
        return len(self.body) + sum([len(item.content) for item in self.items])


class Outline(msgspec.Struct, frozen=True, array_like=True):
    """Describe a turn without its content, enough to send most turns on without inspecting their items.

    `reader` is the account that can be sent the turn's content as it stands; None is any; with NO_ACCOUNT the content
    goes item by item. `ids` are the items' ids, `items` their other facts (type, is_output, length of the content,
    account, call_id), and `withheld` is the content of the items that are sent to no upstream again, joined by commas.
    """

    status: str
    account: str
    reader: str | None
    ids: tuple[str, ...]
    items: msgspec.Raw
    withheld: bytes

    @property
    def lengths(self) -> list[int]:
        """Return the length of each item's content."""
        return [length for _, _, length, _, _ in _FACTS.decode(self.items)]

    @property
    def types(self) -> list[str]:
        """Return the type of each item."""
        return [named for named, *_ in _FACTS.decode(self.items)]

    @property
    def compactions(self) -> list[int]:
        """Return the places of compactions that replace all before them; one that a client sent does not."""
        if self.reader != NO_ACCOUNT:
            return []
        facts = enumerate(_FACTS.decode(self.items))
        return [place for place, (named, is_output, *_) in facts if is_output and named == "compaction"]


read_outline = msgspec.msgpack.Decoder(Outline).decode
"""Reads an outline as it is stored."""


class Turn(msgspec.Struct, frozen=True):
    """Hold a stored turn of a chain. `content` is that of the items that can be sent again, joined by commas."""

    outline: Outline
    content: bytes

    @property
    def status(self) -> str:
        """Return the status of the response."""
        return self.outline.status

    @property
    def account(self) -> str:
        """Return the account that served the turn."""
        return self.outline.account

    @property
    def items(self) -> tuple[Item, ...]:
        """Return the input and then the output, in order; made at each call."""
        return tuple(self.items_at(range(len(self.outline.ids))).values())

    def items_at(self, places: Collection[int]) -> dict[int, Item]:
        """Return the items at these places, in order; made at each call."""
        given = withheld = 0
        found = {}
        facts = _FACTS.decode(self.outline.items)
        for place, (named, is_output, length, account, call_id) in enumerate(facts):
            is_withheld = account == NO_ACCOUNT
            if place in places:
                source, start = (self.outline.withheld, withheld) if is_withheld else (self.content, given)
                content = source[start : start + length]
                found[place] = Item(self.outline.ids[place], named, is_output, content, account, call_id)
            if is_withheld:
                withheld += length + 1
            else:
                given += length + 1
        return found


@dataclass(frozen=True, slots=True)
class Chain:
    """Hold a response and all its ancestors, oldest turn first.

    `key` is the row of the latest stored turn: a new turn's `parent_key`. Unless the chain `is_stored`, further turns
    follow that are in a connection or a conversation alone, and at no upstream either.
    """

    key: int | None
    turns: tuple[Turn, ...]
    is_stored: bool = True

    @property
    def size(self) -> int:
        """Return the bytes of all turns' content."""
        return sum([len(turn.content) for turn in self.turns])

    @property
    def is_large(self) -> bool:
        """Tell whether work on all of it would hold up every other call of the process."""
        return sum([len(turn.outline.ids) for turn in self.turns]) > _MANY_ITEMS or self.size > _MANY_BYTES

    @property
    def account(self) -> str | None:
        """Return the account that served the latest turn that has one: its continuation prefers this account."""
        return next((turn.account for turn in reversed(self.turns) if turn.account != NO_ACCOUNT), None)


@dataclass(frozen=True, slots=True)
class Conversation:
    """Describe a conversation without its items. `metadata` is the JSON object that its client gave."""

    id: str
    created_at: int
    metadata: bytes


@dataclass(frozen=True, slots=True)
class Project:
    """Own responses and items. `retention_days` None means the setting's default.

    `conversation_days` None means `retention_days`, else the setting's default. `version` counts changes: an editor
    names the one it read. `erasing_at` is when the removal of all that the project has began.
    """

    id: str
    name: str
    retention_days: int | None
    created_at: int
    policy: ProjectPolicy = ANY_PROJECT
    version: int = 1
    conversation_days: int | None = None
    erasing_at: int | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Describe the key of a client or an administrator, without the key itself. `hint` is its last four characters.

    `owner` names the person or service that uses it. `project_policy` is its project's. `version` counts its changes.
    `granted_by` is the key whose holder granted it the right to administer, or was shown it: it ends with that key.
    `is_unrestricted`: neither policy limits anything or names models. Times are unix seconds.
    """

    id: str
    project_id: str
    name: str
    hint: str
    created_at: int
    revoked_at: int | None
    retention_days: int | None
    owner: str | None = None
    tags: tuple[str, ...] = ()
    expires_at: int | None = None
    blocked_at: int | None = None
    last_used_at: int | None = None
    version: int = 1
    policy: KeyPolicy = ANY_KEY
    project_policy: ProjectPolicy = ANY_PROJECT
    granted_by: str | None = None
    # Most keys are, and every call asks.
    is_unrestricted: bool = field(init=False)

    def __post_init__(self) -> None:
        """Compare the policies with those that allow everything, once."""
        key, project = self.policy, self.project_policy
        asks_nothing = key.limits == ANY_KEY.limits and project.limits == ANY_PROJECT.limits
        object.__setattr__(self, "is_unrestricted", asks_nothing and not self.is_bound_to_models)

    @property
    def is_bound_to_models(self) -> bool:
        """Tell whether there are models that the key or its project does not allow."""
        return not ("*" in self.policy.models and "*" in self.project_policy.models)

    def may_use(self, model: str) -> bool:
        """Tell whether the key and its project both allow this model."""
        return allows_model(self.policy.models, model) and allows_model(self.project_policy.models, model)

    def is_usable(self, now: int) -> bool:
        """Tell whether the key is neither revoked nor blocked, nor expired."""
        is_alive = self.expires_at is None or now < self.expires_at
        return is_alive and self.revoked_at is None and self.blocked_at is None
