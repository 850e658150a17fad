"""The records that pass between the rooms: what is kept of a turn, and what a chain is when it is read back."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

import msgspec
from msgspec.structs import astuple

from app.state.policy import ANY_KEY, ANY_PROJECT, KeyPolicy, ProjectPolicy, allows_model

NO_ACCOUNT = ""
"""The account of an item that is kept, but that no upstream can be given again."""

# Of a chain: the first are looked at one by one, and the others copied.
_MANY_ITEMS, _MANY_BYTES = 2_000, 1_000_000

# What a column of the database holds.
_LARGEST_COUNT = 2**63 - 1
_COUNTS = {int}
_NOTHING_TOLD: Mapping[str, Any] = MappingProxyType({})

_FACTS = msgspec.msgpack.Decoder(tuple[tuple[str, bool, int, str | None, str | None], ...])


class Item(msgspec.Struct, frozen=True):
    """One input or output item of a turn, as it is kept and replayed.

    `content` is the item's JSON object in the form a stateless upstream takes it: without its id, unless
    the type requires one. `account` names the only account that can read the item (reasoning, compaction, hosted
    tools); None means that any can. `call_id` pairs a call with its output. Known of an item that was read by its id:
    `served_by` is the account whose turn it stands in, and `twins` are the items before it there that have its id, too.
    """

    id: str
    type: str
    is_output: bool
    content: bytes
    account: str | None = None
    call_id: str | None = None
    served_by: str | None = None
    twins: tuple["Item", ...] = ()


class Usage(msgspec.Struct, frozen=True):
    """Token counts as upstream reported them, and how often it searched: what a response is paid for by.

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
        """The `usage` of a response object with so many searches; what is no count in it is 0."""
        if counts is None:
            return None
        given, made = counts.get("input_tokens_details"), counts.get("output_tokens_details")
        given = given if type(given) is dict else _NOTHING_TOLD
        made = made if type(made) is dict else _NOTHING_TOLD
        told: tuple[Any, ...] = (
            counts.get("input_tokens"),
            counts.get("output_tokens"),
            counts.get("total_tokens"),
            given.get("cached_tokens", 0),
            made.get("reasoning_tokens", 0),
            # Most upstreams do not say.
            given.get("cache_write_tokens", 0),
            web_searches,
            file_searches,
        )
        if set(map(type, told)) != _COUNTS or min(told) < 0 or max(told) > _LARGEST_COUNT:
            told = tuple([count if type(count) is int and 0 <= count <= _LARGEST_COUNT else 0 for count in told])
        return cls(*told)

    def plus(self, other: "Usage") -> "Usage":
        """What both took together."""
        return Usage(*[ours + theirs for ours, theirs in zip(astuple(self), astuple(other), strict=True)])


# Not frozen, though nobody changes it: every turn makes one, and a frozen one costs thrice as much.
@dataclass(slots=True)
class StoredResponse:
    """One finished turn, as it is written. Times are unix seconds; `body` is the response object as GET returns it."""

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
    usage: Usage | None
    items: tuple[Item, ...]

    @property
    def is_large(self) -> bool:
        """Whether to make a row of it would hold up every other call of the process."""
        return len(self.items) > _MANY_ITEMS

    @property
    def size(self) -> int:
        """What it weighs, in bytes."""
        return len(self.body) + sum([len(item.content) for item in self.items])


class Outline(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a turn without its content: enough to send the usual turn on without looking at its items.

    `reader` says who can be sent the turn's content as it stands: only that account; with None any; with NO_ACCOUNT
    nobody, it goes item by item. `ids` are the items' ids, `items` their other facts (type, is_output, length of the
    content, account, call_id), and `withheld` is the content of the items that nobody can be given again, joined by
    commas.
    """

    status: str
    account: str
    reader: str | None
    ids: tuple[str, ...]
    items: msgspec.Raw
    withheld: bytes

    @property
    def lengths(self) -> list[int]:
        """The length of each item's content."""
        return [length for _, _, length, _, _ in _FACTS.decode(self.items)]

    @property
    def types(self) -> list[str]:
        """The type of each item."""
        return [named for named, *_ in _FACTS.decode(self.items)]

    @property
    def compactions(self) -> list[int]:
        """The places of those that stand for all that is before them, as one that a client has sent does not."""
        if self.reader != NO_ACCOUNT:
            return []
        facts = enumerate(_FACTS.decode(self.items))
        return [place for place, (named, is_output, *_) in facts if is_output and named == "compaction"]


class Turn(msgspec.Struct, frozen=True):
    """One stored turn of a chain. `content` is that of its items which can be given again, joined by commas."""

    outline: Outline
    content: bytes

    @property
    def status(self) -> str:
        """How the response ended."""
        return self.outline.status

    @property
    def account(self) -> str:
        """The account that served it."""
        return self.outline.account

    @property
    def items(self) -> tuple[Item, ...]:
        """Its input and then its output, in order; made at each call."""
        return tuple(self.some(range(len(self.outline.ids))).values())

    def some(self, places: Collection[int]) -> dict[int, Item]:
        """The items at these places, in order; made at each call."""
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
    """A response and all its ancestors, oldest turn first.

    `key` is the row of the latest that is stored: a new turn's `parent_key`. Unless it `is_stored`, others follow that
    only a connection or a conversation remembers, and no upstream either.
    """

    key: int | None
    turns: tuple[Turn, ...]
    is_stored: bool = True

    @property
    def size(self) -> int:
        """What was said in it, in bytes."""
        return sum([len(turn.content) for turn in self.turns])

    @property
    def is_large(self) -> bool:
        """Whether work on all of it would hold up every other call of the process."""
        return sum([len(turn.outline.ids) for turn in self.turns]) > _MANY_ITEMS or self.size > _MANY_BYTES

    @property
    def account(self) -> str | None:
        """The account that served the latest turn of those that one did: the one its continuation prefers."""
        return next((turn.account for turn in reversed(self.turns) if turn.account != NO_ACCOUNT), None)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as it is shown, without what stands in it. `metadata` is the JSON object that its client gave."""

    id: str
    created_at: int
    metadata: bytes


@dataclass(frozen=True, slots=True)
class Project:
    """Who owns responses and items. `retention_days` None means the setting's default.

    `conversation_days` None means what `retention_days` says, else the setting's default. `version` counts its changes:
    who edits it says which one they saw. `erasing_at` is since when all that it has is being removed.
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
    """A key of a client or an administrator, as it is kept: never the key itself. `hint` is its last four characters.

    `owner` names the person or service that has it. `project_policy` is that of its project. `version` counts its
    changes. `granted_by` is the key whose holder gave it the right to administer, or was shown it: it ends with that.
    `is_unrestricted`: neither policy says anything of models or limits. Times are unix seconds.
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
    # Most are, and every call asks.
    is_unrestricted: bool = field(init=False)

    def __post_init__(self) -> None:
        """Compare the policies with those that allow everything, once."""
        key, project = self.policy, self.project_policy
        asks_nothing = key.limits == ANY_KEY.limits and project.limits == ANY_PROJECT.limits
        object.__setattr__(self, "is_unrestricted", asks_nothing and not self.is_bound_to_models)

    @property
    def is_bound_to_models(self) -> bool:
        """Whether there are models that the key or its project does not allow."""
        return not ("*" in self.policy.models and "*" in self.project_policy.models)

    def may_use(self, model: str) -> bool:
        """Whether the key and its project both allow this model."""
        return allows_model(self.policy.models, model) and allows_model(self.project_policy.models, model)

    def is_usable(self, now: int) -> bool:
        """Whether it is neither revoked nor blocked, nor expired."""
        is_alive = self.expires_at is None or now < self.expires_at
        return is_alive and self.revoked_at is None and self.blocked_at is None
