"""A call as it is asked of upstream: what is sent, and what it wants of the pool. Must not know who serves it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from app.settings_upstream import Endpoint
from app.state.ledger import Entry
from app.upstream.account import Account
from app.upstream.choice import Wish
from app.wire.tools import ToolSecrets


# Not frozen, though nobody changes it: every call makes one, and a frozen one costs thrice as much.
@dataclass(slots=True, kw_only=True)
class UpstreamCall(Wish):
    """A call for any account that serves the model. `render` makes the body for the account that is tried.

    `headers` are the client's, by lower-case name. With an `endpoint` the call goes there where the account's upstream
    offers it, and elsewhere to where responses are made. A `path` (`/resp_1/cancel`) names what is below that. The
    `entry` is told who was asked, and how often. One in the background waits for no account, and is not made twice.
    `large_bytes`: what `render` works on where that is for `app.offload`, else 0. The `secrets` of its tools are in no
    error. `is_beta`: the client named OpenAI's beta in its query.

    `without_reasoning` holds the names of the upstreams that `render` does not ask for encrypted reasoning; None where
    it asks for nothing that the client did not.
    """

    render: Callable[[Account], bytes] = field(repr=False)
    stream: bool
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    endpoint: Endpoint | None = None
    method: str = "POST"
    path: str = ""
    entry: Entry | None = None
    is_background: bool = False
    large_bytes: int = 0
    secrets: ToolSecrets | None = field(default=None, repr=False)
    is_beta: bool = False
    without_reasoning: set[str] | None = None
