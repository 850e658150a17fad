"""The records that pass between the rooms: what is kept of a turn, and what a chain is when it is read back."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Item:
    """One input or output item of a turn, as it is kept and replayed.

    `content` is the item's JSON object in the form a stateless upstream takes it: without its id, unless
    the type requires one. `account` names the only account that can read the item (reasoning, compaction, hosted
    tools); None means that any can. `call_id` pairs a call with its output. `served_by` is the account whose turn it
    stands in, known of an item that was read by its id.
    """

    id: str
    type: str
    is_output: bool
    content: bytes
    account: str | None = None
    call_id: str | None = None
    served_by: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as upstream reported them."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Turn:
    """One stored turn of a chain. `items` holds its input and then its output, in order."""

    status: str
    account: str
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """A response and all its ancestors, oldest turn first. `key` is the tip's row: a new turn's `parent_key`."""

    key: int
    turns: tuple[Turn, ...]

    @property
    def account(self) -> str:
        """The account that served the latest turn: the one its continuation prefers."""
        return self.turns[-1].account


@dataclass(frozen=True, slots=True)
class Project:
    """Who owns responses and items. `retention_days` None means the setting's default."""

    id: str
    name: str
    retention_days: int | None
    created_at: int


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A client's key as it is kept: never the key itself. `hint` is its last four characters."""

    id: str
    project_id: str
    name: str
    hint: str
    created_at: int
    revoked_at: int | None
    retention_days: int | None
