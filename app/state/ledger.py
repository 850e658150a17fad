"""One call as the ledger has it: whose, what it took and how it ended; never what was said."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from app.state.records import Usage

Endpoint: TypeAlias = Literal["responses", "compact", "input_tokens"]
Affinity: TypeAlias = Literal["kept", "moved"]


@dataclass(slots=True)
class Entry:
    """Filled in while the call goes on, by the rooms that it passes. `at` is unix seconds, `*_ms` are milliseconds.

    `model` is what the client asked for, `model_served` what upstream says it was. `account` is the last that was
    asked, `attempts` counts how often one was. `affinity` says whether the call met the account that it preferred.
    `status` is the HTTP status that the client was told, 499 where it had left; `response_status` that of the response.
    """

    at: int
    request_id: str
    project_id: str
    api_key_id: str
    endpoint: Endpoint
    model: str
    is_stream: bool
    is_background: bool
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
    latency_ms: int = 0
