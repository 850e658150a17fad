"""Record the usage of each call: whose, what it took and how it ended; never its content."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Self, TypeAlias

import msgspec

from app.state.records import TokenUsage

Endpoint: TypeAlias = Literal[
    "responses", "compact", "input_tokens", "chat", "embeddings", "completions", "moderations"
]
Affinity: TypeAlias = Literal["kept", "moved"]
Grouping: TypeAlias = Literal["project", "key", "model", "upstream", "day", "hour"]


# Without gc: thousands of entries wait to be written, and none is in a cycle.
class UsageEntry(msgspec.Struct, gc=False):
    """Record a call while it goes on, filled in by each room it passes. `at` is unix seconds, `*_ms` are milliseconds.

    `model` is the client's, `model_served` upstream's. `account` is the last that was asked, in `attempts` attempts.
    `affinity` says whether the call met the account that it preferred. `status` is the HTTP status of the answer, 499
    where the client had left; `response_status` that of the response, which `is_stored` if it was to be kept. `started`
    is monotonic seconds, `cost_nano` nano-dollars where known.

    `service_tier` is the one that upstream says it served. `usage` is upstream's once the call `is_metered`. Where
    upstream reports none, it is estimated at the end (`is_estimated`), from the `input_bytes` of the request, the
    `history_tokens` before it and the `relayed_tokens` of the answer.
    """

    at: int
    request_id: str
    project_id: str
    api_key_id: str
    endpoint: Endpoint
    model: str
    is_stream: bool
    is_background: bool
    started: float = 0.0
    model_served: str | None = None
    account: str | None = None
    attempts: int = 0
    affinity: Affinity | None = None
    response_id: str | None = None
    response_status: str | None = None
    status: int = 200
    error_code: str | None = None
    usage: TokenUsage | None = None
    first_byte_ms: int | None = None
    latency_ms: int | None = None
    is_stored: bool = False
    cost_nano: int | None = None
    service_tier: str | None = None
    is_metered: bool = False
    is_estimated: bool = False
    input_bytes: int = 0
    history_tokens: int = 0
    relayed_tokens: int = 0

    @classmethod
    def unrecorded(cls) -> Self:
        """Make the entry of a call that is not recorded."""
        return cls(0, "", "", "", "responses", "", is_stream=False, is_background=False)


class RecordedEntry(NamedTuple):
    """Read an entry back. One recorded later has a larger `key`. Its usage has parts, and no total."""

    key: int
    entry: UsageEntry


@dataclass(frozen=True, slots=True)
class UsageSum:
    """Sum the calls of one group. Members that were not grouped by are None; `begins` is a day's or an hour's.

    An `upstream` of "" is that of calls for which none was asked. `cost_nano` (nano-dollars) is that of the calls whose
    price is known; `unpriced_requests` used tokens of unknown price, and the usage of `estimated_requests` is
    estimated. `kept_*` are the calls that met the account with their context in its cache, `moved_*` those that did
    not.
    """

    project_id: str | None
    api_key_id: str | None
    model: str | None
    upstream: str | None
    begins: int | None
    requests: int
    errors: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_nano: int
    unpriced_requests: int
    kept_requests: int
    kept_input_tokens: int
    kept_cached_tokens: int
    moved_requests: int
    moved_input_tokens: int
    moved_cached_tokens: int
    cache_write_tokens: int
    estimated_requests: int
