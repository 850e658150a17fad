"""Define what is metered: the request of a call, by what limits ask of it, and the record of the call."""

from collections.abc import Set as AbstractSet
from typing import Any, Protocol

from app.relay.call.reservation import Grant
from app.state.records import ApiKey
from app.state.usage import UsageEntry


class LimitedRequest(Protocol):
    """Tell limits what a request asks for.

    Without `most_output` the client sets no limit of the output, which has a token of each of the `answers` at least.
    """

    fields: dict[str, Any]

    @property
    def model(self) -> str: ...
    @property
    def logged_model(self) -> str: ...
    @property
    def stream(self) -> bool: ...
    @property
    def is_large(self) -> bool: ...
    @property
    def size(self) -> int: ...
    @property
    def given(self) -> Any: ...
    @property
    def known(self) -> AbstractSet[str]: ...
    @property
    def output_member(self) -> str: ...
    @property
    def most_output(self) -> int | None: ...
    @property
    def answers(self) -> int: ...

    def limit_output(self, most: int) -> None:
        """Limit the output, as the client has not."""


class PassedOutput(Protocol):
    """Estimate the tokens that a client got of an answer, of `size` bytes in memory."""

    @property
    def size(self) -> int: ...

    def tokens(self) -> int:
        """Return the estimate."""


class Metered(Protocol):
    """Record a call for the meter: `exchange.Exchange`, or a call that is relayed as it came."""

    grant: Grant

    @property
    def caller(self) -> ApiKey: ...
    @property
    def request(self) -> LimitedRequest: ...
    @property
    def entry(self) -> UsageEntry: ...
    @property
    def answer(self) -> PassedOutput | None: ...
