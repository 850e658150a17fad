"""One call as the ledger has it: whose, what it took and how it ended; never what was said."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from app.state.records import Usage

Endpoint: TypeAlias = Literal["responses", "compact", "input_tokens"]
Affinity: TypeAlias = Literal["kept", "moved"]
Grouping: TypeAlias = Literal["project", "key", "model", "upstream", "day", "hour"]


# The collector need not look at the thousands that wait to be written: an entry is in no cycle.
class Entry(msgspec.Struct, gc=False):
    """Filled in while the call goes on, by the rooms that it passes. `at` is unix seconds, `*_ms` are milliseconds.

    `model` is what the client asked for, `model_served` what upstream says it was. `account` is the last that was
    asked, `attempts` counts how often one was. `affinity` says whether the call met the account that it preferred.
    `status` is the HTTP status that the client was told, 499 where it had left; `response_status` that of the response,
    which `is_stored` where it was to be kept. `started` is monotonic seconds, `cost_nano` nano-dollars where known.

    `service_tier` is the one that upstream says it served. `usage` is upstream's word once the call `is_metered`. Where
    upstream did not say, it is estimated at the end (`is_estimated`), from the `input_bytes` of the request, the
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
    usage: Usage | None = None
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


class Recorded(NamedTuple):
    """An entry as it is read back. One recorded later has a larger `key`. Its usage has no total, but its parts."""

    key: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class UsageSum:
    """What the calls of one group took together. What was not grouped by is None; `begins` is a day's or an hour's.

    An `upstream` of "" is that of calls for which none was asked. `cost_nano` (nano-dollars) is that of the calls whose
    price is known; `unpriced_requests` have used tokens at a price that is not, and what `estimated_requests` used is
    known by estimate. `kept_*` are the calls that met the account which had their context in its cache, `moved_*` those
    that did not.
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
