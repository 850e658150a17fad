"""Check out an account for one call: the call counts as in flight until the checkout ends."""

from collections.abc import Callable

from app.state.usage import UsageEntry
from app.upstream.account import Account
from app.upstream.faults.classification import Fault
from app.upstream.pool.cooldown import Cooldown
from app.upstream.pool.member import PoolMember


class Checkout:
    """Count one call in flight on an account until it is ended. `wanted` names the preferred account, if there is one.

    `probed` is the cooldown whose end the call is to find out, if the call is a probe. The `entry` has the tokens used
    in the end, and `fault` what the answer reported against the account.
    """

    __slots__ = ("_ended", "_is_live", "account", "entry", "fault", "member", "model", "probed", "wanted")

    def __init__(
        self, member: PoolMember, model: str, ended: Callable[["Checkout"], None], wanted: str | None = None
    ) -> None:
        self.member = member
        self.account: Account = member.account
        self.model = model
        self.wanted = wanted
        self.probed: Cooldown | None = None
        self.entry: UsageEntry | None = None
        self.fault: Fault | None = None
        self._ended = ended
        self._is_live = True
        member.in_flight += 1
        member.load = (member.in_flight + 1) * member.share

    def end(self) -> None:
        """Count the call as over. May be called again."""
        if self._is_live:
            self._is_live = False
            member = self.member
            member.in_flight -= 1
            member.load = (member.in_flight + 1) * member.share
            self._ended(self)
