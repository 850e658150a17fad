"""What one call may still try after a fault. Must not know which accounts are well, nor make a call."""

from collections.abc import Callable

from app.upstream.account import Account, upstream_name
from app.upstream.faults import Fault

# Of one call: each of them ends in a try that may meet a limit again.
_MOST_WAITS = 4
# Other accounts that a call is sent to which is larger than the limit of one: the keys of a pool often share theirs.
_MOST_LARGER = 3


class Failover:
    """One call's.

    An account that is out (its key, its quota, its rate, its model) costs nothing, and one that cannot be reached has
    done nothing. One whose whole limit is smaller than the request leaves a few others, whose limit may be larger, and
    is not waited for. A fault of this machine ends the call, as every other account would meet it; one of its name
    resolution leaves the upstreams of other names. Where upstream says itself that it failed, nothing was generated,
    and each other account may be asked. After silence upstream may have done the work (RFC 9110 9.2.2): it is asked
    once more, in all. Where that silence is a kept connection that was closed, the same account is asked on a new one,
    at nobody's cost: it is the usual end of such a connection. Otherwise another account is. What a server failed at is
    paid for by the retry budget, which is for outages.

    Invariant: one call is generated twice at the most. `costly` is the fault after which it may have been.
    """

    def __init__(self, *, is_background: bool) -> None:
        self._is_background = is_background
        self.tried: set[str] = set()
        self.lacking: list[tuple[Account, str]] = []
        self.again: Account | None = None
        self.costly: Fault | None = None
        self._waits_left = 0 if is_background else _MOST_WAITS
        self._larger_left = _MOST_LARGER
        self.is_paid = False

    def wait(self) -> bool:
        """Whether the call may wait for an account to come back, once more."""
        self._waits_left -= 1
        return self._waits_left >= 0

    def allows(self, fault: Fault, account: Account, present: Callable[[], list[Account]]) -> bool:
        """Whether another account may be tried after this fault, or `again` the same one; and if that `is_paid` for."""
        self.again = None
        self.is_paid = fault.blame in {"server", "content"} and not fault.is_stale
        if self.is_paid:
            self._waits_left = 0
        self.tried.add(account.name)
        match fault.blame:
            case "machine":
                return False
            case "unreachable" | "resolver":
                # Its other keys lead to the same place.
                self._waits_left = 0
                upstream = upstream_name(account.name)
                self.tried.update(other.name for other in present() if upstream_name(other.name) == upstream)
            case "size":
                self._waits_left = 0
                self.tried.update(other.name for other in present() if _share_limit(other, account))
                self._larger_left -= 1
                return self._larger_left >= 0
            case "model":
                self.lacking.append((account, fault.reason))
            case "server" if not fault.is_told:
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
