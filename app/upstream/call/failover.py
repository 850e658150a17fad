"""Decide what one call may still try after a fault: another account, the same one again, or nothing."""

from collections.abc import Callable

from app.upstream.account import Account, upstream_name
from app.upstream.faults.classification import Fault
from app.upstream.pool.selection import PoolRequest

# Waits of one call: each ends in an attempt that may meet a limit again.
_MOST_WAITS = 4
# Further accounts for a call that is larger than the limit of one: the keys of a pool often share their limit.
_MOST_LARGER = 3


class Failover:
    """Track what one call has tried, and which accounts its faults leave.

    An upstream that cannot be asked this costs nothing and is not asked, with any of its keys: from then on the call is
    one for the others alone, and `last` is the latest fault of theirs. An
    account that is out (its key, its quota, its rate, its model) costs nothing, and an unreachable one has done no
    work. When the whole limit of an account is smaller than the request, a few others, whose limits may be larger, are
    tried without waiting. A fault of this machine ends the call, as every other account would meet it; a fault of name
    resolution leaves the upstreams of other names. Where upstream itself reports that it failed, nothing was
    generated, and each other account may be asked. After silence upstream may have done the work (RFC 9110 9.2.2): the
    call is sent once more, in all. Where a kept connection was closed without an answer, the same account is asked on
    a new one, at no cost: that is the usual end of such a connection. Otherwise another account is asked. A retry
    after a server's failure is paid for by the retry budget, which is for outages.

    Invariant: one call is generated twice at the most. `costly` is the fault after which it may have been.
    """

    def __init__(self, request: PoolRequest, *, is_background: bool) -> None:
        self.request = request
        self.last: Fault | None = None
        self._is_background = is_background
        self.tried: set[str] = set()
        self.lacking: list[tuple[Account, str]] = []
        self.again: Account | None = None
        self.costly: Fault | None = None
        self._waits_left = 0 if is_background else _MOST_WAITS
        self._larger_left = _MOST_LARGER
        self.is_paid = False

    def wait(self) -> bool:
        """Take one wait for an account to come back; return whether the call may."""
        self._waits_left -= 1
        return self._waits_left >= 0

    def allows(self, fault: Fault, account: Account, present: Callable[[], list[Account]]) -> bool:
        """Return whether another account may be tried, or `again` the same one; set whether the try `is_paid` for."""
        self.again = None
        self.is_paid = fault.blame in {"server", "content"} and not fault.is_stale
        if self.is_paid:
            self._waits_left = 0
        self.tried.add(account.name)
        if fault.blame != "unfit":
            self.last = fault
        match fault.blame:
            case "machine":
                return False
            case "unreachable" | "resolver":
                # The upstream's other keys lead to the same place.
                self._waits_left = 0
                upstream = upstream_name(account.name)
                self.tried.update(other.name for other in present() if upstream_name(other.name) == upstream)
            case "size":
                self._waits_left = 0
                self.tried.update(other.name for other in present() if _share_limit(other, account))
                self._larger_left -= 1
                return self._larger_left >= 0
            case "unfit":
                self.request = self.request.without(account.upstream.name)
                return self.request.only is None
            case "model":
                self.lacking.append((account, fault.reason))
            case "server" if not fault.is_reported:
                return self._allows_one_more(fault, account)
        return True

    def _allows_one_more(self, fault: Fault, account: Account) -> bool:
        if self.costly is not None or (self._is_background and fault.is_timeout):
            return False
        self.costly = fault
        if fault.is_stale:
            self.again = account
        return True


def _share_limit(one: Account, other: Account) -> bool:
    groups = [account.key.quota_group for account in (one, other) if account.key is not None]
    return len(groups) > 1 and groups[0] is not None and groups[0] == groups[1]
