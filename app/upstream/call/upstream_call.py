"""Describe a call as upstream is asked: its body, headers and endpoint, and what it asks of the pool."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from app.runtime.byte_budget import Reserve, reserve_nothing
from app.settings.upstreams import Endpoint
from app.state.usage import UsageEntry
from app.upstream.account import Account
from app.upstream.pool.selection import PoolRequest
from app.wire.responses.tool_secrets import ToolSecrets


@dataclass(slots=True, kw_only=True)
class UpstreamCall(PoolRequest):
    """Ask any account that serves the model. `body_of` makes the body for the account that is tried.

    `headers` are the client's, by lower-case name. With an `endpoint` the call goes there where the account's upstream
    offers it, else to /responses. A `path` (`/resp_1/cancel`) is appended to that. The `entry` records the account and
    the attempts. A call with `is_background` waits for no account, and is not made twice. `large_bytes`: the bytes that
    `render` works on where that is for `app.runtime.compute_thread`, else 0. The `secrets` of its tools are redacted in
    errors. `is_beta`: the client named OpenAI's beta in its query.

    `without_reasoning` holds the names of the upstreams that `render` does not ask for encrypted reasoning; None where
    it asks for nothing that the client did not.
    """

    body_of: Callable[[Account], bytes] | None = field(default=None, repr=False)
    stream: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    endpoint: Endpoint | None = None
    method: str = "POST"
    path: str = ""
    entry: UsageEntry = field(default_factory=UsageEntry.unrecorded)
    is_background: bool = False
    large_bytes: int = 0
    secrets: ToolSecrets | None = field(default=None, repr=False)
    is_beta: bool = False
    without_reasoning: set[str] | None = None
    reserve: Reserve = field(default=reserve_nothing, repr=False)

    @property
    def own_items(self) -> int | None:
        """Return how many of the items that upstream is sent the caller has sent; None for a body of our own making."""
        return None

    def render(self, account: Account) -> bytes:
        """Make the body for this account; empty for a call without `body_of`."""
        return b"" if self.body_of is None else self.body_of(account)
