"""One call in flight on an account. Must not know what the call is, nor who else is in flight."""

from collections.abc import Callable

from app.state.ledger import Entry
from app.upstream.account import Account
from app.upstream.faults import Fault
from app.upstream.health import Illness
from app.upstream.seat import Seat


class Lease:
    """It counts until it is ended. `wanted` names the account that was wished for, if one was.

    `probed` is the illness whose end the call is to find out, if it is a probe. The `entry` knows in the end how many
    tokens the call has used, and `fault` is what its answer has said against the account.
    """

    __slots__ = ("_ended", "_is_live", "account", "entry", "fault", "model", "probed", "seat", "wanted")

    def __init__(self, seat: Seat, model: str, ended: Callable[["Lease"], None], wanted: str | None = None) -> None:
        self.seat = seat
        self.account: Account = seat.account
        self.model = model
        self.wanted = wanted
        self.probed: Illness | None = None
        self.entry: Entry | None = None
        self.fault: Fault | None = None
        self._ended = ended
        self._is_live = True
        seat.in_flight += 1
        seat.load = (seat.in_flight + 1) * seat.share

    def end(self) -> None:
        """The call is over. May be called again."""
        if self._is_live:
            self._is_live = False
            seat = self.seat
            seat.in_flight -= 1
            seat.load = (seat.in_flight + 1) * seat.share
            self._ended(self)
